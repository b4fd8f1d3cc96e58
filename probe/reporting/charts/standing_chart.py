"""How everything stands on a task, as the page draws it: rows of a dot, its interval and its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probe.analysis.curves import TaskCurves
from probe.analysis.scale import Scale
from probe.analysis.shorten import shorten, shorten_draws
from probe.analysis.standings import Reference, Standing, layers_words, references, standings
from probe.analysis.statistics import Interval
from probe.reporting.charts.legend import Sign, backbone_sign
from probe.reporting.charts.markers import Markers

_MOST = 14
"""How many rows are drawn; best.csv has all."""
_LONGEST, _LAYER = 26, 17
"""Characters of a name and of a layer; the middle is left out where one is longer."""
_TRAINED = {"finetune": "fine-tuned", "scratch": "trained from scratch"}
_SIDE = 25.0
"""Within so many per cent of an end of the scale a name stands beside its line, not over it."""
_WIDE = 4.5
"""The width of a letter of a reference's name, in per cent of the scale's width."""


@dataclass(frozen=True)
class StandingRow:
    """A row: places along the scale are in per cent of its width."""

    backbone: str
    name: str
    how: str
    """The probe and its layer, or how it was trained, in a few words."""
    sign: Sign
    hollow: bool
    """Whether it is a fine-tune."""
    at: float
    interval: tuple[float, float] | None
    accuracy: str
    """In per cent, or of a number the mean absolute error in its unit; of labels mean average precision."""
    range: str
    """The interval in per cent; empty where it is not known."""


@dataclass(frozen=True)
class ReferenceLine:
    """An accuracy that rows are held against, across all of them."""

    name: str
    at: float
    spread: tuple[float, float] | None
    line: int
    """The line of text that its name stands in, from 0 at the top."""


@dataclass(frozen=True)
class StandingChart:
    """The rows of a task, best first, and what they are held against."""

    rows: tuple[StandingRow, ...]
    references: tuple[ReferenceLine, ...]
    ticks: tuple[tuple[float, str], ...]
    left_out: int
    """How many more rows there are."""
    what: str = "accuracy"
    """What the numbers are."""
    unit: str = "per cent"

    @property
    def lines(self) -> int:
        """How many lines of text the names of the references need."""
        return 1 + max((reference.line for reference in self.references), default=0)


def standing_chart(task: TaskCurves, looks: Markers) -> StandingChart:
    """The chart of a task; `looks` has colour and shape of every backbone."""
    rows, against = standings(task), references(task)
    shown = rows[:_MOST]
    scale = _Scale.over([row.accuracy for row in shown] + [r.accuracy for r in against], task.scale)
    return StandingChart(
        tuple(_row(task, row, scale, looks) for row in shown),
        _reference_lines(against, scale),
        scale.ticks,
        len(rows) - len(shown),
        what=task.headline_words,
        unit=task.unit if task.is_number else "per cent",
    )


@dataclass(frozen=True)
class _Scale:
    """Accuracies, or errors of a number, from `low` to `high`."""

    low: float
    high: float
    words: Scale

    @classmethod
    def over(cls, intervals: Sequence[Interval], words: Scale) -> _Scale:
        ends = [end for i in intervals for end in (i.value, i.low, i.high)]
        known = [end for end in ends if np.isfinite(end)] or [0.0, 1.0]
        room = max(max(known) - min(known), 0.02) * 0.04
        return cls(min(known) - room, max(known) + room, words)

    def at(self, accuracy: float) -> float:
        return round(100 * (accuracy - self.low) / (self.high - self.low), 2)

    @property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        from matplotlib.ticker import MaxNLocator  # slow to import

        low, high = self.words.factor * self.low, self.words.factor * self.high
        ticks = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
        return tuple(
            (self.at(tick / self.words.factor), f"{tick:g}")
            for tick in ticks
            if low <= tick <= high
        )


def _row(task: TaskCurves, row: Standing, scale: _Scale, looks: Markers) -> StandingRow:
    value, low, high = row.accuracy.value, row.accuracy.low, row.accuracy.high
    known = bool(np.isfinite([low, high]).all())
    layers = layers_words(task, row.backbone, row.layers, _LAYER)
    how = f"{row.method}, layer {layers}" if "(" in layers else f"{row.method} at {layers}"
    if not row.layers:
        kind, _, recipe = row.method.partition("+")
        how = _TRAINED.get(kind, kind) + (f", {recipe}" if recipe else "")
        if row.unlike:
            how += f", other {' and '.join(row.unlike)}"
    if row.has_seen:
        how += "; has seen the test images"
    return StandingRow(
        backbone=row.backbone,
        name=shorten(row.backbone, _LONGEST),
        how=how,
        sign=backbone_sign(looks[row.backbone, row.domain], row.domain),
        hollow=not row.layers,
        at=scale.at(value),
        interval=(scale.at(low), scale.at(high) - scale.at(low)) if known else None,
        accuracy=scale.words.number(value),
        range=f"{scale.words.number(low)} to {scale.words.number(high)}" if known else "",
    )


def _reference_lines(against: Sequence[Reference], scale: _Scale) -> tuple[ReferenceLine, ...]:
    """The references with their names in as many lines as keep them from touching."""
    ends: list[float] = []  # of the last name in each line of text
    made = []
    for reference in against:
        accuracy = reference.accuracy
        at = scale.at(accuracy.value)
        name = f"{shorten_draws(reference.name, _LONGEST)} {scale.words.number(accuracy.value)}"
        half = _WIDE * len(name) / 2
        start = at if at < _SIDE else at - 2 * half if at > 100 - _SIDE else at - half
        line = next((i for i, end in enumerate(ends) if end < start), len(ends))
        ends[line:] = [start + 2 * half, *ends[line + 1 :]]
        spread = None
        if "draws" in reference.name:
            spread = (scale.at(accuracy.low), scale.at(accuracy.high) - scale.at(accuracy.low))
        made.append(ReferenceLine(name, at, spread, line))
    return tuple(made)
