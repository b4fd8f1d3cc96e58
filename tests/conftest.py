import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from features.card import read_file
from features.network import build

TINY_NETWORK = """
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

TINY_CARD = """name = "tiny"
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


@pytest.fixture(autouse=True, scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache folder for the whole run, so that the sample is drawn once; no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("PROBE_OFFLINE", "1")
        patch.delenv("PROBE_STUDY", raising=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # no waiting for a busy core
        yield
        torch.set_num_threads(threads)


@pytest.fixture
def tiny_card(tmp_path: Path) -> Callable[..., Path]:
    """Write a card for an 8 x 8 network whose layer `pixels` is the image, with its weights.

    `tiny_card(old, new, ...)` replaces one text of the card by another, pair by pair.
    """

    def write(*changes: str, folder: Path = tmp_path / "cards", seed: int = 0) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "tiny.py").write_text(TINY_NETWORK)
        text = TINY_CARD
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        card = folder / "tiny.toml"
        card.write_text(TINY_CARD)
        net = build(read_file(card), seed=seed)
        save_file(net.state_dict(), folder / "tiny.safetensors")
        card.write_text(text)
        return card

    return write


def draw(row: int) -> Image.Image:
    """An 8 x 8 image that says its row number: in the colour of its left half, r + 256 g."""
    pixels = np.random.default_rng([5, row]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    pixels[:, :4] = (row % 256, row // 256, 77)
    return Image.fromarray(pixels)


def row_in(features: np.ndarray) -> int:
    """The row number that the features of the tiny network's layer `pixels` carry."""
    red, green, blue = features.reshape(3, 8, 8)[:, :, :4]
    assert np.ptp(red) == np.ptp(green) == np.ptp(blue) == 0
    assert blue[0, 0] == 77
    return int(red[0, 0] + 256 * green[0, 0])


@pytest.fixture
def numbered(tmp_path: Path) -> Callable[..., Path]:
    """Write images that carry their row number, and a manifest; returns the manifest's path.

    A row in `bad` is a file that is no image; `twice` lists (row, row whose path it repeats).
    """

    def write(
        n: int = 23, bad: tuple[int, ...] = (), twice: dict[int, int] | None = None
    ) -> Path:
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        rows = []
        for row in range(n):
            source = (twice or {}).get(row, row)
            name = f"{source:04}.png"
            if source == row:
                draw(row).save(folder / name)
                if row in bad:
                    (folder / name).write_text("not an image")
            rows.append(f"{name},{'ab'[row % 2]}")
        manifest = folder / "data.csv"
        manifest.write_text("path,label\n" + "\n".join(rows) + "\n")
        return manifest

    return write


@pytest.fixture
def read_only_root() -> None:
    """Skip where permissions do not bind, as for root."""
    if os.geteuid() == 0:
        pytest.skip("permissions do not bind root")
