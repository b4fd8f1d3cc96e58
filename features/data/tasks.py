"""Tasks: which label columns hold classes, numbers or several labels, and their classes in order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from features.arrays import Doubles, Ints
from features.data.imagefiles import is_image
from features.data.several_labels import BETWEEN, names_in, targets_of
from features.errors import InputError, OptionError, nearest

RESERVED = ("path", "subject", "fold", "split", "use")
_MANY = 100
"""Classes; more than this many numbers in a column are classes only if they count without a gap."""
_FEW = 10
"""Labels; in a column with at most this many, all may differ."""

LARGEST = 1e37
"""The largest number that a task may hold: predictions are float32, and may lie beyond what was seen."""

Kind = Literal["classes", "number", "labels"]
"""What a task predicts: one class of several, a number, or which of several labels an image has."""


@dataclass(frozen=True)
class Task:
    """One label column: its classes, or a number, or several labels an image, in one column or several.

    Tasks of `ordered` classes also get one-off accuracy and the mean error in classes.
    """

    name: str
    classes: tuple[str, ...]
    """None for a number; of several labels an image these labels."""
    ordered: bool = False
    kind: Kind = "classes"
    unit: str = ""
    """Of a number, such as `years`; empty where nobody said it."""
    when_named: bool = False
    """Whether it is a task only where a command names it."""
    columns: tuple[str, ...] = ()
    """The columns of 0 and 1, one for each of several labels; empty where they are in one column."""

    @property
    def is_number(self) -> bool:
        """Whether it predicts a number and not a class."""
        return self.kind == "number"

    @property
    def has_labels(self) -> bool:
        """Whether it predicts several labels of an image."""
        return self.kind == "labels"

    @property
    def has_classes(self) -> bool:
        """Whether it predicts one class of several."""
        return self.kind == "classes"

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns that it is read from."""
        return self.columns or (self.name,)

    @property
    def unit_words(self) -> str:
        """The unit of its errors for people: `classes`, `years`, `units of age`."""
        if not self.is_number:
            return "classes"
        return self.unit or f"units of {self.name}"

    def codes(self, labels: Sequence[str]) -> Ints:
        """The class number of every row, `(n,)`; -1 where the label is empty or not a class."""
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number.get(label, -1) for label in labels], dtype=np.int64)

    def targets(self, columns: Mapping[str, Sequence[str]]) -> Ints:
        """Of several labels an image, which it has, `(n, labels)`: 1, 0, and -1 where that is not known."""
        return targets_of(self.name, self.classes, {name: columns[name] for name in self.sources})


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
        elif _unfit(name, labels) is None:
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
        name: _unfit(name, labels)
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


def grown(task: Task, labels: set[str]) -> Task:
    """The task with the labels among `labels` that are new to it as further classes, after its own.

    Raises:
        InputError: The task is ordered, and only a person knows the place of a new class.
    """
    if task.is_number or task.columns:
        return task
    if task.has_labels:
        more = sorted(names_in(labels) - set(task.classes))
        return replace(task, classes=(*task.classes, *more))
    new = order(labels - {"", *task.classes})
    if new and task.ordered:
        raise InputError(
            f"task {task.name}: new rows are of the class {new[0]!r}, which is not among its ordered "
            f"classes ({', '.join(task.classes)}); put it in its place among those of study.toml, then "
            "`probe extract --update` again."
        )
    return replace(task, classes=(*task.classes, *new))


def choose(tasks: Mapping[str, Task], columns: Mapping[str, Sequence[str]], task_name: str) -> Task:
    """The task that `--task NAME` chooses, or `NAME:ordered`, `NAME:number` or `NAME:labels`.

    `attributes:labels` are several labels an image in one column, with `|` between them;
    `attributes:labels=smiling,hat` those that columns of 0 and 1 tell.

    Raises:
        InputError: There is no such column, or it does not hold what is asked for.
    """
    name, _, suffix = task_name.partition(":")
    suffix, _, of = suffix.partition("=")
    if suffix not in ("", "ordered", "number", "labels") or (of and suffix != "labels"):
        raise OptionError(
            f"--task {task_name}: after the colon stands `ordered`, `number` or `labels`, or nothing."
        )
    if suffix == "labels":
        return _several(tasks, columns, name, tuple(filter(None, of.split(","))))
    if suffix == "number" and name in columns and name not in RESERVED:
        if np.isnan(numbers_of(name, columns[name])).all():
            raise InputError(f"--task {task_name}: no row has a value; fill in the column {name}.")
        known = tasks.get(name)
        return known if known and known.is_number else Task(name, (), kind="number")
    if name not in tasks:
        if name in columns and name not in RESERVED:
            raise InputError(_unfit(name, columns[name]) or f"{name}: not a task.")
        raise InputError(f"--task {name}: there is no such label column; {nearest(name, tasks)}")
    task = tasks[name]
    if suffix == "ordered" and not task.has_classes:
        what = "a number" if task.is_number else "several labels an image"
        raise InputError(
            f"--task {task_name}: study.toml says that {name} is {what}; leave `:ordered` out, or give "
            f"[tasks.{name}] the classes in their order there."
        )
    return replace(task, ordered=True) if suffix == "ordered" else task


def numbers_of(name: str, labels: Sequence[str]) -> Doubles:
    """The number of every row, `(n,)`; NaN where the cell is empty.

    Raises:
        InputError: A cell holds something else; `name` is the column's.
    """
    values = np.full(len(labels), np.nan)
    for row, label in enumerate(labels):
        if label == "":
            continue
        with suppress(ValueError):
            values[row] = float(label)
        if not np.isfinite(values[row]):
            raise InputError(
                f"task {name}: {label[:40]!r} of row {row} is no number; correct it, or empty the cell "
                "where the number is not known."
            )
        if abs(values[row]) > LARGEST:
            raise InputError(
                f"task {name}: {label[:40]!r} of row {row} is beyond {LARGEST:g}, the most that scores "
                "hold; correct it, or give the column in a larger unit."
            )
    return values


def _several(
    tasks: Mapping[str, Task], columns: Mapping[str, Sequence[str]], name: str, of: tuple[str, ...]
) -> Task:
    """The task of several labels an image called `name`: of these columns, or in a column of its own.

    Raises:
        InputError: There is no such column, or it does not hold labels.
    """
    known = tasks.get(name)
    if known and known.has_labels and (not of or known.columns == of):
        return known
    if not of and (name not in columns or name in RESERVED):
        raise InputError(
            f"--task {name}:labels: there is no column {name}; name columns of 0 and 1 as in "
            f"--task {name}:labels=smiling,hat."
        )
    for column in of:
        if column not in columns or column in RESERVED:
            there = [c for c in columns if c not in RESERVED]
            raise InputError(
                f"--task {name}:labels: there is no label column {column}; {nearest(column, there)}"
            )
    if of and (name in columns or len(set(of)) < max(2, len(of))):
        why = "is a column too" if name in columns else "needs two columns or more, each named once"
        raise InputError(f"--task {name}:labels: {name} {why}; name it otherwise.")
    labels = of or tuple(sorted(names_in(columns[name])))
    if not of and len(labels) > 1 and not any(BETWEEN in cell for cell in columns[name]):
        raise InputError(
            f"--task {name}:labels: every cell of {name} holds one label, so they are classes; leave "
            f"`:labels` out, or name columns of 0 and 1 as in --task NAME:labels={name},OTHER."
        )
    task = Task(name, labels, kind="labels", columns=of)
    if len(labels) < 2 or not (task.targets(columns) > 0).any():
        raise InputError(
            f"--task {name}:labels: there are fewer than two labels; write them with {BETWEEN} between "
            "them in one column, or give each a column of 0 and 1."
        )
    return task


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
        f"a class of its own here; `--task {task.name}:labels` takes each label for itself."
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
