"""A network small enough to check by hand, and images that carry their row number."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save_file

from features.cards.network import build
from features.cards.reading import read_file

NETWORK = """
from collections import OrderedDict

from torch import nn


def build(num_classes: int = 5) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            pixels=nn.Identity(),
            conv=nn.Conv2d(3, 4, 3, padding=1),
            relu=nn.ReLU(inplace=True),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, num_classes),
        )
    )
"""

CARD = """name = "tiny"
domain = "toys"
network = "./tiny.py:build"

[input]
size = [8, 8]
scale = 255.0

[layers]
pixels = "pixels"
conv = "conv"
act = "relu"
pool = "pool"
fc = "fc"

[[weights]]
path = "tiny.safetensors"
"""


def write_card(folder: Path, *changes: str, seed: int = 0) -> Path:
    """Write the card, its network and its weights; `changes` are pairs of an old and a new text."""
    folder.mkdir(exist_ok=True)
    (folder / "tiny.py").write_text(NETWORK)
    card = folder / "tiny.toml"
    card.write_text(CARD)
    save_file(build(read_file(card), seed=seed).state_dict(), folder / "tiny.safetensors")
    text = CARD
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    card.write_text(text)
    return card


def draw(row: int) -> Image.Image:
    """An 8 x 8 image that says its row number: r + 256 g of the colour of its left half."""
    pixels = np.random.default_rng([5, row]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    pixels[:, :4] = (row % 256, row // 256, 77)
    return Image.fromarray(pixels)


def row_in(features: npt.NDArray[np.float32]) -> int:
    """The row number that the features of the layer `pixels` carry."""
    red, green, blue = features.reshape(3, 8, 8)[:, :, :4]
    assert np.ptp(red) == np.ptp(green) == np.ptp(blue) == 0
    assert blue[0, 0] == 77
    return int(red[0, 0] + 256 * green[0, 0])


def by_hand(tensors: dict[str, torch.Tensor], row: int) -> dict[str, npt.NDArray[np.float32]]:
    """The features of every layer for the image of `row`, computed with NumPy from the weights."""
    x = np.asarray(draw(row), np.float64).transpose(2, 0, 1)
    weight, bias = (tensors[f"conv.{name}"].double().numpy() for name in ("weight", "bias"))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    conv = np.einsum("cyxij,ocij->oyx", windows, weight) + bias[:, None, None]
    act = conv.clip(0)
    pool = act.reshape(4, 4, 2, 4, 2).max((2, 4))
    fc = tensors["fc.weight"].double().numpy() @ pool.ravel() + tensors["fc.bias"].double().numpy()
    found = {"pixels": x, "conv": conv, "act": act, "pool": pool}
    found |= {f"{name}:avg": value.mean((1, 2)) for name, value in found.items()}
    return {name: value.ravel().astype(np.float32) for name, value in {**found, "fc": fc}.items()}


def write_images(
    folder: Path, n: int, bad: tuple[int, ...] = (), twice: dict[int, int] | None = None
) -> Path:
    """Write images and their manifest; returns the manifest's path.

    A row in `bad` is a file that is no image; `twice` says whose path a row repeats.
    """
    folder.mkdir(exist_ok=True)
    lines = ["path,label"]
    for row in range(n):
        source = (twice or {}).get(row, row)
        name = f"{source:04}.png"
        if row in bad:
            (folder / name).write_text("not an image")
        elif source == row:
            draw(row).save(folder / name)
        lines.append(f"{name},{'ab'[row % 2]}")
    manifest = folder / "data.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest
