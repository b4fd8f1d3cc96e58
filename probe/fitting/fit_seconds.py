"""How long fits took on this machine, kept in the cache folder: the next fit tells it beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from features.machine.spent import Spent, alone
from features.machine.spent_file import note_spent, read_spent

_FILE = "fit-seconds.json"
_SMALL = 2e7
"""The work of any fit, however small: of an svm on 150 to 1,500 rows of 32 to 4,096 numbers, measured."""
_ROWS_APART = 4
"""How many times as many rows, or as few, a fit may have had to tell the time of another: the products
between rows grow with their square (from 120 rows, 2,000 were told a quarter of their time)."""
_ALIKE = 10
"""Kinds of fits that tell how many cores one of their size can keep at work."""


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
        """A number that grows about as the time does."""
        return _SMALL + float(self.rows) * self.dim * self.classes * self.folds**2

    @property
    def name(self) -> str:
        """The size as text, by which its seconds are kept."""
        return f"{self.method} {self.rows} {self.dim} {self.classes} {self.folds}"


Measured = Mapping[FitSize, Spent]


def read_fit_seconds() -> dict[FitSize, Spent]:
    """What fits took by size; empty where none are kept."""
    known = {}
    for name, spent in read_spent(_FILE).items():
        with suppress(ValueError):
            known[_size(name)] = spent
    return known


def note_fit_seconds(measured: Measured) -> None:
    """Remember what fits took; where the cache folder cannot be written nothing is remembered."""
    note_spent(_FILE, {size.name: spent for size, spent in measured.items()})


def estimate(size: FitSize, measured: Measured) -> float | None:
    """The seconds of a fit where nothing else runs, from the most similar one of its method.

    None where none of about as many rows was measured.
    """
    alike = {
        known: spent
        for known, spent in measured.items()
        if known.method == size.method
        and size.rows / _ROWS_APART <= known.rows <= size.rows * _ROWS_APART
    }
    if not alike:
        return None
    nearest = sorted(alike, key=lambda known: _apart(known, size))[:_ALIKE]
    work = alike[nearest[0]].times(size.work / nearest[0].work)
    return alone(work, (alike[known] for known in nearest))


def _apart(a: FitSize, b: FitSize) -> float:
    return sum(
        abs(math.log(x / y))
        for x, y in ((a.dim, b.dim), (a.rows, b.rows), (a.classes, b.classes), (a.folds, b.folds))
    )


def _size(name: str) -> FitSize:
    method, *numbers = name.split(" ")
    rows, dim, classes, folds = map(int, numbers)
    if min(rows, dim, classes, folds) < 1:
        raise ValueError(name)
    return FitSize(method, rows, dim, classes, folds)
