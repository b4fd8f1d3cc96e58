"""Where a probe fails: tables per class, confusion matrices, accuracy by subgroup, of `best` rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from features.arrays import Ints
from features.data.tasks import RESERVED
from features.errors import InputError, nearest
from features.study.study import Study
from probe.analysis.curves import TaskCurves
from probe.analysis.points import Best
from probe.analysis.statistics import accuracy_interval
from probe.reporting.tables.table import Cell, Column, Table
from probe.results.rows import ResultName

MOST_GROUPS = 12
"""A column of images.csv with more values than this makes subgroups only where it is asked for."""

MANY = 40
"""Classes, beyond which the page and the table of confusions hold the part that tells something."""
_HARDEST = 20
"""Rows of a table on the page for a task of many classes."""

_AT_BEST = "Every backbone is at its best layer, which was chosen inside the training folds."
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


def class_table(tasks: Sequence[TaskCurves]) -> Table:
    """Recall, precision and F1 of every class; blank for a class without images, or never predicted."""
    rows: list[tuple[Cell, ...]] = []
    for task, best, matrix in _matrices(tasks):
        occurs, predicted = matrix.sum(1), matrix.sum(0)
        for i, name in enumerate(task.classes):
            hits, both = int(matrix[i, i]), int(occurs[i] + predicted[i])
            rows.append(
                (
                    task.task, best.method, best.backbone, name, int(occurs[i]),
                    hits / int(occurs[i]) if occurs[i] else None,
                    hits / int(predicted[i]) if predicted[i] else None,
                    2 * hits / both if both else None,
                )
            )  # fmt: skip
    return Table("classes", "Per class", _CLASSES, tuple(rows), _AT_BEST)


def hardest_classes(task: TaskCurves) -> Table:
    """The table of classes for the page: all of them, or those of lowest F1 of the leading `best` row."""
    table = class_table([task])
    if len(task.classes) <= MANY or not task.best:
        return table
    leader = max(task.best, key=lambda best: best.accuracy.value)
    rows = [row for row in table.rows if row[1:3] == (leader.method, leader.backbone)]
    rows.sort(key=lambda row: row[-1] if isinstance(row[-1], float) else 0.0)
    note = (
        f"The {_HARDEST} of {len(task.classes):,} classes with the lowest F1, of {leader.method} on "
        f"{leader.backbone}; all are in classes.csv."
    )
    return replace(table, rows=tuple(rows[:_HARDEST]), note=note)


def confusion_table(tasks: Sequence[TaskCurves]) -> Table:
    """Every confusion matrix with a row for every cell, as the CSV has it."""
    rows = [
        (task.task, best.method, best.backbone, true, predicted, int(matrix[i, j]))
        for task, best, matrix in _matrices(tasks)
        for i, true in enumerate(task.classes)
        for j, predicted in enumerate(task.classes)
        if len(task.classes) <= MANY or matrix[i, j]
    ]
    many = any(len(task.classes) > MANY for task in tasks)
    note = f"{_AT_BEST} Beyond {MANY} classes, cells without images are left out." * many
    return Table("confusion", "Confusion matrices", _CONFUSION, tuple(rows), note or _AT_BEST)


def confusion_matrices(task: TaskCurves, most: int = 2) -> list[Table]:
    """The confusion matrices of the `most` leading `best` rows: per cent of each true class."""
    matrices = list(_matrices([task]))
    matrices.sort(key=lambda entry: -entry[1].accuracy.value)
    tables = []
    for _, best, matrix in matrices[:most]:
        title = f"Confusion: {best.method} on {best.backbone}"
        if len(task.classes) > MANY:
            tables.append(_confused(task, matrix, title))
            continue
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
        note = "Per cent of the images of each true class (rows) by predicted class (columns)."
        tables.append(Table("matrix", title, columns, tuple(rows), note))
    return tables


def _confused(task: TaskCurves, matrix: Ints, title: str) -> Table:
    """The classes that are taken for another most often."""
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    first = np.argsort(-wrong, axis=None, kind="stable")[:_HARDEST]
    cells = [divmod(int(place), len(matrix)) for place in first if wrong.flat[place]]
    rows = tuple((task.classes[i], task.classes[j], int(wrong[i, j])) for i, j in cells)
    note = f"The {len(rows)} most frequent of the mistakes; all are in confusion.csv."
    return Table("confused", title, _CONFUSION[3:], rows, note)


def subgroup_table(study: Study, tasks: Sequence[TaskCurves], by: Sequence[str] = ()) -> Table:
    """The accuracy of `best` rows within every value of other columns of images.csv.

    Args:
        study: The study.
        tasks: The curves of its tasks.
        by: Names of columns; by default all with 2 to MOST_GROUPS values.

    Raises:
        InputError: There is no such column.
    """
    names = [name for name in study.columns if name not in RESERVED]
    unnamed = {task.name for task in study.tasks.values() if task.when_named}
    for column in by:
        if column in RESERVED and column in study.columns:
            raise InputError(
                f"--by {column}: a column of the toolkit, whose values are no subgroups; name a column "
                f"of your own, such as {', '.join(names[:3]) or 'one of labels'}."
            )
        if column not in names:
            raise InputError(
                f"--by {column}: no such column in images.csv; {nearest(column, names)}"
            )
    sizes = {name: len(set(study.columns[name]) - {""}) for name in names}
    chosen = list(by) or [
        name for name in names if 2 <= sizes[name] <= MOST_GROUPS and name not in unnamed
    ]
    rows: list[tuple[Cell, ...]] = []
    values = {name: np.array(study.columns[name], dtype=object) for name in chosen}
    for task in tasks:
        for best in task.best:
            name = best.rows[0].result_name
            if task.outcomes.has(name):
                for column in chosen:
                    if column != task.task:
                        groups = _in_order(study, column)
                        rows += _groups(task, best, name, column, groups, values[column])
    return Table("subgroups", "Accuracy by subgroup", _SUBGROUPS, tuple(rows), _AT_BEST)


def _in_order(study: Study, column: str) -> Sequence[str]:
    """The values of a column: those of a task in the order of its classes."""
    if column in study.tasks and study.tasks[column].classes:
        return study.tasks[column].classes
    return sorted(set(study.columns[column]) - {""})


def _groups(
    task: TaskCurves,
    best: Best,
    name: ResultName,
    column: str,
    groups: Sequence[str],
    values: npt.NDArray[np.object_],
) -> Iterator[tuple[Cell, ...]]:
    correct, wider = task.outcomes.correct(name), task.outcomes.wider({name: 1.0})
    for group in groups:
        here = (values == group) & ~np.isnan(correct)
        if here.any():
            accuracy = accuracy_interval(correct[here], task.outcomes.subjects[here], wider)
            yield (
                task.task, best.method, best.backbone, column, group, int(here.sum()),
                accuracy.value, (accuracy.low, accuracy.high),
            )  # fmt: skip


def _matrices(
    tasks: Sequence[TaskCurves],
) -> Iterator[tuple[TaskCurves, Best, Ints]]:
    """Every `best` row with its confusion matrix: images by true class (rows) and predicted (columns)."""
    for task in tasks:
        classes = len(task.classes)
        for best in task.best:
            name = best.rows[0].result_name
            if not task.outcomes.has(name):
                continue
            predicted = task.outcomes.predicted(name).astype(np.int64)
            tested = predicted >= 0
            cell = task.outcomes.y[tested] * classes + predicted[tested]
            yield task, best, np.bincount(cell, minlength=classes**2).reshape(classes, classes)
