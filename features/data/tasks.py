"""Tasks: which label columns can be classified, and their classes in order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Ints
from features.data.imagefiles import is_image
from features.errors import InputError, OptionError, nearest

RESERVED = ("path", "subject", "fold", "split", "use")
_MANY = 100
"""Classes; more than this many numbers in a column are classes only if they count without a gap."""
_FEW = 10
"""Labels; in a column with at most this many, all may differ."""


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
    """The tasks of a manifest: `known` ones, and every other named column that holds classes.

    Classes are names, as many as there are, or numbers of which there are at most 100 or which count
    from 0 or 1 without a gap.

    Raises:
        InputError: No column is a task.
    """
    tasks = {}
    for name, labels in columns.items():
        if name in RESERVED:
            continue
        if name in known:
            tasks[name] = known[name]
        elif _unfit(name, labels) is None:
            tasks[name] = Task(name, order(set(labels) - {""}))
    if not tasks:
        reasons = unfit(columns, tasks)
        raise InputError(
            next(iter(reasons.values()))
            if reasons
            else f"the data has no label column (its columns: {', '.join(columns)}); add one."
        )
    return tasks


def still_tasks(columns: Mapping[str, Sequence[str]], known: Mapping[str, Task]) -> dict[str, Task]:
    """The tasks of a stored study: the `known` ones, and other columns of 2 to 100 classes.

    A column of more classes was no task in studies of earlier versions and stays none, so that the
    folds, which all tasks share, stay as they were.

    Raises:
        InputError: No column is a task.
    """
    few = {
        name: labels
        for name, labels in columns.items()
        if name in known or name in RESERVED or len(set(labels) - {""}) <= _MANY
    }
    return infer(few if known else columns, known)


def unfit(columns: Mapping[str, Sequence[str]], tasks: Mapping[str, Task]) -> dict[str, str]:
    """The columns that are neither reserved nor among `tasks`, each with the reason in a sentence."""
    reasons = {
        name: _unfit(name, labels)
        for name, labels in columns.items()
        if name not in RESERVED and name not in tasks
    }
    return {name: reason for name, reason in reasons.items() if reason is not None}


def grown(task: Task, labels: set[str]) -> Task:
    """The task with the labels among `labels` that are new to it as further classes, after its own.

    Raises:
        InputError: The task is ordered, and only a person knows the place of a new class.
    """
    new = order(labels - {"", *task.classes})
    if new and task.ordered:
        raise InputError(
            f"task {task.name}: new rows are of the class {new[0]!r}, which is not among its ordered "
            f"classes ({', '.join(task.classes)}); put it in its place among those of study.toml, then "
            "`probe extract --update` again."
        )
    return replace(task, classes=(*task.classes, *new))


def choose(tasks: Mapping[str, Task], columns: Mapping[str, Sequence[str]], task_name: str) -> Task:
    """The task that `--task NAME` or `--task NAME:ordered` chooses.

    Raises:
        InputError: There is no such column, or it cannot be classified.
    """
    name, _, suffix = task_name.partition(":")
    if suffix not in ("", "ordered"):
        raise OptionError(f"--task {task_name}: after the colon only `ordered` is allowed.")
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
    counts = Counter(labels)
    counts.pop("", None)
    labelled, once = counts.total(), sum(n == 1 for n in counts.values())
    if len(counts) < 2:
        shown = f"only the class {next(iter(counts))!r}" if counts else "no label at all"
        return f"task {name}: the data has {shown}; a task needs at least two classes."
    if labelled > _FEW and once == len(counts):
        return (
            f"task {name}: all {labelled} values differ, so they are no classes; leave the column out, "
            "or give a class to several images."
        )
    if labelled > _FEW and all(is_image(value) for value in counts):
        return f"task {name}: its values are names of files and no classes; leave the column out."
    if len(counts) <= _MANY:
        return None
    if _continuous(counts):
        return (
            f"task {name}: {len(counts)} distinct numbers look like a quantity and not like classes; bin "
            "them into a column of their own, such as 0-9, 10-19, or name it under [tasks] in study.toml."
        )
    if 2 * once > labelled:
        return (
            f"task {name}: {once} of its {labelled} values occur once, so they are no classes; leave the "
            "column out, or give a class to several images."
        )
    return None


def _continuous(counts: Mapping[str, int]) -> bool:
    """Whether all values are numbers, and not those of classes: 0 or 1 and on, each of several images."""
    try:
        numbers = sorted(float(value) for value in counts)
    except ValueError:
        return False
    first = numbers[0]
    without_gap = numbers == [first + i for i in range(len(numbers))]
    return not (first in (0, 1) and without_gap and min(counts.values()) > 1)
