"""The tables of tasks that predict a number: a row per layer, and a row per fold of each."""

from __future__ import annotations

from collections.abc import Sequence

from probe.analysis.curves import TaskCurves
from probe.reporting.tables.results import (
    FOLD,
    OF_FOLDS,
    RESULT,
    end_cells,
    fold_cells,
    fold_columns,
    interval_cells,
    key_of,
    result_cells,
    results_of,
    spread_cells,
    spread_columns,
)
from probe.reporting.tables.table import Column, Table
from probe.results.metrics import OF_NUMBERS

_UNIT = Column("unit", "unit")


def number_table(tasks: Sequence[TaskCurves]) -> Table:
    """All results of each task: `best` rows, the median, layers in depth order, fine-tunes.

    Errors are in the unit that the table names.
    """
    columns = (
        *RESULT, _UNIT, *(column for name in OF_NUMBERS for column in _interval_columns(tasks, name)),
        *spread_columns("decimal"), *OF_FOLDS,
    )  # fmt: skip
    rows = {
        key_of(folds[0]): (
            *result_cells(folds), task.unit, *interval_cells(metrics, OF_NUMBERS),
            *spread_cells([row.mae for row in folds]), *end_cells(folds),
        )
        for task in tasks
        for folds, metrics in results_of(task)
    }  # fmt: skip
    note = (
        "MAE and RMSE are in the unit of the column; the mean and SD of folds are those of the MAE. R2 "
        "and Spearman's correlation have no unit."
    )
    return Table("numbers", "All layers", columns, tuple(rows.values()), note)


def number_fold_table(tasks: Sequence[TaskCurves]) -> Table:
    """All results of each task, fold by fold."""
    columns = (
        *FOLD,
        *(Column(m.column, _heading(tasks, name), "decimal") for name, m in OF_NUMBERS.items()),
        _UNIT, *fold_columns("alpha or k"),
    )  # fmt: skip
    return Table("number-folds", "Per fold", columns, fold_cells(tasks, columns))


def _heading(tasks: Sequence[TaskCurves], name: str) -> str:
    """The heading of a metric, with the unit where all tasks have one."""
    metric, units = OF_NUMBERS[name], {task.unit for task in tasks}
    return (
        f"{metric.heading} ({units.pop()})" if metric.unit and len(units) == 1 else metric.heading
    )


def _interval_columns(tasks: Sequence[TaskCurves], name: str) -> tuple[Column, Column]:
    heading = _heading(tasks, name)
    return Column(name, heading, "decimal"), Column(f"{name}_interval", "95 % interval", "range")
