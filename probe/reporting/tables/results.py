"""What the tables of results share: the results of a task in their order, and the cells that each has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from probe.analysis.curves import TaskCurves
from probe.analysis.statistics import Interval
from probe.reporting.tables.table import Cell, Column, Kind
from probe.results.rows import BEST, Row

WHERE = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
)  # fmt: skip
RESULT = (
    *WHERE, Column("domain", "domain"), Column("layer_shown", "layer", "label"),
    Column("layer", "layer", "hidden"), Column("pool", "pool"), Column("depth", "depth", "decimal"),
    Column("dim", "dim", "hidden"),
)  # fmt: skip
"""The first columns of a table of results, a row for all folds."""
OF_FOLDS = (
    Column("images", "images", "hidden"), Column("at_edge", "at edge", "hidden"),
    Column("chosen", "chosen", "hidden"),
)  # fmt: skip
"""The last ones."""
FOLD = (*WHERE, Column("layer", "layer"), Column("pool", "pool"), Column("fold", "fold", "count"))
"""The first columns of a table with a row for every fold."""


def results_of(task: TaskCurves) -> Iterator[tuple[Sequence[Row], Mapping[str, Interval]]]:
    """The folds and metrics of every result: `best` rows, the floor, layers in depth order, fine-tunes."""
    for best in task.best:
        yield best.rows, best.metrics
    if task.floor is not None:
        yield task.floor.rows, task.floor.metrics
    for curve in (*(c for panel in task.panels for c in panel.curves), *task.tuned):
        for point in curve.points:
            yield point.rows, point.metrics


def key_of(row: Row) -> tuple[str, ...]:
    """What names a result; of two with one key a table has the last, in the place of the first."""
    return (row.task, row.method, row.backbone, row.layer, row.pool)


def fold_columns(last: str = "C") -> tuple[Column, ...]:
    """The last columns of a table with a row for every fold; `last` is the heading of what was chosen."""
    return (
        Column("n_test", "test images", "count"), Column("n_train", "training images", "count"),
        Column("C", last, "significant"), Column("chosen", "chosen"),
    )  # fmt: skip


def fold_cells(
    tasks: Sequence[TaskCurves], columns: Sequence[Column]
) -> tuple[tuple[Cell, ...], ...]:
    """A row of cells for every fold of every result; `columns` are named as the fields of a row."""
    groups = {key_of(rows[0]): (rows, task) for task in tasks for rows, _ in results_of(task)}
    return tuple(
        tuple(
            task.unit if column.name == "unit" else getattr(row, column.name) for column in columns
        )
        for rows, task in groups.values()
        for row in rows
    )


def result_cells(rows: Sequence[Row]) -> tuple[Cell, ...]:
    """The cells of RESULT."""
    first, best = rows[0], rows[0].layer == BEST
    return (
        first.task, first.method, first.backbone, first.domain,
        f"best: {_chosen(rows)}" if best else first.layer or "whole network", first.layer, first.pool,
        first.depth, None if best else first.dim,
    )  # fmt: skip


def end_cells(rows: Sequence[Row]) -> tuple[Cell, ...]:
    """The cells of OF_FOLDS."""
    return sum(row.n_test for row in rows), sum(row.at_edge for row in rows), _chosen(rows)


def spread_columns(kind: Kind) -> tuple[Column, Column]:
    """The columns of `spread_cells`."""
    return Column("fold_mean", "mean of folds", kind), Column("fold_sd", "SD", kind)


def spread_cells(values: Sequence[float | None]) -> tuple[float, float | None]:
    """The mean and standard deviation of a metric over the folds."""
    each = np.array(values, dtype=np.float64)
    return float(each.mean()), float(each.std(ddof=1)) if len(each) > 1 else None


def interval_cells(metrics: Mapping[str, Interval], names: Iterable[str]) -> tuple[Cell, ...]:
    """For every metric its value and the ends of its interval."""
    measured = [metrics.get(name) for name in names]
    return tuple(
        cell
        for m in measured
        for cell in ((None, None) if m is None else (m.value, (m.low, m.high)))
    )


def _chosen(rows: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(row.chosen for row in rows))
