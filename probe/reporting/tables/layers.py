"""The tables of layers: a row per backbone, layer and method, and a row per fold of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from probe.analysis.curves import TaskCurves
from probe.analysis.outcomes import CALIBRATION
from probe.analysis.statistics import Interval
from probe.reporting.tables.table import Cell, Column, Kind, Table
from probe.results.metrics import COLUMNS, Metric
from probe.results.rows import BEST, Row

_ACCURACY, *_OTHERS = [
    m for m in COLUMNS.values() if m.heading and not m.only_numbers and not m.only_labels
]
_WHERE = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
)  # fmt: skip


def _column(metric: Metric, hidden: bool = False) -> Column:
    shown: Kind = "percent" if metric.unit == "%" else "decimal"
    unit = f" ({metric.unit})" if metric.unit == "classes" else ""
    return Column(metric.column, metric.heading + unit, "hidden" if hidden else shown)


def _lacking(metric: Metric, tasks: Sequence[TaskCurves]) -> bool:
    """Whether no result has a metric that only some have."""
    return metric.rare and not any(
        getattr(row, metric.column) is not None for rows, _ in _groups(tasks) for row in rows
    )


def _others(tasks: Sequence[TaskCurves]) -> list[Metric]:
    """The metrics besides accuracy; those that need many classes only where a task has these."""
    return [m for m in _OTHERS if not m.many or any(m.option in task.metrics for task in tasks)]


def layer_table(tasks: Sequence[TaskCurves]) -> Table:
    """All results of each task: `best` rows, the majority class, layers in depth order, fine-tunes."""
    others = _others(tasks)
    calibrated = any(CALIBRATION in metrics for _, metrics in _groups(tasks))
    columns = (
        *_WHERE, Column("domain", "domain"), Column("layer_shown", "layer", "label"),
        Column("layer", "layer", "hidden"), Column("pool", "pool"), Column("depth", "depth", "decimal"),
        Column("dim", "dim", "hidden"), _column(_ACCURACY), Column("interval", "95 % interval", "interval"),
        Column("fold_mean", "mean of folds", "percent"), Column("fold_sd", "SD", "percent"),
        Column("fold_sem", "SEM", "hidden"),
        *(_column(m, hidden=m.per_fold or _lacking(m, tasks)) for m in others),
        Column(CALIBRATION, "calibration error", "percent" if calibrated else "hidden"),
        Column("images", "images", "hidden"),
        Column("at_edge", "at edge", "hidden"), Column("chosen", "chosen", "hidden"),
    )  # fmt: skip
    rows = {_key(folds[0]): _cells(folds, metrics, others) for folds, metrics in _groups(tasks)}
    note = (
        "Mean per class is the mean recall of the classes (balanced_accuracy in results.csv). Log loss is "
        "in nats; the calibration error is of all tested images together, where that of results.csv is "
        "of each fold, which is larger where folds are small."
    )
    return Table("table", "All layers", columns, tuple(rows.values()), note)


def fold_table(tasks: Sequence[TaskCurves]) -> Table:
    """All results, fold by fold, in the order of the table of layers."""
    columns = (
        *_WHERE, Column("layer", "layer"), Column("pool", "pool"), Column("fold", "fold", "count"),
        *(_column(m, hidden=_lacking(m, tasks)) for m in (_ACCURACY, *_others(tasks))),
        Column("n_test", "test images", "count"),
        Column("n_train", "training images", "count"), Column("C", "C", "decimal"),
        Column("chosen", "chosen"),
    )  # fmt: skip
    groups = {_key(rows[0]): rows for rows, _ in _groups(tasks)}
    rows = [
        tuple(getattr(row, column.name) for column in columns)
        for folds in groups.values()
        for row in folds
    ]
    return Table("folds", "Per fold", columns, tuple(rows))


def _groups(tasks: Sequence[TaskCurves]) -> Iterator[tuple[Sequence[Row], Mapping[str, Interval]]]:
    """The folds of every result, and its metrics over them."""
    for task in tasks:
        yield from results_of(task)


def results_of(task: TaskCurves) -> Iterator[tuple[Sequence[Row], Mapping[str, Interval]]]:
    """The same of one task: `best` rows, the floor, layers in depth order, fine-tunes."""
    for best in task.best:
        yield best.rows, best.metrics
    if task.floor is not None:
        yield task.floor.rows, task.floor.metrics
    for curve in (*(c for panel in task.panels for c in panel.curves), *task.tuned):
        for point in curve.points:
            yield point.rows, point.metrics


def _cells(
    rows: Sequence[Row], metrics: Mapping[str, Interval], others: Sequence[Metric]
) -> tuple[Cell, ...]:
    """The row of one result in the table of layers, from its folds."""
    n = np.array([max(row.n_test, 1) for row in rows], dtype=float)
    folds = np.array([row.accuracy for row in rows])
    sd = float(folds.std(ddof=1)) if len(folds) > 1 else float("nan")

    def over_folds(metric: Metric) -> float | None:
        values = [getattr(row, metric.column) for row in rows]
        if None in values:
            return None
        return float(np.average(values, weights=None if metric.folds_alike else n))

    first, accuracy = rows[0], metrics["accuracy"]
    chosen = ", ".join(dict.fromkeys(row.chosen for row in rows))
    best = first.layer == BEST
    return (
        first.task,
        first.method,
        first.backbone,
        first.domain,
        f"best: {chosen}" if best else first.layer or "whole network",
        first.layer,
        first.pool,
        first.depth,
        None if best else first.dim,
        accuracy.value,
        (accuracy.low, accuracy.high),
        float(folds.mean()),
        sd,
        sd / float(np.sqrt(len(folds))),
        *map(over_folds, others),
        metrics[CALIBRATION].value if CALIBRATION in metrics else None,
        int(sum(row.n_test for row in rows)),
        sum(row.at_edge for row in rows),
        chosen,
    )


def _key(row: Row) -> tuple[str, ...]:
    return (row.task, row.method, row.backbone, row.layer, row.pool)
