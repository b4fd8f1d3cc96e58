"""The tables of layers: a row per backbone, layer and method, and a row per fold of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from probe.analysis.curves import TaskCurves
from probe.analysis.outcomes import CALIBRATION
from probe.analysis.statistics import Interval
from probe.reporting.tables.results import (
    FOLD,
    OF_FOLDS,
    RESULT,
    end_cells,
    fold_cells,
    fold_columns,
    key_of,
    result_cells,
    results_of,
)
from probe.reporting.tables.table import Cell, Column, Kind, Table
from probe.results.metrics import COLUMNS, Metric
from probe.results.rows import Row

_ACCURACY, *_OTHERS = [
    m for m in COLUMNS.values() if m.heading and not m.only_numbers and not m.only_labels
]


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
        *RESULT, _column(_ACCURACY), Column("interval", "95 % interval", "interval"),
        Column("fold_mean", "mean of folds", "percent"), Column("fold_sd", "SD", "percent"),
        Column("fold_sem", "SEM", "hidden"),
        *(_column(m, hidden=m.per_fold or _lacking(m, tasks)) for m in others),
        Column(CALIBRATION, "calibration error", "percent" if calibrated else "hidden"),
        *OF_FOLDS,
    )  # fmt: skip
    rows = {key_of(folds[0]): _cells(folds, metrics, others) for folds, metrics in _groups(tasks)}
    note = (
        "Mean per class is the mean recall of the classes (balanced_accuracy in results.csv). Log loss is "
        "in nats; the calibration error is of all tested images together, where that of results.csv is "
        "of each fold, which is larger where folds are small."
    )
    return Table("table", "All layers", columns, tuple(rows.values()), note)


def fold_table(tasks: Sequence[TaskCurves]) -> Table:
    """All results, fold by fold, in the order of the table of layers."""
    columns = (
        *FOLD, *(_column(m, hidden=_lacking(m, tasks)) for m in (_ACCURACY, *_others(tasks))),
        *fold_columns(),
    )  # fmt: skip
    return Table("folds", "Per fold", columns, fold_cells(tasks, columns))


def _groups(tasks: Sequence[TaskCurves]) -> Iterator[tuple[Sequence[Row], Mapping[str, Interval]]]:
    """The folds of every result, and its metrics over them."""
    for task in tasks:
        yield from results_of(task)


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

    accuracy = metrics["accuracy"]
    return (
        *result_cells(rows),
        accuracy.value,
        (accuracy.low, accuracy.high),
        float(folds.mean()),
        sd,
        sd / float(np.sqrt(len(folds))),
        *map(over_folds, others),
        metrics[CALIBRATION].value if CALIBRATION in metrics else None,
        *end_cells(rows),
    )
