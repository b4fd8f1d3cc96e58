"""Models as `save_pretrained` writes them give what transformers itself gives; no code of theirs runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_transforms import photo
from typer.testing import CliRunner

transformers = pytest.importorskip("transformers")

from cli.app import app  # noqa: E402
from features.backbone import load  # noqa: E402
from features.errors import InputError, first_line  # noqa: E402
from features.extraction.capture import capture  # noqa: E402
from features.images import preprocess  # noqa: E402

SIZE = {"height": 32, "width": 32}
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 32,
    "patch_size": 8,
}


def vit() -> tuple[Any, Any]:
    return transformers.ViTConfig(**VIT), transformers.ViTImageProcessorPil(size=SIZE)


def dinov2() -> tuple[Any, Any]:
    shape = VIT | {"use_swiglu_ffn": True}  # two matrices in one tensor of the file
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=SIZE)
    return transformers.Dinov2WithRegistersConfig(**shape), processor


def convnext() -> tuple[Any, Any]:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 8, 12, 16], depths=[1, 1, 2, 1])
    return config, transformers.ConvNextImageProcessorPil(size={"shortest_edge": 64})


def swin() -> tuple[Any, Any]:
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4
    )
    return config, transformers.ViTImageProcessorPil(size=SIZE)


def clip() -> tuple[Any, Any]:
    words = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
    config = transformers.CLIPConfig(
        vision_config=VIT, text_config=words | {"intermediate_size": 16}, projection_dim=12
    )
    return config, transformers.CLIPImageProcessorPil(size={"shortest_edge": 36}, crop_size=SIZE)


FAMILIES = (vit, dinov2, convnext, swin, clip)


def saved(folder: Path, family: Callable[[], Any]) -> Path:
    config, processor = family()
    torch.manual_seed(3)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def reference(folder: Path, image: Any) -> dict[str, torch.Tensor]:
    """What the library gives of one image: hidden states from first to last, and the pooled output."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    pixels = processor(image, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        if hasattr(model, "vision_model"):
            given = model.vision_model(pixels, output_hidden_states=True)
            embedded = model.get_image_features(pixels)
            pooled = getattr(embedded, "pooler_output", embedded)
        else:
            given = model(pixels, output_hidden_states=True)
            pooled = given.get("pooler_output")
    states = {f"hidden {i}": state for i, state in enumerate(given["hidden_states"])}
    last = {"last": given["last_hidden_state"]} | ({} if pooled is None else {"pooled": pooled})
    return {"pixels": pixels} | states | last


# By family, our layer for each of the library's hidden states.
LAYERS = {
    "vit": {
        "embeddings": "hidden 0",
        "layers.0": "hidden 1",
        "layers.1": "hidden 2",
        "layernorm": "last",
        "pooler.activation": "pooled",
    },
    "dinov2": {
        "embeddings": "hidden 0",
        "encoder.layer.0": "hidden 1",
        "encoder.layer.1": "hidden 2",
        "layernorm": "last",
    },
    "convnext": {
        "embeddings": "hidden 0",
        "encoder.stages.0.layers.0": "hidden 1",
        "encoder.stages.2.layers.1": "hidden 3",
        "encoder.stages.3.layers.0": "last",
        "layernorm": "pooled",
    },
    "swin": {
        "embeddings": "hidden 0",
        "encoder.layers.1.blocks.0": "hidden 2",
        "layernorm": "last",
        "pooler": "pooled",
    },
    "clip": {
        "vision_model.pre_layrnorm": "hidden 0",
        "vision_model.encoder.layers.0": "hidden 1",
        "vision_model.encoder.layers.1": "hidden 2",
        "visual_projection": "pooled",
    },
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda made: made.__name__)
def test_layers_of_an_image_are_those_of_the_library(
    tmp_path: Path, family: Callable[[], Any]
) -> None:
    folder = saved(tmp_path / "model", family)
    backbone = load(f"hf:{folder}")
    assert backbone.name == "hf:model"
    assert set(LAYERS[family.__name__]) <= set(backbone.architecture.default)
    layers = backbone.layers(tuple(LAYERS[family.__name__]))
    for image in (photo(90, 60), photo(50, 110)):
        theirs = reference(folder, image)
        wanted = backbone.architecture.input
        pixels = torch.from_numpy(preprocess.to_pixels(image, wanted).copy())[None]
        x = preprocess.normalise(pixels, wanted)
        torch.testing.assert_close(x, theirs["pixels"], rtol=0, atol=1e-4)
        with capture(backbone.model, layers, backbone.architecture.traced) as run:
            ours = run(x)
        for layer, state in LAYERS[family.__name__].items():
            expected = theirs[state].reshape(ours[layer].shape)
            torch.testing.assert_close(ours[layer], expected, rtol=1e-4, atol=1e-4)


def test_what_was_saved_with_a_classifier_has_the_pooler_that_it_was_trained_with(
    tmp_path: Path,
) -> None:
    config, processor = vit()
    torch.manual_seed(3)
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    backbone = load(f"hf:{tmp_path}")
    assert not any("pooler" in layer.name for layer in backbone.layers())
    ours, theirs = backbone.model.state_dict(), model.vit.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_model_in_the_cache_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    cached = tmp_path / "models--org--name"
    saved(cached / "snapshots" / ("a" * 40), vit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("PROBE_OFFLINE", "1")
    assert load("hf:org/name").name == "hf:org/name"
    with pytest.raises(InputError, match=r"^hf:org/other: is not in the cache .* PROBE_OFFLINE"):
        load("hf:org/other")


def test_what_a_folder_lacks_is_said(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole", vit)

    def without(*names: str) -> Path:
        folder = tmp_path / "-".join(names)
        shutil.copytree(whole, folder)
        for name in names:
            (folder / name).unlink()
        return folder

    weightless = without("model.safetensors")
    with pytest.raises(InputError, match=r"has no weights \(model\.safetensors\); save the model"):
        load(f"hf:{weightless}")
    assert load(f"hf:{weightless}", "random").name == "hf:model.safetensors@random"
    (weightless / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(InputError, match=r"has pytorch_model\.bin and no model\.safetensors"):
        load(f"hf:{weightless}")
    with pytest.raises(
        InputError, match=r"has no preprocessor_config\.json, which says how images"
    ):
        load(f"hf:{without('preprocessor_config.json')}")
    with pytest.raises(
        InputError, match=r"has no config\.json, so it is of neither transformers nor"
    ):
        load(f"hf:{without('config.json')}")
    with pytest.raises(
        InputError, match=r"there is no folder .*; give one that save_pretrained wrote"
    ):
        load(f"hf:{tmp_path / 'nowhere'}")


def test_code_in_a_folder_never_runs(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", vit)
    ran = tmp_path / "ran"
    for name in ("configuration_own.py", "modeling_own.py"):
        (folder / name).write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
    settings = json.loads((folder / "config.json").read_text())
    settings |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "configuration_own.Own", "AutoModel": "modeling_own.Own"},
    }
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(
        InputError, match="needs code of its own, which is not run; use a model that"
    ):
        load(f"hf:{folder}")
    assert not ran.exists()


@pytest.mark.parametrize(
    ("file", "told"),
    [("config.json", "16 MB"), ("preprocessor_config.json", "16 MB"), ("", "10,000,000 layers")],
)
def test_what_would_take_all_memory_is_refused(tmp_path: Path, file: str, told: str) -> None:
    folder = saved(tmp_path / "model", vit)
    if file:
        os.truncate(folder / file, 1 << 40)
    else:
        settings = json.loads((folder / "config.json").read_text())
        settings["num_hidden_layers"] = 10_000_000
        (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=told):
        load(f"hf:{folder}")


def test_an_error_without_words_is_told_by_its_kind() -> None:
    assert first_line(MemoryError()) == "MemoryError"
    assert first_line(ValueError("\n a\nb")) == "a"
    assert first_line(ValueError("abc"), 2) == "ab"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_mean", [0.5]), ("image_mean", "x"), ("image_std", [0.5, 0.5, None]),
        ("image_std", [0, 0, 0]), ("rescale_factor", "nan"), ("rescale_factor", 0),
        ("size", {"height": 10**6, "width": 10**6}),
    ],
)  # fmt: skip
def test_a_processor_of_numbers_that_prepare_no_image(
    tmp_path: Path, key: str, value: object
) -> None:
    folder = saved(tmp_path / "model", vit)
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(InputError, match="that no image can be prepared with"):
        load(f"hf:{folder}")


def test_a_processor_that_does_more_is_not_guessed(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", vit)
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"resample": 1}))
    with pytest.raises(InputError, match=r"\(ViTImageProcessorPil\) does more than resize, crop"):
        load(f"hf:{folder}")


def test_the_file_of_a_study_names_the_folder_of_what_was_tuned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result has only the last part of it."""
    monkeypatch.chdir(tmp_path)
    folder = saved(tmp_path / "far" / "model", vit)
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 40)).save(tmp_path / f"{i}.png")
    lines = ["path,label", *(f"{i}.png,{'ab'[i % 2]}" for i in range(12))]
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    tuned = f"finetune --backbone hf:{folder} --folds 2 --epochs 1 --patience 0 --view center"
    for words in (f"extract --data data.csv --backbone hf:{folder} --layer layers.0", tuned):
        done = CliRunner().invoke(app, words.split())
        assert done.exit_code == 0, done.stderr
    done = CliRunner().invoke(app, ["run", "it.toml", "--from-study", "study"])
    assert done.exit_code == 0, done.stderr
    assert "note" not in done.stderr
    assert (tmp_path / "it.toml").read_text().count(f'"hf:{folder}"') == 2
    done = CliRunner().invoke(app, ["run", "it.toml", "--plan"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count(" 0 images to do") + done.stdout.count(" 0 results to do") == 2
    (tmp_path / "study" / "features" / "hf_model.h5").unlink()
    (tmp_path / "it.toml").unlink()
    done = CliRunner().invoke(app, ["run", "it.toml", "--from-study", "study"])
    assert "hf:model: where its folder lies is not told; write its path" in done.stderr
