"""The cumulative score CS(k): how many predictions are at most k classes, or k units, off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from probe.analysis.answer import whole
from probe.analysis.curves import TaskCurves
from probe.analysis.statistics import accuracy_interval
from probe.reporting.tables.table import Cell, Column, Table
from probe.results.rows import Row

_CLASSES = 4
"""How many distances in classes are told, from none."""
_COLUMNS = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
    Column("layer", "layer"), Column("within", "k", "count"), Column("unit", "unit"),
    Column("score", "CS(k)", "percent"), Column("interval", "95 % interval", "interval"),
)  # fmt: skip


def cumulative_table(tasks: Sequence[TaskCurves]) -> Table:
    """CS(k) of `best` rows and of whole networks tuned, for tasks with an order and for numbers."""
    rows = tuple(line for task in tasks if task.ordered or task.is_number for line in _lines(task))
    note = (
        "CS(k), the cumulative score, is the share of images whose prediction is at most k off, beside the "
        "mean error (MAE) in the same unit; CS(0) of classes is the accuracy."
    )
    return Table("cumulative", "Cumulative scores", _COLUMNS, rows, note)


def _lines(task: TaskCurves) -> Iterator[tuple[Cell, ...]]:
    tuned = [point.rows for curve in task.tuned if (point := whole(curve)) is not None]
    for rows in (*(best.rows for best in task.best), *tuned):
        name = rows[0].result_name
        if not task.outcomes.has(name):
            continue
        off = _off(task, rows)
        tested = ~np.isnan(off)
        wider = task.outcomes.wider({name: 1.0})
        for k in distances(task):
            # Numbers are read back in float32.
            within = (off[tested] <= k * (1 + 1e-6)).astype(np.float64)
            score = accuracy_interval(within, task.outcomes.subjects[tested], wider)
            first = rows[0]
            yield (
                task.task, first.method, first.backbone, first.layer or "whole network", k, task.unit,
                score.value, (score.low, score.high),
            )  # fmt: skip


def _off(task: TaskCurves, rows: Sequence[Row]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How far each prediction is off, `(n,)`, NaN where not tested."""
    name = rows[0].result_name
    if task.is_number:
        return np.asarray(-task.outcomes.worth(name))
    predicted = task.outcomes.predicted(name)
    return np.where(predicted >= 0, np.abs(predicted - task.outcomes.y), np.nan)


def distances(task: TaskCurves) -> list[float | int]:
    """The k that are told: the first few classes, or steps of 1, 2 and 5 up to the error of the median."""
    if not task.is_number:
        return list(range(min(_CLASSES, len(task.classes) - 1)))
    floor = task.majority
    if not floor or not np.isfinite(floor):
        return []
    power = 10.0 ** np.floor(np.log10(floor))
    steps = [times * power * one for times in (0.1, 1.0) for one in (1.0, 2.0, 5.0)]
    told = [float(f"{step:.6g}") for step in steps if floor / 10 <= step <= floor]
    return [int(step) if step == int(step) else step for step in told]
