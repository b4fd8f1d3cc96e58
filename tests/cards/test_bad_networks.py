"""Networks that cannot be read as they are end in one sentence that says what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

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
        InputError, match=r"fails on an image of 16 x 16 \(TypeError: .*'other'"
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
