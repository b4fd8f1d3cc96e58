import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor
from toys import write_images
from typer.testing import CliRunner

from cli.app import app
from features import weights as weights_files
from features.backbone import Backbone, load, target_of
from features.cards.card import WeightsEntry
from features.cards.reading import find, shipped
from features.errors import InputError
from features.extraction.provenance import seen_in_training
from features.formats.blobs import Blobs
from features.weights.assign import assign

pytestmark = pytest.mark.usefixtures("svg_alone")

TinyCard = Callable[..., Path]


def state(seed: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shapes = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "fc.weight": (5, 64), "fc.bias": (5,)}
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def assert_loaded(backbone: Backbone, expected: Mapping[str, Tensor]) -> None:
    held = backbone.model.state_dict()
    assert set(held) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(held[name], tensor)


def sentence(message: str, file: Path) -> str:
    """What an error says of `file`, once it is seen to be one sentence that says what to do."""
    assert message.startswith(f"{file}: "), message
    rest = message.removeprefix(f"{file}: ")
    assert "\n" not in rest
    assert rest.endswith(".")
    assert not re.search(r"[.!?] +[A-Z]", rest), rest
    assert "; " in rest
    return rest


def refusal(card: Path, file: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(str(card), str(file))
    return sentence(str(caught.value), file)


CONTAINERS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"epoch": 3, "state_dict": s, "best": 0.5},
    "net_state_dict": lambda s: {"net_state_dict": s, "optimizer": {"state": {}}},
    "module": lambda s: {f"module.{k}": v for k, v in s.items()},
    "both": lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
    "layer names": lambda s: {k.replace("fc.", "fc6."): v for k, v in s.items()},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("container", [c for c in CONTAINERS if c != "layer names"])
def test_pytorch_files_of_every_make_load_the_same(
    tiny_card: TinyCard, tmp_path: Path, container: str, legacy: bool
) -> None:
    file = tmp_path / "given.pth"
    wrapped = CONTAINERS[container](state(7))
    torch.save(wrapped, file, _use_new_zipfile_serialization=not legacy)
    assert_loaded(load(str(tiny_card()), str(file)), state(7))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors_load_the_same(tiny_card: TinyCard, tmp_path: Path, prefix: str) -> None:
    file = tmp_path / "given.anything"  # told from the bytes, not from the name
    save_file({prefix + k: v for k, v in state(7).items()}, file)
    assert_loaded(load(str(tiny_card()), str(file)), state(7))


def test_blobs_named_by_the_cards_layers_load(tiny_card: TinyCard, tmp_path: Path) -> None:
    card = tiny_card('fc = "fc"', 'fc6 = "fc"', 'conv = "conv"\nact = "relu"', 'conv1 = "relu"')
    file = tmp_path / "named.pth"
    names = {"conv.": "conv1.", "fc.": "fc6."}
    blobs = {}
    for name, tensor in state(7).items():
        start, kind = name.split(".")
        blobs[names[start + "."] + kind] = tensor
    torch.save(blobs, file)
    assert set(blobs) == {"conv1.weight", "conv1.bias", "fc6.weight", "fc6.bias"}
    assert_loaded(load(str(card), str(file)), state(7))


def test_vggface_blobs_find_their_modules(tmp_path: Path) -> None:
    target = target_of("vggface")
    layers = [layer for layer in find("vggface").layers or () if not layer.startswith("pool")]
    wanted = target.model.state_dict()
    modules = [name.removesuffix(".weight") for name in wanted if "weight" in name]
    blobs = {
        f"{layer}.{part}": torch.full((1,), float(i)).expand(wanted[f"{module}.{part}"].shape)
        for i, (module, layer) in enumerate(zip(modules, layers, strict=True))
        for part in ("weight", "bias")
    }
    found = assign(target, Blobs("pytorch", blobs), WeightsEntry(), tmp_path / "any")
    assert not found.missing + found.mismatched + found.unused
    for i, module in enumerate(modules):
        for part in ("weight", "bias"):
            tensor = found.state[f"{module}.{part}"]
            assert tensor.flatten()[0] == tensor.flatten()[-1] == i


def test_numbers_of_another_precision_load(tiny_card: TinyCard, tmp_path: Path) -> None:
    file = tmp_path / "half.safetensors"
    save_file({k: v.half() for k, v in state(7).items()}, file)
    expected = {k: v.half().float() for k, v in state(7).items()}
    assert_loaded(load(str(tiny_card()), str(file)), expected)


def test_tensors_that_the_network_does_not_use_are_told(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    file = tmp_path / "more.pth"
    torch.save({**state(7), "head.weight": torch.ones(2), "head.bias": torch.ones(2)}, file)
    backbone = load(str(tiny_card()), str(file))
    assert backbone.unused == ("head.weight", "head.bias")
    assert_loaded(backbone, state(7))


def test_missing_and_mismatched_tensors_are_named(tiny_card: TinyCard, tmp_path: Path) -> None:
    file = tmp_path / "wrong.pth"
    tensors = state(7)
    del tensors["conv.bias"]
    tensors["fc.weight"] = torch.ones(5, 32)
    torch.save({**tensors, "head.bias": torch.ones(2)}, file)
    said = refusal(tiny_card(), file)
    assert "1 of 4 tensors are missing (conv.bias)" in said
    assert "1 have another shape (fc.weight is (5, 32) in the file and (5, 64) in the net" in said
    assert "the file has 1 others (head.bias)" in said


def test_weights_of_another_number_of_classes_are_refused(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card = tiny_card('domain = "toys"', 'domain = "toys"\noptions = { num_classes = 6 }')
    said = refusal(card, card.parent / "tiny.safetensors")
    assert "fc.weight is (5, 64) in the file and (6, 64) in the network" in said
    assert "missing" not in said
    assert "correct the card's network or options" in said


class Planted:
    """A pickle of it writes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_nothing_in_a_file_is_executed(tiny_card: TinyCard, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    card = tiny_card()
    plain, zipped, legacy = (tmp_path / name for name in ("a.pkl", "b.pth", "c.pth"))
    plain.write_bytes(pickle.dumps({"conv.weight": Planted(mark)}))
    torch.save({**state(0), "x": Planted(mark)}, zipped)
    torch.save({**state(0), "x": Planted(mark)}, legacy, _use_new_zipfile_serialization=False)
    for file in (plain, zipped, legacy):
        said = refusal(card, file)
        assert not mark.exists()
        assert said.startswith("not a PyTorch file of plain tensors")
    pickle.loads(plain.read_bytes())
    assert mark.exists()  # it would have been


def whole(tmp_path: Path, kind: str) -> bytes:
    file = tmp_path / "whole"
    if kind == "safetensors":
        return bytes(save(state(0)))
    torch.save(state(0), file, _use_new_zipfile_serialization=kind == "zip")
    return file.read_bytes()


@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_truncated_file_is_refused(
    tiny_card: TinyCard, tmp_path: Path, kind: str, part: float
) -> None:
    file = tmp_path / "cut"
    data = whole(tmp_path, kind)
    file.write_bytes(data[: int(part * len(data))])
    refusal(tiny_card(), file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\n <!DOCTYPE html><html><title>Sign in</title>", "a web page, not weights"),
        (b"<html lang=en>", "a web page, not weights"),
        (b'<?xml version="1.0"?><Error>', "a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a git-lfs pointer"),
        (b"Dear user,\nthe weights have moved.\n", "not a file of weights in any format"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "a damaged keras file"),
        (b"\xff" * 8 + b"{}", "not a file of weights in any format"),
        (b"\0", "not a file of weights in any format"),
    ],
)
def test_what_is_not_weights_is_called_what_it_is(
    tiny_card: TinyCard, tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    assert refusal(tiny_card(), file).startswith(said)


def test_a_zip_of_something_else_and_a_checkpoint_without_tensors(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    zipped, empty, whole_model = (tmp_path / name for name in ("a.zip", "b.pth", "c.pth"))
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refusal(tiny_card(), zipped)
    torch.save({"epoch": 3, "state_dict": {}}, empty)
    assert refusal(tiny_card(), empty).startswith("holds no tensors")
    torch.save(torch.nn.Linear(2, 2), whole_model)
    assert "4 of 4 tensors are missing" in refusal(tiny_card(), whole_model)


@pytest.mark.parametrize("kind", ["gone", "folder"])
def test_a_weights_path_that_is_no_file(tiny_card: TinyCard, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "w.pth"
    if kind == "folder":
        file.mkdir()
    said = {
        "gone": "there is no such weights file; ",
        "folder": "a folder with no safetensors files",
    }
    assert refusal(tiny_card(), file).startswith(said[kind])


@pytest.mark.parametrize("name", ["alexnet", "vggface", "vgg16", "torchvision:resnet18"])
def test_offline_weights_that_are_not_here_say_how_to_get_them(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load(name)
    message = str(caught.value)
    assert message.startswith(f"{name}: its weights are not here and PROBE_OFFLINE is set; ")
    assert "http" in message
    assert "--weights FILE" in message
    assert "--weights random" in message
    assert not weights_files.here(find(name))


def test_weights_that_nobody_publishes_must_be_brought(tiny_card: TinyCard) -> None:
    own = tiny_card().parent / "tiny.safetensors"
    digest = weights_files.sha256_of(own)
    card = tiny_card('path = "tiny.safetensors"', f'sha256 = "{digest}"')
    with pytest.raises(InputError, match=r"^tiny: its weights cannot be fetched: .*--weights FILE"):
        load(str(card))
    brought = load(str(card), str(own))
    assert brought.name == "tiny"
    assert brought.weights is not None
    assert brought.weights.verified


def test_a_failed_download_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_card: TinyCard
) -> None:
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PROBE_OFFLINE", "")
    gone = (tmp_path / "gone.pth").as_uri()
    card = tiny_card('path = "tiny.safetensors"', f'url = "{gone}"')
    said: list[str] = []
    with pytest.raises(InputError, match=r"could not be fetched \(.*--weights FILE"):
        load(str(card), announce=said.append)
    assert len(said) == 1
    assert said[0].startswith(f"fetching {gone} (licence: not stated) to {tmp_path / 'home'}")
    assert not [path for path in (tmp_path / "home" / "weights").rglob("*") if path.is_file()]


def test_weights_are_fetched_once_and_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_card: TinyCard
) -> None:
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PROBE_OFFLINE", "0")
    source = tiny_card().parent / "tiny.safetensors"
    digest = weights_files.sha256_of(source)
    old = 'path = "tiny.safetensors"'
    url = f'url = "{source.as_uri()}"'
    wrong = tiny_card(old, f'{url}\nsha256 = "{digest[::-1]}"')
    with pytest.raises(InputError, match="its checksum is not the published one"):
        load(str(wrong))
    assert not [path for path in (tmp_path / "home" / "weights").rglob("*") if path.is_file()]
    card = tiny_card(old, f'{url}\nsha256 = "{digest}"')
    backbone = load(str(card))
    assert_loaded(backbone, load_file(source))
    assert backbone.weights is not None
    assert backbone.weights.verified
    source.unlink()
    assert load(str(card)).name == "tiny"
    backbone.weights.path.write_bytes(b"changed")
    with pytest.raises(InputError, match="its checksum differs"):
        load(str(card))


def test_two_cards_with_files_of_one_name_do_not_share_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_card: TinyCard
) -> None:
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PROBE_OFFLINE", "0")
    loaded = []
    for number in (1, 2):
        (tmp_path / f"server{number}").mkdir()
        file = tmp_path / f"server{number}" / "model.safetensors"
        save_file(state(number), file)
        card = tiny_card('path = "tiny.safetensors"', f'url = "{file.as_uri()}"')
        loaded.append(load(str(card)).model.state_dict()["fc.bias"])
    assert torch.equal(loaded[0], state(1)["fc.bias"])
    assert torch.equal(loaded[1], state(2)["fc.bias"])


@pytest.mark.parametrize(
    ("source", "warned"),
    [
        ("adience:/data/faces", True),
        ("/data/Adience/gender.csv", True),
        ("/data/faces/adience_aligned.tsv", True),
        ("utkface:/data/x", False),
        ("/data/audience/x.csv", False),
        ("sample", False),
    ],
)
def test_weights_that_saw_the_studys_own_data_are_known(
    source: str, warned: bool, tiny_card: TinyCard
) -> None:
    card = tiny_card('domain = "toys"', 'domain = "toys"\ntrained_on = ["imagenet", "Adience"]')
    assert seen_in_training(load(str(card)), source) == ["Adience"] * warned
    assert seen_in_training(load(str(card), "random"), source) == []


@pytest.mark.parametrize(
    ("source", "warned"),
    [
        ("/data/faces.csv", True),
        ("/data/Faces/gender.csv", True),
        ("/data/my-faces.csv", False),
        ("lfw:/data/all_faces_2?faces=x", False),
        ("/data/surfaces/x.csv", False),
    ],
)
def test_a_name_of_no_known_data_set_is_met_as_a_whole(
    source: str, warned: bool, tiny_card: TinyCard
) -> None:
    card = tiny_card('domain = "toys"', 'domain = "toys"\ntrained_on = ["faces"]')
    assert seen_in_training(load(str(card)), source) == ["faces"] * warned


def test_own_weights_take_neither_domain_nor_licence_of_the_librarys(tmp_path: Path) -> None:
    """What torchvision says is of its own weights; a card says it of weights that are used with it."""
    name = "torchvision:squeezenet1_1"
    drawn = load(name, "random")
    file = tmp_path / "mine.pth"
    torch.save(drawn.model.state_dict(), file)
    own = load(name, str(file))
    assert (own.name, own.domain) == (f"{name}@mine", "unknown")
    assert own.architecture.card.licence is None
    (said,) = [note for note in own.notes if "its licence" in note]
    assert 'write mine.toml with name = "mine", domain = "..."' in said
    assert drawn.architecture.card.licence == "BSD-3-Clause (torchvision)"
    card = tmp_path / "mine.toml"
    card.write_text(f'name = "mine"\ndomain = "faces"\nnetwork = "{name}"\n')
    told = load(str(card), str(file))
    assert (told.name, told.domain, told.architecture.card.licence) == ("mine@mine", "faces", None)
    assert not [note for note in told.notes if "licence" in note]


def test_a_network_trained_on_the_study_itself_is_known_by_its_source(tiny_card: TinyCard) -> None:
    card = tiny_card('domain = "toys"', 'domain = "toys"\ntrained_on = ["/data/my faces.csv"]')
    assert seen_in_training(load(str(card)), "/data/my faces.csv") == ["/data/my faces.csv"]
    assert seen_in_training(load(str(card)), "/data/other.csv") == []


def test_every_command_that_uses_such_weights_warns(tiny_card: TinyCard, tmp_path: Path) -> None:
    card = tiny_card('domain = "toys"', 'domain = "toys"\ntrained_on = ["adience"]')
    data = write_images(tmp_path / "adience", 40)
    study = ("--study", str(tmp_path / "study"))
    said = []
    for words in (
        ("extract", "--data", str(data), "--backbone", str(card), "--layer", "fc", *study),
        ("fit", "--probe", "ridge", *study),
        ("report", *study),
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        said.append(" ".join(result.stderr.split()))
    page = (tmp_path / "study" / "report" / "index.html").read_text()
    for text in (*said, page):
        assert "he weights of tiny were trained on adience, which seems to be this study" in text


def test_bundled_weights_are_here_and_verified() -> None:
    assert os.environ["PROBE_OFFLINE"] == "1"
    for name in ("sample-faces", "sample-objects"):
        assert weights_files.here(shipped()[name])
        backbone = load(name)
        assert backbone.weights is not None
        assert (backbone.name, backbone.weights.verified, backbone.unused) == (name, True, ())
