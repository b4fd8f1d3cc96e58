"""Tasks: which label columns can be classified, and their classes in order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Ints
from features.errors import InputError, nearest

RESERVED = ("path", "subject", "fold", "split", "use")
MOST_CLASSES = 100


@dataclass(frozen=True)
class Task:
    """One label column with its classes; `ordered` ones also get one-off accuracy and MAE."""

    name: str
    classes: tuple[str, ...]
    ordered: bool = False

    def codes(self, labels: Sequence[str]) -> Ints:
        """The class number of every row, `(n,)`; -1 where the label is empty or not a class."""
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number.get(label, -1) for label in labels], dtype=np.int64)


def infer(columns: Mapping[str, Sequence[str]], known: Mapping[str, Task]) -> dict[str, Task]:
    """The tasks of a manifest: `known` ones, and every other named column with 2 to 100 values.

    Raises:
        InputError: No column is a task.
    """
    tasks = {}
    reasons = []
    for name, labels in columns.items():
        if name in RESERVED:
            continue
        if name in known:
            tasks[name] = known[name]
            continue
        reason = _unfit(name, labels)
        if reason is None:
            tasks[name] = Task(name, order(set(labels) - {""}))
        else:
            reasons.append(reason)
    if not tasks:
        raise InputError(
            reasons[0]
            if reasons
            else f"the data has no label column (its columns: {', '.join(columns)}); add one."
        )
    return tasks


def grown(task: Task, labels: set[str]) -> Task:
    """The task with those of `labels`, which its rows had none of before, as classes after its own.

    Raises:
        InputError: The task is ordered, so that a class has a place that only a person knows.
    """
    new = order(labels - {"", *task.classes})
    if new and task.ordered:
        raise InputError(
            f"task {task.name}: new rows are of the class {new[0]!r}, which is not among its ordered "
            f"classes ({', '.join(task.classes)}); put it in its place among those of study.toml, then "
            "`probe extract --update` again."
        )
    return replace(task, classes=(*task.classes, *new))


def choose(tasks: Mapping[str, Task], columns: Mapping[str, Sequence[str]], asked: str) -> Task:
    """The task called `asked`, or `NAME:ordered`.

    Raises:
        InputError: There is no such column, or it cannot be classified.
    """
    name, _, suffix = asked.partition(":")
    if suffix not in ("", "ordered"):
        raise InputError(f"--task {asked}: after the colon only `ordered` can stand.")
    if name not in tasks:
        if name in columns and name not in RESERVED:
            raise InputError(_unfit(name, columns[name]) or f"{name}: not a task.")
        raise InputError(f"--task {name}: there is no such label column; {nearest(name, tasks)}")
    task = tasks[name]
    return Task(task.name, task.classes, ordered=True) if suffix else task


def order(values: set[str]) -> tuple[str, ...]:
    """Classes by their leading number where all have one ("4-6" before "25-32"), else by name."""
    leading = {v: re.match(r"\(?\s*(-?\d+(?:\.\d+)?)", v) for v in values}
    numbers = {v: float(m[1]) for v, m in leading.items() if m}
    if len(numbers) == len(values):
        return tuple(sorted(values, key=lambda v: (numbers[v], v)))
    return tuple(sorted(values))


def _unfit(name: str, labels: Sequence[str]) -> str | None:
    if not name:  # such as the row numbers that pandas writes
        return "a column without a name is no task; give it one in the header if it holds labels."
    values = set(labels) - {""}
    if len(values) < 2:
        shown = f"only the class {next(iter(values))!r}" if values else "no label at all"
        return f"task {name}: the data has {shown}; a task needs at least two classes."
    if len(values) > MOST_CLASSES:
        return (
            f"task {name}: {len(values)} distinct values are too many for classes (2 to "
            f"{MOST_CLASSES}); bin them into a column of their own, such as 0-9, 10-19."
        )
    return None
