"""Where a probe fails: tables per class, confusion matrices, accuracy by subgroup, of `best` rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from features.data.tasks import RESERVED
from features.errors import InputError, nearest
from features.study.study import Study
from probe.analysis.curves import TaskCurves
from probe.analysis.outcomes import Name, name_of
from probe.analysis.points import Best
from probe.analysis.statistics import accuracy_interval
from probe.reporting.tables.table import Cell, Column, Table

MOST_GROUPS = 12
"""A column of more values is looked at only where it is asked for."""

_WHO = (Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"))
_CLASSES = (
    *_WHO, Column("class", "class"), Column("images", "images", "count"),
    Column("recall", "recall", "percent"), Column("precision", "precision", "percent"),
    Column("f1", "F1", "percent"),
)  # fmt: skip
_CONFUSION = (
    *_WHO, Column("true", "true class"), Column("predicted", "predicted class"),
    Column("images", "images", "count"),
)  # fmt: skip
_SUBGROUPS = (
    *_WHO, Column("column", "column"), Column("group", "group"), Column("images", "images", "count"),
    Column("accuracy", "accuracy", "percent"), Column("interval", "95 % interval", "interval"),
)  # fmt: skip


def class_table(found: Sequence[TaskCurves]) -> Table:
    """Recall, precision and F1 of every class; of a class that never occurs, or is never said, blank."""
    rows: list[tuple[Cell, ...]] = []
    for task, best, matrix in _matrices(found):
        occurs, claimed = matrix.sum(1), matrix.sum(0)
        for i, name in enumerate(task.classes):
            hits, all_ = int(matrix[i, i]), int(occurs[i] + claimed[i])
            rows.append(
                (
                    task.task, best.method, best.backbone, name, int(occurs[i]),
                    hits / int(occurs[i]) if occurs[i] else None,
                    hits / int(claimed[i]) if claimed[i] else None,
                    2 * hits / all_ if all_ else None,
                )
            )  # fmt: skip
    return Table("classes", "Per class", _CLASSES, tuple(rows), _OF_BEST)


def confusion_table(found: Sequence[TaskCurves]) -> Table:
    """Every cell of every confusion matrix, one row each, for the CSV."""
    rows = [
        (task.task, best.method, best.backbone, true, predicted, int(matrix[i, j]))
        for task, best, matrix in _matrices(found)
        for i, true in enumerate(task.classes)
        for j, predicted in enumerate(task.classes)
    ]
    return Table("confusion", "Confusion matrices", _CONFUSION, tuple(rows), _OF_BEST)


def confusion_matrices(task: TaskCurves, most: int = 2) -> list[Table]:
    """The matrices of the leading `best` rows, as people read them: shares of each true class."""
    found = list(_matrices([task]))
    found.sort(key=lambda one: -one[1].accuracy.value)
    made = []
    for _, best, matrix in found[:most]:
        columns = (
            Column("true", "true class"),
            *(Column(f"c{j}", name, "heat") for j, name in enumerate(task.classes)),
            Column("images", "images", "count"),
        )
        rows: list[tuple[Cell, ...]] = []
        for i, name in enumerate(task.classes):
            n = int(matrix[i].sum())
            shares = [float(cell) / n if n else None for cell in matrix[i]]
            rows.append((name, *shares, n))
        title = f"Confusion: {best.method} on {best.backbone}"
        note = "Per cent of each true class that was called each class."
        made.append(Table("matrix", title, columns, tuple(rows), note))
    return made


def subgroup_table(study: Study, found: Sequence[TaskCurves], by: Sequence[str] = ()) -> Table:
    """Accuracy within every value of other columns of images.csv.

    Args:
        study: The study.
        found: Its tasks.
        by: Columns; by default all with 2 to MOST_GROUPS values.

    Raises:
        InputError: A column is not there.
    """
    names = [name for name in study.columns if name not in RESERVED]
    for column in by:
        if column not in names:
            raise InputError(
                f"--by {column}: no such column in images.csv; {nearest(column, names)}"
            )
    sizes = {name: len(set(study.columns[name]) - {""}) for name in names}
    chosen = list(by) or [name for name in names if 2 <= sizes[name] <= MOST_GROUPS]
    rows: list[tuple[Cell, ...]] = []
    values = {name: np.array(study.columns[name], dtype=object) for name in chosen}
    for task in found:
        for best in task.best:
            name = name_of(best.rows[0])
            if task.outcomes.has(name):
                for column in chosen:
                    if column != task.task:
                        groups = _in_order(study, column)
                        rows += _groups(task, best, name, column, groups, values[column])
    return Table("subgroups", "Accuracy by subgroup", _SUBGROUPS, tuple(rows), _OF_BEST)


_OF_BEST = "Of every backbone at its best layer, chosen inside the training folds."


def _in_order(study: Study, column: str) -> Sequence[str]:
    """The values of a column: those of a task in the order of its classes."""
    if column in study.tasks:
        return study.tasks[column].classes
    return sorted(set(study.columns[column]) - {""})


def _groups(
    task: TaskCurves,
    best: Best,
    name: Name,
    column: str,
    groups: Sequence[str],
    values: npt.NDArray[np.object_],
) -> Iterator[tuple[Cell, ...]]:
    correct = task.outcomes.correct(name)
    for group in groups:
        here = (values == group) & ~np.isnan(correct)
        if here.any():
            found = accuracy_interval(correct[here], task.outcomes.subjects[here])
            ends = (found.low, found.high)
            yield (
                task.task, best.method, best.backbone, column, group, int(here.sum()),
                found.value, ends,
            )  # fmt: skip


def _matrices(
    found: Sequence[TaskCurves],
) -> Iterator[tuple[TaskCurves, Best, npt.NDArray[np.int64]]]:
    """Every `best` row with its images by true class (rows) and predicted class (columns)."""
    for task in found:
        classes = len(task.classes)
        for best in task.best:
            name = name_of(best.rows[0])
            if not task.outcomes.has(name):
                continue
            said = task.outcomes.said(name).astype(np.int64)
            tested = said >= 0
            cell = task.outcomes.y[tested] * classes + said[tested]
            yield task, best, np.bincount(cell, minlength=classes**2).reshape(classes, classes)
