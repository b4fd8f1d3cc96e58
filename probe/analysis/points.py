"""Points of a curve over depth, and the best of each backbone, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probe.analysis.statistics import Interval
from probe.results.rows import Row


@dataclass(frozen=True)
class Point:
    """One layer of a curve."""

    layer: str
    pool: str
    depth: float
    metrics: Mapping[str, Interval]
    """By name, as in probe/analysis/outcomes.py."""
    rows: tuple[Row, ...]
    """Its folds."""

    @property
    def accuracy(self) -> Interval:
        """Pooled over all tested images."""
        return self.metrics["accuracy"]


@dataclass(frozen=True)
class Curve:
    """Metrics over depth of one backbone and method."""

    backbone: str
    domain: str
    method: str
    points: tuple[Point, ...]

    @property
    def kind(self) -> str:
        """The method without what stands after a `+`."""
        return self.method.partition("+")[0]


@dataclass(frozen=True)
class Best:
    """A backbone at the layer chosen inside the training folds: the number to quote."""

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
