"""Which columns of labels are tasks, and why the others are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from shlex import quote

import numpy as np

from features.data.imagefiles import is_image
from features.data.several_labels import BETWEEN
from features.data.tasks import RESERVED, Task, order
from features.errors import InputError

_MANY = 100
"""Classes; more than this many numbers in a column are classes only if they count without a gap."""
_FEW = 10
"""Labels; in a column with at most this many, all may differ."""


def infer(columns: Mapping[str, Sequence[str]], known: Mapping[str, Task]) -> dict[str, Task]:
    """The tasks of a manifest: `known` ones, and every other named column that holds classes.

    Classes are names, as many as there are, or numbers of which there are at most 100 or which count
    from 0 or 1 without a gap. Where no column holds classes, those that hold quantities are tasks.

    Raises:
        InputError: No column is a task.
    """
    tasks = {}
    several = {t.name: t for t in known.values() if t.columns and set(t.columns) <= set(columns)}
    for name, labels in columns.items():
        if name in RESERVED or name in several:
            continue
        if name in known:
            tasks[name] = known[name]
        elif why_unfit(name, labels) is None:
            tasks[name] = Task(name, order(set(labels) - {""}))
    if not tasks:
        tasks = {
            name: Task(name, (), kind="number")
            for name, labels in columns.items()
            if name and name not in RESERVED and _is_quantity(Counter(labels))
        }
    tasks |= several
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
    """The columns that are neither reserved nor among `tasks`, each with the reason in a sentence.

    Quantities that are tasks, since no column holds classes, have a sentence too, and so have classes
    that are several labels in one.
    """
    reasons = {
        name: why_unfit(name, labels)
        for name, labels in columns.items()
        if name not in RESERVED and name not in tasks
    }
    reasons |= {
        name: f"task {name}: no column holds classes and its values are numbers, so it is a number."
        for name, task in tasks.items()
        if task.is_number and not task.unit and not any(t.classes for t in tasks.values())
    }
    reasons = {name: _of_several(task) for name, task in tasks.items()} | reasons
    return {name: reason for name, reason in reasons.items() if reason is not None}


def why_unfit(name: str, labels: Sequence[str]) -> str | None:
    """Why a column holds no classes, in a sentence; None where it holds some."""
    if not name:  # such as the row numbers that pandas writes
        return "a column without a name is no task; give it one in the header if it holds labels."
    counts = Counter(labels)
    counts.pop("", None)
    labelled, once = counts.total(), sum(n == 1 for n in counts.values())
    if len(counts) < 2:
        shown = f"only the class {next(iter(counts))!r}" if counts else "no label at all"
        return f"task {name}: the data has {shown}; a task needs at least two classes."
    if labelled > _FEW and once == len(counts):
        number = f", name it {name}:number" if _is_quantity(counts) else ""
        return (
            f"task {name}: all {labelled} values differ, so they are no classes; leave the column out"
            f"{number}, or give a class to several images."
        )
    if labelled > _FEW and all(is_image(value) for value in counts):
        return f"task {name}: its values are names of files and no classes; leave the column out."
    seldom = labelled > _FEW and 2 * once > labelled
    if len(counts) <= _MANY and not (seldom and _is_quantity(counts)):
        return None
    if _continuous(counts):
        return (
            f"task {name}: {len(counts)} distinct numbers look like a quantity and not like classes; "
            f"`--task {name}:number` predicts the number, or bin them into a column of their own, such as "
            "0-9, 10-19."
        )
    if seldom:
        return (
            f"task {name}: {once} of its {labelled} values occur once, so they are no classes; leave the "
            "column out, or give a class to several images."
        )
    return None


def _of_several(task: Task) -> str | None:
    """The sentence about classes such as `smiling|hat`, where its parts are in other classes too."""
    if not task.has_classes:
        return None
    parts = Counter(part for name in task.classes for part in set(name.split(BETWEEN)))
    together = next(
        (c for c in task.classes if BETWEEN in c and all(parts[p] > 1 for p in c.split(BETWEEN))),
        None,
    )
    if together is None:
        return None
    return (
        f"task {task.name}: {together!r} looks like several labels of one image, and every combination is "
        f"a class of its own here; `--task {quote(task.name + ':labels')}` takes each label for itself."
    )


def _is_quantity(counts: Mapping[str, int]) -> bool:
    """Whether all values are numbers, more than a few, and no names or numbers of rows."""
    numbers = _numbers({value for value in counts if value != ""})
    if len(numbers) <= _FEW:
        return False
    in_turn = all(number == int(number) for number in numbers) and len(numbers) == sum(
        n for value, n in counts.items() if value != ""
    )
    return not in_turn


def _numbers(values: set[str]) -> list[float]:
    """The values as finite numbers, ascending; none where one is something else."""
    try:
        numbers = sorted(float(value) for value in values)
    except ValueError:
        return []
    return numbers if np.isfinite(numbers).all() else []


def _continuous(counts: Mapping[str, int]) -> bool:
    """Whether all values are numbers, and not those of classes: 0 or 1 and on, each of several images."""
    numbers = _numbers(set(counts))
    if not numbers:
        return False
    first = numbers[0]
    without_gap = numbers == [first + i for i in range(len(numbers))]
    return not (first in (0, 1) and without_gap and min(counts.values()) > 1)
