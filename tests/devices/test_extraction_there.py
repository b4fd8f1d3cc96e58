"""Features made on an accelerator are those of the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys
from devices.conftest import features_in

from features.errors import InputError
from features.extraction.extract import extract
from probe.scoring.rank import rank

Near = Callable[..., None]
TOKENS = """
import torch
from torch import nn


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.cut = nn.Conv2d(3, 8, 2, 2)
        self.cls_token = nn.Parameter(torch.ones(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        x = self.cut(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return nn.functional.gelu(self.norm(x))


def build():
    return Tokens()
"""
TOKENS_CARD = """name = "tokens"
domain = "toys"
network = "./tokens.py:build"

[input]
size = [8, 8]
scale = 255.0
mean = [127.0, 127.0, 127.0]
std = [64.0, 64.0, 64.0]

[layers]
cut = "cut"
norm = "norm"
"""


@pytest.fixture
def images(tmp_path: Path) -> str:
    return str(toys.write_images(tmp_path / "images", 13, (3,), {9: 2}))


@pytest.fixture
def card(tiny_card: Callable[..., Path]) -> str:
    room = "size = [8, 8]\nresize = [12, 10]\nmean = [90.0, 100.0, 110.0]\nstd = [60.0, 61.0, 62.0]"
    return str(tiny_card("size = [8, 8]", room))


def both(folder: Path, card: str, images: str, device: str, **options: Any) -> tuple[Any, Any]:
    """The features that the device makes, and those of the processor."""
    options = {"batch_size": 4, "lanes": 2, **options}
    for name, where in (("there", device), ("here", "cpu")):
        extract(folder / name, card, data=images, device=where, **options)
    return features_in(folder / "there"), features_in(folder / "here")


def test_layers_extracted_there_rank_as_those_extracted_here(
    tmp_path: Path, card: str, images: str, device: str, near: Near
) -> None:
    both(tmp_path, card, images, device)
    there, here = (rank(tmp_path / name, rows=10) for name in ("there", "here"))
    assert there.names == here.names
    near(there.alike, here.alike, 1e-3)
    for made, wanted in zip(there.lines, here.lines, strict=True):
        assert (made.key, made.task) == (wanted.key, wanted.task)
        for name, score in vars(wanted).items():
            if isinstance(score, float):
                near(getattr(made, name), score, 1e-2)


@pytest.mark.parametrize(
    "options",
    [
        {"pool": ["auto", "avg", "max", "grid:2"], "views": ("flip", "10crop")},
        {"dtype": "float16", "lanes": 1, "batch_size": 13},
    ],
    ids=["poolings and views", "float16 in one lane"],
)
def test_features_are_the_processors(
    tmp_path: Path, card: str, images: str, device: str, near: Near, options: dict[str, Any]
) -> None:
    made, wanted = both(tmp_path, card, images, device, **options)
    assert made.keys() == wanted.keys()
    for name, x in wanted.items():
        near(made[name], x, 1e-3)


def test_features_of_tokens_are_the_processors(
    tmp_path: Path, images: str, device: str, near: Near
) -> None:
    (tmp_path / "tokens.py").write_text(TOKENS)
    (tmp_path / "tokens.toml").write_text(TOKENS_CARD)
    pools = ["auto", "avg", "cls", "grid:2"]
    made, wanted = both(
        tmp_path, str(tmp_path / "tokens.toml"), images, device, pool=pools, weights="random"
    )
    for name, x in wanted.items():
        near(made[name], x, 1e-3)


def test_halved_precision_there(
    tmp_path: Path, card: str, images: str, device: str, near: Near
) -> None:
    made, wanted = both(tmp_path, card, images, device, precision="bf16")
    for name, x in wanted.items():
        near(made[name], x, 2e-2)
    extract(tmp_path / "half", card, data=images, device=device, batch_size=4, precision="fp16")
    with_digits = both(tmp_path / "whole", card, images, device)[1]
    for name, x in features_in(tmp_path / "half").items():
        np.testing.assert_allclose(x, with_digits[name], rtol=0, atol=2e-3 * np.nanmax(np.abs(x)))


def test_a_run_that_was_stopped_goes_on_and_repeats_to_the_bit(
    tmp_path: Path, card: str, images: str, device: str
) -> None:
    options = {"data": images, "device": device, "batch_size": 4, "lanes": 2}
    extract(tmp_path / "whole", card, **options)  # type: ignore[arg-type]

    def stop(done: int, *_: object) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "parts", card, progress=stop, **options)  # type: ignore[arg-type]
    extract(tmp_path / "parts", card, **options)  # type: ignore[arg-type]
    whole, parts = features_in(tmp_path / "whole"), features_in(tmp_path / "parts")
    for name, x in whole.items():
        np.testing.assert_array_equal(parts[name], x)


def test_two_devices_make_the_features_of_one(
    tmp_path: Path, card: str, images: str, two_devices: str, device: str
) -> None:
    for name, where in (("one", device), ("two", two_devices)):
        extract(tmp_path / name, card, data=images, device=where, batch_size=4, lanes=1)
    one, two = features_in(tmp_path / "one"), features_in(tmp_path / "two")
    for name, x in one.items():
        np.testing.assert_array_equal(two[name], x)


def test_copies_back_are_asynchronous_and_waited_for_once_a_batch(
    tmp_path: Path, card: str, images: str, simulated: Any
) -> None:
    extract(tmp_path / "s", card, data=images, device="simulated", batch_size=4, lanes=2)
    counts = simulated.counts
    assert counts["back later"] == 3 * 9  # three batches of nine arrays
    assert counts["back"] == 0
    assert counts["wait"] == 4  # one for the weights


def test_a_precision_that_the_device_lacks_is_told(
    tmp_path: Path, card: str, images: str, simulated: Any
) -> None:
    import torch

    simulated.lacks.add(torch.bfloat16)
    said: list[str] = []
    for precision in ("bf16", "tf32"):
        extract(
            tmp_path / precision, card, data=images, device="simulated", precision=precision,
            announce=said.append,
        )  # fmt: skip
    assert "simulated: no bfloat16; computed in float32" in said
    assert "simulated: no TensorFloat-32; computed in float32" in said
    with pytest.raises(InputError, match="not a precision"):
        extract(tmp_path / "x", card, data=images, device="simulated", precision="int8")
