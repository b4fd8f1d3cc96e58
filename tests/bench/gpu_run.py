"""What the sections of gpu.py share: how much is measured, its pictures, and the memory of the device."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    images: int
    drawn: int
    sides: tuple[int, ...]
    networks: tuple[str, ...]
    seconds: float
    """Seconds of one extraction, at most, by the limits measured before it."""
    grid: tuple[int, int]
    layers: tuple[int, int, int]
    """Rows, features and how many such layers."""
    classes: tuple[tuple[int, int, int], ...]
    """Rows, features and classes; the first is measured on the processor too."""
    points: int
    """Values of C."""
    trained: tuple[str, int]
    tests: str


FULL = Size(
    20_000, 400, (200, 816),
    ("torchvision:resnet50", "vgg16", "torchvision:vit_b_16", "alexnet"), 8.0,
    (17_000, 4_096), (2_000, 8_192, 40), ((2_000, 512, 100), (20_000, 512, 1_000)), 13,
    ("torchvision:resnet50", 2_048), "not slow",
)  # fmt: skip
TINY = Size(
    12, 4, (64,), ("torchvision:squeezenet1_1",), 1.0, (60, 8), (24, 30, 2), ((60, 8, 10),), 2,
    ("torchvision:squeezenet1_1", 8), "not slow",
)  # fmt: skip


@dataclass
class Run:
    """What the sections share."""

    device: torch.device
    size: Size
    scratch: Path
    ends: float
    until: float = 0.0
    images: dict[int, list[Path]] = field(default_factory=dict)

    @property
    def tiny(self) -> bool:
        """Whether this is a trial of the script itself."""
        return self.size is TINY

    def left(self) -> float:
        """Seconds that the section under way may still take."""
        return min(self.until, self.ends) - time.monotonic()


def drawn(run: Run, side: int) -> list[Path]:
    """The JPEGs of a side, some drawn and all others links to them."""
    from concurrent.futures import ThreadPoolExecutor

    if side not in run.images:
        first, folder = run.scratch / f"drawn-{side}", run.scratch / f"images-{side}"
        first.mkdir()
        files = [first / f"{i}.jpg" for i in range(run.size.drawn)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(draw_one, files, [side] * len(files), range(len(files))))
        paths = []
        for i in range(run.size.images):
            path = folder / "ab"[i % 2] / f"{i:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(files[i % len(files)], path)
            paths.append(path)
        run.images[side] = sorted(paths)
    return run.images[side]


def draw_one(path: Path, side: int, seed: int) -> None:
    """One JPEG, as in extraction.py."""
    from extraction import photo

    photo(side, seed).save(path, quality=90)


def manifest(folder: Path, paths: list[Path]) -> str:
    """A table of the first images."""
    folder.mkdir(exist_ok=True)
    lines = ["path,label", *(f"{path},{path.parent.name}" for path in paths)]
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "data.csv")


def reset_peak(device: torch.device) -> None:
    """Begin to count memory anew."""
    reset = getattr(torch.get_device_module(device), "reset_peak_memory_stats", None)
    if reset is not None and device.type != "cpu":
        reset(device)


def peak(device: torch.device) -> float | None:
    """Megabytes that tensors took on the device at most; None where it does not tell."""
    most = getattr(torch.get_device_module(device), "max_memory_allocated", None)
    return None if most is None or device.type == "cpu" else most(device) / 1e6
