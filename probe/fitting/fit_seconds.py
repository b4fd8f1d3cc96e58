"""How long fits took on this machine, kept in the cache folder so that the next fit can tell it beforehand.

It differs between runs that give the same numbers, and so stands in no study.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError
from features.machine.files import write_text
from features.machine.home import home, make
from features.machine.regular_files import read_regular

_MOST = 300
"""Kinds of fits that are remembered, the latest."""


@dataclass(frozen=True)
class FitSize:
    """What decides how long a fit takes."""

    method: str
    rows: int
    """Training rows in all."""
    dim: int
    classes: int
    folds: int

    @property
    def work(self) -> float:
        """A number that grows as the time does, for fits of nearly one size."""
        return float(self.rows) * self.dim * self.classes * self.folds**2

    @property
    def name(self) -> str:
        """The size as text, by which its seconds are kept."""
        return f"{self.method} {self.rows} {self.dim} {self.classes} {self.folds}"


Measured = Mapping[FitSize, float]


def read_fit_seconds() -> dict[FitSize, float]:
    """The seconds of fits by size; empty where none are kept."""
    try:
        by_name = json.loads(read_regular(_file()))
        return {_size(name): _seconds(seconds) for name, seconds in by_name.items()}
    except (OSError, ValueError, TypeError, AttributeError, InputError):  # none, or damaged
        return {}


def note_fit_seconds(measured: Measured) -> None:
    """Remember the seconds of fits; where the cache folder cannot be written nothing is remembered."""
    if not measured:
        return
    known = {size: s for size, s in read_fit_seconds().items() if size not in measured}
    latest = [*known.items(), *measured.items()][-_MOST:]
    text = json.dumps({size.name: round(seconds, 4) for size, seconds in latest}, indent=1)
    with suppress(OSError, InputError):
        make(_file().parent)
        write_text(_file(), text + "\n")


def estimate(size: FitSize, measured: Measured) -> float | None:
    """The seconds of a fit, from the most similar one of its method; None where none was measured."""
    alike = [known for known in measured if known.method == size.method]
    if not alike:
        return None
    nearest = min(alike, key=lambda known: _apart(known, size))
    return measured[nearest] * size.work / nearest.work


def _apart(a: FitSize, b: FitSize) -> float:
    return sum(
        abs(math.log(x / y))
        for x, y in ((a.dim, b.dim), (a.rows, b.rows), (a.classes, b.classes), (a.folds, b.folds))
    )


def _file() -> Path:
    return home() / "fit-seconds.json"


def _size(name: str) -> FitSize:
    method, *numbers = name.split(" ")
    rows, dim, classes, folds = map(int, numbers)
    if min(rows, dim, classes, folds) < 1:
        raise ValueError(name)
    return FitSize(method, rows, dim, classes, folds)


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError("no time")
    return float(value)
