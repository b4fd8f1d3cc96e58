"""The tables of tasks that predict a number: a row per layer, and a row per fold of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from probe.analysis.curves import TaskCurves
from probe.analysis.statistics import Interval
from probe.reporting.tables.layers import results_of
from probe.reporting.tables.table import Cell, Column, Table
from probe.results.metrics import OF_NUMBERS
from probe.results.rows import BEST, Row

_WHERE = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
)  # fmt: skip


def number_table(tasks: Sequence[TaskCurves]) -> Table:
    """All results of each task: `best` rows, the median, layers in depth order, fine-tunes.

    Errors are in the unit that the table names.
    """
    columns = (
        *_WHERE, Column("domain", "domain"), Column("layer_shown", "layer", "label"),
        Column("layer", "layer", "hidden"), Column("pool", "pool"), Column("depth", "depth", "decimal"),
        Column("dim", "dim", "hidden"), Column("unit", "unit"),
        *(column for name in OF_NUMBERS for column in _interval_columns(tasks, name)),
        Column("fold_mean", "mean of folds", "decimal"), Column("fold_sd", "SD", "decimal"),
        Column("images", "images", "hidden"), Column("at_edge", "at edge", "hidden"),
        Column("chosen", "chosen", "hidden"),
    )  # fmt: skip
    rows = {
        _key(folds[0]): _cells(folds, metrics, task.unit)
        for task in tasks
        for folds, metrics in results_of(task)
    }
    note = (
        "MAE and RMSE are in the unit of the column; the mean and SD of folds are those of the MAE. R2 "
        "and Spearman's correlation have no unit."
    )
    return Table("numbers", "All layers", columns, tuple(rows.values()), note)


def number_fold_table(tasks: Sequence[TaskCurves]) -> Table:
    """All results of each task, fold by fold."""
    names = [metric.column for metric in OF_NUMBERS.values()]
    columns = (
        *_WHERE, Column("layer", "layer"), Column("pool", "pool"), Column("fold", "fold", "count"),
        *(Column(m.column, _heading(tasks, name), "decimal") for name, m in OF_NUMBERS.items()),
        Column("unit", "unit"), Column("n_test", "test images", "count"),
        Column("n_train", "training images", "count"), Column("C", "alpha or k", "decimal"),
        Column("chosen", "chosen"),
    )  # fmt: skip
    rows = {
        (*_key(row), str(row.fold)): (
            row.task, row.method, row.backbone, row.layer, row.pool, row.fold,
            *(getattr(row, name) for name in names), task.unit, row.n_test, row.n_train, row.C,
            row.chosen,
        )
        for task in tasks
        for folds, _ in results_of(task)
        for row in folds
    }  # fmt: skip
    return Table("number-folds", "Per fold", columns, tuple(rows.values()))


def _heading(tasks: Sequence[TaskCurves], name: str) -> str:
    """The heading of a metric, with the unit where all tasks have one."""
    metric, units = OF_NUMBERS[name], {task.unit for task in tasks}
    return (
        f"{metric.heading} ({units.pop()})" if metric.unit and len(units) == 1 else metric.heading
    )


def _interval_columns(tasks: Sequence[TaskCurves], name: str) -> tuple[Column, Column]:
    heading = _heading(tasks, name)
    return Column(name, heading, "decimal"), Column(f"{name}_interval", "95 % interval", "range")


def _cells(rows: Sequence[Row], metrics: Mapping[str, Interval], unit: str) -> tuple[Cell, ...]:
    first = rows[0]
    errors = np.array([row.mae for row in rows], dtype=np.float64)
    best = first.layer == BEST
    chosen = ", ".join(dict.fromkeys(row.chosen for row in rows))
    measured = [metrics.get(name) for name in OF_NUMBERS]
    return (
        first.task, first.method, first.backbone, first.domain,
        f"best: {chosen}" if best else first.layer or "whole network", first.layer, first.pool,
        first.depth, None if best else first.dim, unit,
        *(
            cell
            for m in measured
            for cell in ((None, None) if m is None else (m.value, (m.low, m.high)))
        ),
        float(errors.mean()), float(errors.std(ddof=1)) if len(errors) > 1 else None,
        sum(row.n_test for row in rows), sum(row.at_edge for row in rows), chosen,
    )  # fmt: skip


def _key(row: Row) -> tuple[str, ...]:
    return (row.task, row.method, row.backbone, row.layer, row.pool)
