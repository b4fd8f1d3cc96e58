"""Weights as trainers write them: prefixes, copies side by side, and tensors that no layer reads."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_weights import sentence
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet
from toys import write_images
from typer.testing import CliRunner

from cli.app import app
from features.backbone import Backbone, choose, describe, load
from features.cards.network import build
from features.errors import InputError
from features.store.featurefile import FeatureFile
from features.weights.needed import read_up_to
from features.weights.parts import parts_of, without_wrappers

Tensors = dict[str, Tensor]
TinyCard = Callable[..., Path]
NETWORK = """
from torchvision.models.resnet import BasicBlock, ResNet


def build(num_classes=1000):
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes)
"""
CARD = """name = "small"
domain = "objects"
network = "./small.py:build"

[input]
size = [64, 64]

[layers]
early = "layer1.0.relu"
next = "layer2.0.relu"
deep = "layer4.0.relu"
fc = "fc"
"""


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A residual network as torchvision has it, of four blocks."""
    folder = tmp_path_factory.mktemp("card")
    (folder / "small.py").write_text(NETWORK)
    (folder / "small.toml").write_text(CARD)
    return folder / "small.toml"


@cache
def plain() -> Tensors:
    """The network's tensors, the statistics of its norms not those that it begins with."""
    torch.manual_seed(3)
    state = ResNet(BasicBlock, [1, 1, 1, 1]).state_dict()
    chance = torch.Generator().manual_seed(4)
    for name, tensor in state.items():
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(torch.rand(tensor.shape, generator=chance) + 0.5)
    return dict(state)


def headless() -> Tensors:
    return {name: tensor for name, tensor in plain().items() if not name.startswith("fc.")}


def five() -> Tensors:
    return {**headless(), "fc.weight": torch.ones(5, 512), "fc.bias": torch.ones(5)}


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def compiled_inside(tensors: Tensors) -> Tensors:
    return {n.replace("layer1.0.", "layer1._orig_mod.0."): t for n, t in tensors.items()}


WRAPPINGS: dict[str, Callable[[], Any]] = {
    "module.": lambda: under("module.", plain()),
    "five classes": five,
    "no head": headless,
    "_orig_mod.": lambda: under("_orig_mod.", plain()),
    "model.": lambda: under("model.", plain()),
    "state_dict of model.net.": lambda: {"state_dict": under("model.net.", plain()), "epoch": 3},
    "encoder_q": lambda: {"state_dict": under("module.encoder_q.", headless())},
    "teacher": lambda: {"teacher": under("module.backbone.", headless())},
    "state_dict of backbone.": lambda: {"state_dict": under("backbone.", plain())},
    "visual.trunk.": lambda: under("visual.trunk.", plain()),
    "checkpoint > model": lambda: {"checkpoint": {"model": under("module.model.", plain())}},
    "arguments beside it": lambda: {"model": plain(), "args": argparse.Namespace(lr=0.1)},
    "an optimiser beside it": lambda: {
        "net": plain(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
    },
    "compiled inside": lambda: under("_orig_mod.", compiled_inside(plain())),
}


def features_of(backbone: Backbone) -> Tensor:
    """What the deepest layer makes of two images."""
    seen: list[Tensor] = []
    module = backbone.model.get_submodule("layer4")
    module.register_forward_hook(lambda _module, _given, output: seen.append(output.clone()))
    with torch.no_grad():
        backbone.model(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5)))
    return seen[-1]


def loaded(card: Path, file: Path, part: str = "", layer: str = "deep") -> Backbone:
    return load(str(card), f"{file}{part}", layers=lambda _, found: choose(found, (layer,)))


@pytest.fixture(scope="module")
def expected(card: Path, tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    file = tmp_path_factory.mktemp("plain") / "plain.pth"
    torch.save(plain(), file)
    backbone = loaded(card, file)
    assert not backbone.notes
    assert not backbone.left
    return features_of(backbone)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrapped_weights_give_the_features_of_the_plain_file_to_the_bit(
    wrapping: str, card: Path, tmp_path: Path, expected: Tensor
) -> None:
    file = tmp_path / "given.pth"
    torch.save(WRAPPINGS[wrapping](), file)
    backbone = loaded(card, file)
    assert torch.equal(features_of(backbone), expected)
    assert backbone.notes
    assert all("given.pth: " in note for note in backbone.notes)


def test_what_is_not_needed_is_said_and_what_is_needed_is_refused(
    card: Path, tmp_path: Path
) -> None:
    file = tmp_path / "five.pth"
    torch.save(five(), file)
    [note] = loaded(card, file).notes
    assert note.startswith("five.pth: 2 tensors above deep are not needed and not loaded (")
    assert "fc.weight is (5, 512) in the file and (1000, 512) in the network" in note
    for layers in ((lambda _, found: choose(found, ("fc",))), None):
        with pytest.raises(InputError) as caught:
            load(str(card), str(file), layers=layers)
        assert "2 have another shape (fc.weight is (5, 512)" in sentence(str(caught.value), file)
    early = {name: tensor for name, tensor in plain().items() if name < "layer2"}
    torch.save(early, file)
    assert len(loaded(card, file, layer="early").left) > 30
    with pytest.raises(InputError, match="tensors are missing"):
        loaded(card, file, layer="next")


def test_of_several_networks_the_user_chooses(card: Path, tmp_path: Path, expected: Tensor) -> None:
    file = tmp_path / "two.pth"
    other = {name: tensor + 1 for name, tensor in headless().items()}
    torch.save(
        {
            "student": under("module.backbone.", other),
            "teacher": under("module.backbone.", headless()),
        },
        file,
    )
    with pytest.raises(InputError) as caught:
        loaded(card, file)
    said = sentence(str(caught.value), file)
    assert "2 networks that fit (student.module.backbone, teacher.module.backbone)" in said
    assert "--weights FILE#" in said
    assert 'key = "' in said
    for part in ("teacher.module.backbone", "teacher.backbone", "teacher"):
        backbone = loaded(card, file, f"#{part}")
        assert torch.equal(features_of(backbone), expected)
        assert backbone.name == f"small@two#{part}"
    assert not torch.equal(features_of(loaded(card, file, "#student")), expected)
    with pytest.raises(InputError) as caught:
        loaded(card, file, "#ema")
    said = sentence(str(caught.value), file)
    assert said.startswith(
        "has no network at ema; networks that fit are at student.module.backbone, "
    )
    with pytest.raises(InputError, match="2 networks that fit"):
        loaded(card, file, "#backbone")


def test_a_moving_average_beside_the_weights_is_asked_for(
    card: Path, tmp_path: Path, expected: Tensor
) -> None:
    file = tmp_path / "ema.pth"
    other = {name: tensor + 1 for name, tensor in plain().items()}
    torch.save({"state_dict": plain(), "state_dict_ema": other}, file)
    with pytest.raises(InputError, match=r"2 networks that fit \(state_dict, state_dict_ema\)"):
        loaded(card, file)
    assert torch.equal(features_of(loaded(card, file, "#state_dict")), expected)
    torch.save({**plain(), **under("ema.", other)}, file)
    with pytest.raises(InputError, match=r"2 networks that fit \(\., ema\)"):
        loaded(card, file)
    assert torch.equal(features_of(loaded(card, file, "#.")), expected)
    torch.save({"state_dict": plain(), "state_dict_ema": dict(plain())}, file)
    backbone = loaded(card, file)
    assert torch.equal(features_of(backbone), expected)
    assert "ema.pth: holds the same tensors at state_dict, state_dict_ema" in backbone.notes


def test_a_card_may_say_which(tiny_card: TinyCard, tmp_path: Path) -> None:
    card = tiny_card('path = "tiny.safetensors"', 'path = "two.pth"\nkey = "ema"')
    state = {n: t.detach() for n, t in build(describe(str(card)).card, seed=1).state_dict().items()}
    other = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"net": other, "ema": state}, card.parent / "two.pth")
    backbone = load(str(card))
    assert backbone.name == "tiny"
    assert torch.equal(backbone.model.state_dict()["fc.bias"], state["fc.bias"])
    assert backbone.weights is not None
    assert backbone.weights.identity == f"{backbone.weights.sha256}#ema"
    backbone = load(str(card), f"{card.parent / 'two.pth'}#net")
    assert backbone.name == "tiny@two#net"
    assert torch.equal(backbone.model.state_dict()["fc.bias"], other["fc.bias"])


def test_a_part_may_be_brought_in(
    tiny_card: TinyCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "home"))
    card = tiny_card('\n[[weights]]\npath = "tiny.safetensors"\n', "")
    state = {n: t.detach() for n, t in build(describe(str(card)).card, seed=1).state_dict().items()}
    other = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"net": other, "ema": state}, tmp_path / "two.pth")

    def add(part: str, code: int = 0) -> str:
        words = ["weights", "add", str(card), f"{tmp_path / 'two.pth'}{part}"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == code, result.output
        return " ".join(result.stderr.split())

    assert "holds 2 networks that fit (net, ema)" in add("", code=3)
    assert "two.pth: the tensors are read from ema" in add("#ema")
    backbone = load(str(card))
    assert backbone.name == "tiny@two#ema"
    assert torch.equal(backbone.model.state_dict()["fc.bias"], state["fc.bias"])
    assert backbone.weights is not None
    assert backbone.weights.identity.endswith("#ema")
    assert "here already" in add("#ema")
    assert "another file or part is kept" in add("#net", code=3)


def test_a_file_with_a_hash_in_its_name_is_a_file(tiny_card: TinyCard, tmp_path: Path) -> None:
    card = tiny_card()
    file = tmp_path / "a#b.safetensors"
    file.write_bytes((card.parent / "tiny.safetensors").read_bytes())
    assert load(str(card), str(file)).name == "tiny@a#b"


def test_a_study_of_a_headless_file(tiny_card: TinyCard, tmp_path: Path) -> None:
    """Two workers, a second layer, a further view; only the layer above what is there is refused."""
    card = tiny_card()
    state = build(describe(str(card)).card).state_dict()
    file = tmp_path / "headless.safetensors"
    save_file({f"model.{n}": t for n, t in state.items() if not n.startswith("fc.")}, file)
    study = tmp_path / "study"
    data = write_images(tmp_path / "data", 12)

    def probe(*words: str) -> Any:
        common = ["-b", str(card), "--weights", str(file), "--study", str(study)]
        return CliRunner().invoke(app, ["extract", *common, *words])

    result = probe("--data", str(data), "--layer", "conv", "--workers", "2")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert (
        "2 tensors above conv are not needed and not loaded (fc.weight is not in the file" in said
    )
    assert "the tensors are read from model" in said
    for words in (("--layer", "pool"), ("--views", "flip")):
        result = probe(*words)
        assert result.exit_code == 0, result.output
    result = probe("--layer", "fc")
    assert result.exit_code == 3
    assert "2 of 4 tensors are missing (fc.weight, fc.bias)" in " ".join(result.stderr.split())
    with FeatureFile(study / "features" / "tiny@headless.h5") as features:
        assert {features.about(key)["layer"] for key in features.keys} == {"conv", "pool"}


def test_a_fine_tune_makes_a_new_head_and_wants_all_below_it(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card = tiny_card()
    state = build(describe(str(card)).card).state_dict()
    file = tmp_path / "given.safetensors"
    data = write_images(tmp_path / "data", 12)

    def probe(*words: str) -> Any:
        common = ["-b", str(card), "--weights", str(file), "--study", str(tmp_path / "study")]
        common += ["--data", str(data), "--epochs", "1", "--folds", "2"]
        return CliRunner().invoke(app, ["finetune", *common, *words])

    save_file({n: t for n, t in state.items() if not n.startswith("fc.")}, file)
    result = probe()
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert (
        "2 tensors of fc, which is made anew, are not needed and not loaded (fc.weight is" in said
    )
    result = probe("--freeze-through", "fc")
    assert result.exit_code == 3
    assert "its weights file has no fc.bias that fits, which lies below the cut fc" in " ".join(
        result.stderr.split()
    )
    save_file({n: t for n, t in state.items() if not n.startswith("conv.")}, file)
    result = probe()
    assert result.exit_code == 3
    assert "2 of 4 tensors are missing (conv.weight, conv.bias)" in " ".join(result.stderr.split())


class Net(nn.Module):
    """Reads a parameter of its own, a tied matrix, and one module that the asked layer is beside."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4, 1, 1))
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.after = nn.Conv2d(4, 4, 1)
        self.tied = nn.Conv2d(4, 4, 1)
        self.tied.weight = self.after.weight
        self.never = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.after(self.norm(self.conv(x) + self.token)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_what_a_pass_reads_up_to_a_layer(device: str) -> None:
    with torch.device(device):
        model = Net()

    def names(*modules: str) -> set[str]:
        return set(read_up_to(model, dict.fromkeys(modules, 1), (3, 4, 4)))

    conv = {"conv.weight", "conv.bias"}
    norm = {f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    assert names("conv") == conv
    assert names("norm") == conv | norm | {"token"}
    after = {"after.weight", "after.bias", "tied.weight"}  # one tensor under two names
    assert names("conv", "after") == conv | norm | {"token"} | after
    assert names("tied") == conv | norm | {"token"} | after | {"tied.bias"}
    assert names() == set()


def test_parts_by_hand() -> None:
    names = ["a.x.weight", "a.x.bias", "x.weight", "b.c.x.weight", "b.c.y.weight"]
    wanted = {"x.weight", "x.bias", "y.weight"}
    parts = parts_of(names, lambda name: name if name in wanted else None)
    assert {part.prefix: dict(part.names) for part in parts} == {
        "a.": {"x.weight": "a.x.weight", "x.bias": "a.x.bias"},
        "b.c.": {"x.weight": "b.c.x.weight", "y.weight": "b.c.y.weight"},
        "": {"x.weight": "x.weight"},
    }
    assert parts[-1].shown == "."
    wrapped = ["_orig_mod.a._orig_mod.w", "b._fsdp_wrapped_module.w"]
    assert without_wrappers(wrapped, ["a.w"]) == {"a.w": wrapped[0], "b.w": wrapped[1]}
    for names, wanted in (([*wrapped, "a.w"], {"a.w"}), (wrapped, {"_orig_mod.w"})):
        assert without_wrappers(names, wanted) == {name: name for name in names}
