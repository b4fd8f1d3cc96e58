"""Points and curves over depth, and `best` rows, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probe.analysis.statistics import Interval
from probe.results.rows import Row


@dataclass(frozen=True)
class Point:
    """A layer of a curve with its metrics."""

    layer: str
    pool: str
    depth: float
    metrics: Mapping[str, Interval]
    """By their names in `CURVES` of probe/results/metrics.py."""
    rows: tuple[Row, ...]
    """A row for every fold."""

    @property
    def accuracy(self) -> Interval:
        """Pooled over all tested images."""
        return self.metrics["accuracy"]


@dataclass(frozen=True)
class Curve:
    """The metrics of one backbone and method over depth."""

    backbone: str
    domain: str
    method: str
    points: tuple[Point, ...]
    draws: int = 1
    """Of how many draws of random weights it is the mean."""

    @property
    def kind(self) -> str:
        """The method without what stands after a `+`."""
        return self.method.partition("+")[0]


@dataclass(frozen=True)
class Best:
    """A `best` row: a backbone at the layer chosen inside the training folds; its accuracy is quoted."""

    backbone: str
    domain: str
    method: str
    metrics: Mapping[str, Interval]
    chosen: tuple[str, ...]
    """The layer chosen in each fold."""
    rows: tuple[Row, ...]

    @property
    def accuracy(self) -> Interval:
        """Pooled over all tested images."""
        return self.metrics["accuracy"]
