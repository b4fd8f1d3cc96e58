"""Points and curves over depth, and `best` rows, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probe.analysis.statistics import Interval
from probe.results.rows import Row

HEADLINES = ("accuracy", "mae", "map")
"""The metric that is quoted: of classes, of a number, and of several labels an image."""


class _Measured:
    """What has metrics with intervals, by their names in `CURVES` of probe/results/metrics.py."""

    metrics: Mapping[str, Interval]

    @property
    def accuracy(self) -> Interval:
        """Pooled over all tested images; of classes only."""
        return self.metrics["accuracy"]

    @property
    def headline(self) -> Interval:
        """The accuracy, the mean absolute error of a number, or the mean average precision of labels."""
        return self.metrics[next(name for name in HEADLINES if name in self.metrics)]

    @property
    def worth(self) -> float:
        """The headline, or minus the mean absolute error: what is larger for better results."""
        lower = "accuracy" not in self.metrics and "mae" in self.metrics
        return -self.headline.value if lower else self.headline.value


@dataclass(frozen=True)
class Point(_Measured):
    """A layer of a curve with its metrics."""

    layer: str
    pool: str
    depth: float
    metrics: Mapping[str, Interval]
    """By their names in `CURVES` of probe/results/metrics.py."""
    rows: tuple[Row, ...]
    """A row for every fold."""


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
class Best(_Measured):
    """A `best` row: a backbone at the layer chosen inside the training folds; its accuracy is quoted."""

    backbone: str
    domain: str
    method: str
    metrics: Mapping[str, Interval]
    chosen: tuple[str, ...]
    """The layer chosen in each fold."""
    rows: tuple[Row, ...]
