"""Networks that cannot be read as they are end in one sentence that says what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from features.backbone import describe, load
from features.errors import InputError
from features.extraction.capture import capture
from features.extraction.extract import extract

NET = """
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Features:
    x: torch.Tensor


class Wrapped(nn.Module):
    def forward(self, x):
        return Features(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, 4)
        self.act = nn.ReLU()
        self.wrapped = Wrapped()
        self.norm = nn.LayerNorm(4)

    def forward(FORWARD):
        x = self.act(self.act(self.conv(x)) - 0.1)
        x = self.wrapped(x).x.flatten(2).transpose(1, 2)
        return self.norm(NORM).mean(1)


def build():
    return Net()
"""


def write(folder: Path, forward: str = "self, x", norm: str = "x", layers: str = "") -> str:
    (folder / "net.py").write_text(NET.replace("FORWARD", forward).replace("NORM", norm))
    card = folder / "net.toml"
    card.write_text(
        'name = "net"\ndomain = "toys"\nnetwork = "./net.py:build"\n[input]\nsize = [16, 16]\n'
        + layers
    )
    return str(card)


def test_a_dataclass_holds_no_tensor_that_has_a_name(tmp_path: Path) -> None:
    card = write(tmp_path, layers='[layers]\nx = "wrapped"\n')
    with pytest.raises(
        InputError,
        match=r"returns Features, in which no tensor has a name; read a module inside it\.$",
    ):
        describe(card)
    assert "wrapped" not in [layer.name for layer in describe(write(tmp_path)).layers]


def test_a_module_that_runs_twice_counts_with_its_last_output(tmp_path: Path) -> None:
    backbone = load(write(tmp_path), "random")
    layers = backbone.layers(("conv", "act"))
    x = torch.randn(2, 3, 16, 16)
    with capture(backbone.model, layers, backbone.architecture.traced) as run:
        found = run(x)
    assert torch.equal(found["act"], (found["conv"].relu() - 0.1).relu())


def test_a_network_that_needs_two_inputs_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"build needs other beside the image; give other a default, or return"
    ) as told:
        describe(write(tmp_path, forward="self, x, other"))
    assert "\n" not in str(told.value)


def test_tokens_that_are_not_numbers_are_told_with_their_image(tmp_path: Path) -> None:
    card = write(tmp_path, norm="x / (x.amax() > 1e9)")
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "m.csv").write_text("path,label\n0.png,a\n1.png,b\n2.png,a\n3.png,b\n")
    with pytest.raises(InputError, match=r"^0\.png: its features at layer norm.* NaN or infinite;"):
        extract(
            tmp_path / "s", card, data=str(tmp_path / "m.csv"), weights="random", layers=("norm",)
        )
    assert not (tmp_path / "s").exists()


BUILT = """
import sys
import warnings
from dataclasses import dataclass

import torch
from torch import nn


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


class Checked(Base):
    def forward(self, x):
        assert bool(torch.isfinite(x).all()), "no numbers"
        return super().forward(x)


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv3d(3, 4, 3, padding=1), nn.AdaptiveAvgPool3d(1)

    def forward(self, x):
        return self.pool(self.conv(x.unsqueeze(2))).flatten(1)


class Volumes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3)

    def forward(self, x):
        return self.conv(x)


class Ends(Base):
    def __init__(self, when):
        super().__init__()
        self.when = when

    def forward(self, x):
        if self.when(x):
            sys.exit("enough")
        return super().forward(x)


@dataclass
class Scores:
    x: torch.Tensor


class Scored(Base):
    def forward(self, x):
        return Scores(super().forward(x))


def normed(net):
    nn.utils.parametrizations.weight_norm(net.conv)
    nn.utils.parametrizations.spectral_norm(net.fc)
    return net


def build():
    with warnings.catch_warnings():  # some are deprecated
        warnings.simplefilter("ignore")
        return BUILD
"""


@pytest.mark.parametrize(
    ("built", "layers"),
    [
        ("Base().half()", ["conv", "fc"]),
        ("Base().double()", ["conv", "fc"]),
        ("torch.compile(Base())", ["conv", "fc"]),
        ("nn.DataParallel(Base())", ["conv", "fc"]),
        ("Deep()", ["pool"]),
        ("normed(Base())", ["conv", "fc"]),
    ],
)
def test_networks_are_read_in_single_precision_without_their_wrapping(
    tmp_path: Path, built: str, layers: list[str]
) -> None:
    card = write(tmp_path)
    (tmp_path / "net.py").write_text(BUILT.replace("BUILD", built))
    for i in range(4):
        folder = tmp_path / "images" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (60 * i, 200, 99)).save(folder / f"{i}.png")
    result = extract(
        tmp_path / "study", card, weights="random", data=str(tmp_path / "images"), layers=["all"]
    )
    assert [key for key in result.layers if ":" not in key] == layers


@pytest.mark.parametrize(
    ("built", "why"),
    [
        ("nn.Sequential(nn.LazyConv2d(4, 3))", "lazy modules, which have no shapes yet; run it on"),
        (
            "torch.jit.trace(Base().eval(), torch.zeros(1, 3, 16, 16))",
            "a TorchScript network, whose layers cannot be read; return",
        ),
        (
            "Volumes()",
            r"takes volumes or films .* Conv3d\) and fails on an image; return a network",
        ),
        ("Ends(lambda x: True)", r"fails on an image of 16 x 16 \(SystemExit: enough\)"),
        ("Ends(lambda x: not x.is_meta)", r"fails on an image of noise \(SystemExit: enough\)"),
        ("Ends(lambda x: len(x) == 4)", r"images of a batch are NaN \(SystemExit: enough\)"),
        ("sys.exit('enough')", r"could not be built .* SystemExit: enough; correct network"),
        (
            "Checked()",
            r"fails where other images of a batch are NaN .* use it before it is quantised",
        ),
    ],
)
def test_networks_that_cannot_be_checked_are_refused(tmp_path: Path, built: str, why: str) -> None:
    card = write(tmp_path)
    (tmp_path / "net.py").write_text(BUILT.replace("BUILD", built))
    with pytest.raises(InputError, match=why):
        describe(card)


def test_a_network_that_ends_the_program_on_some_batch_is_told(tmp_path: Path) -> None:
    card = write(tmp_path)
    code = BUILT.replace("BUILD", "Ends(lambda x: len(x) == 2)")
    (tmp_path / "net.py").write_text(code)
    backbone = load(card, "random")
    with capture(backbone.model, backbone.layers(), backbone.architecture.traced) as run:
        with pytest.raises(
            InputError, match=r"ended the program on 2 images \(SystemExit: enough\)"
        ):
            run(torch.zeros(2, 3, 16, 16))
        assert run(torch.zeros(3, 3, 16, 16))


def test_depth_is_counted_to_what_a_dataclass_holds(tmp_path: Path) -> None:
    card = write(tmp_path)
    (tmp_path / "net.py").write_text(BUILT.replace("BUILD", "Scored()"))
    found = {layer.name: layer.depth for layer in describe(card).layers}
    assert found == {"conv": 0.5, "fc": 1.0}


def test_a_file_is_run_as_python_imports_it(tmp_path: Path) -> None:
    card = write(tmp_path)
    plain = (tmp_path / "net.py").read_text()
    # A type without its module's name is looked up in the module, and is no string unless the file says so.
    typed = plain.replace("x: torch.Tensor", "x: Tensor").replace("import nn", "import Tensor, nn")
    (tmp_path / "net.py").write_text(typed + "\n\nassert Features.__annotations__['x'] is Tensor\n")
    assert [layer.name for layer in describe(card).layers] == ["conv", "act", "norm"]
    (tmp_path / "net.py").write_text("from __future__ import annotations\n" + typed)
    assert [layer.name for layer in describe(card).layers] == ["conv", "act", "norm"]
    (tmp_path / "net.py").write_text("import sys\n\nsys.exit(3)\n")
    with pytest.raises(InputError, match=r"importing it failed with SystemExit: 3; correct the"):
        describe(card)


def test_code_that_ends_the_program_anywhere_else_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ends(_name: str) -> None:
        sys.exit(0)

    monkeypatch.setattr("features.backbone.describe", ends)
    result = CliRunner().invoke(app, ["layers", "tiny"])
    assert result.exit_code == 3
    assert (
        result.stderr
        == "error: the network's code ended the program (SystemExit: 0); correct it.\n"
    )
