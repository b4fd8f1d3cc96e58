"""Folders that timm wrote are read as its own network with their options, preprocessing and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from features.backbone import load
from features.cards.reading import find
from features.errors import InputError

timm = pytest.importorskip("timm")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Any]:
    torch.manual_seed(3)
    model = timm.create_model("test_vit", num_classes=7, class_token=True)
    folder = tmp_path / "mine"
    timm.models.save_for_hf(
        model,
        folder,
        model_args={"qkv_bias": True},
        data_config={"mean": (0.1, 0.2, 0.3), "crop_pct": 0.8},
        safe_serialization=True,
    )
    return folder, model


def test_a_folder_gives_its_network_weights_and_preprocessing(saved: tuple[Path, Any]) -> None:
    folder, model = saved
    backbone = load(f"timm:local-dir:{folder}")
    assert (backbone.name, backbone.domain) == ("timm:local-dir:mine", "unknown")
    card = backbone.architecture.card
    assert card.network == "timm:test_vit"
    assert card.options["num_classes"] == 7
    assert card.options["qkv_bias"] is True
    state = backbone.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    wanted = backbone.architecture.input
    assert (wanted.size, wanted.resize, wanted.mean) == ((160, 160), 200, (0.1, 0.2, 0.3))
    assert "blocks.0" in [layer.name for layer in backbone.layers(())]


def test_the_cache_is_read_as_a_folder_is(
    saved: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = saved
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    card = find("timm:hf-hub:me/mine")
    assert card == find("timm:hf_hub:me/mine")
    assert card.weights[0].path == str(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    [entry] = find("timm:hf-hub:me/mine").weights
    assert entry.url == "https://huggingface.co/me/mine/resolve/main/model.safetensors"


def test_folders_that_are_not_of_timm_are_told(saved: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = saved
    named = f"timm:local-dir:{folder}"
    config = json.loads((folder / "config.json").read_text())

    def told(written: object) -> str:
        text = written if isinstance(written, str) else json.dumps(written)
        (folder / "config.json").write_text(text)
        with pytest.raises(InputError) as error:
            load(named, "random")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "is no JSON file" in told("{")
    assert "names no network of timm (architecture); give hf:" in told({"model_type": "vit"})
    assert "names no network of timm" in told([])
    assert "timm has no model nets" in told(config | {"architecture": "nets"})
    harmful = config | {"model_args": {"checkpoint_path": "x.pth"}}
    assert "the option checkpoint_path loads weights or files by itself" in told(harmful)
    for wrong in ((0.0, 1, 1), 5, ("a", 1, 1)):
        harmful = config | {"pretrained_cfg": config["pretrained_cfg"] | {"std": wrong}}
        assert "does not say how images are prepared (" in told(harmful)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"has no config\.json, so it is of neither"):
        load(named)
    with pytest.raises(InputError, match=r"there is no folder .*none; give one that timm wrote"):
        load(f"timm:local-dir:{tmp_path}/none")


def test_open_clip_is_told_where_its_networks_are() -> None:
    with pytest.raises(
        InputError, match=r"timm:vit_base_patch32_clip_224\.openai; write one"
    ) as told:
        find("openclip:ViT-B-32")
    assert "vit_base_patch32_clip_224.openai" in timm.list_models(pretrained=True)
    assert "\n" not in str(told.value)


def test_a_folder_without_weights_is_told(saved: tuple[Path, Any]) -> None:
    folder, _ = saved
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load(f"timm:local-dir:{folder}")


def test_a_study_of_a_folder_written_as_a_file_is_made_again(
    saved: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, _ = saved
    for n in range(4):
        (tmp_path / "images" / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (n, 0, 0)).save(tmp_path / f"images/{'ab'[n % 2]}/{n}.png")
    file, study = str(tmp_path / "study.toml"), str(tmp_path / "study")
    for code, words in (
        (0, ["extract", "--study", study, "--data", str(tmp_path / "images"), "--backbone",
         f"timm:local-dir:{folder}", "--layer", "last"]),
        (0, ["run", file, "--from-study", study]),
        (3, ["run", file, "--study", f"{study} again"]),  # whose report has nothing to show
    ):  # fmt: skip
        done = CliRunner().invoke(app, words)
        assert done.exit_code == code, done.output
        assert "its card is a file of yours" not in done.output
    assert f'backbone = ["timm:local-dir:{folder}"]' in Path(file).read_text()
    [made], [again] = (list(Path(s, "features").glob("*.h5")) for s in (study, f"{study} again"))
    assert made.name == again.name
