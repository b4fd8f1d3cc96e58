"""Tasks: what is predicted, a class of several in their order, a number, or several labels an image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from features.arrays import Doubles, Ints
from features.data.several_labels import names_in, targets_of
from features.errors import InputError

RESERVED = ("path", "subject", "fold", "split", "use")
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


def order(values: set[str]) -> tuple[str, ...]:
    """Classes by their leading number where all have one ("4-6" before "25-32"), else by name."""
    leading = {v: re.match(r"\(?\s*(-?\d+(?:\.\d+)?)", v) for v in values}
    numbers = {v: float(m[1]) for v, m in leading.items() if m}
    if len(numbers) == len(values):
        return tuple(sorted(values, key=lambda v: (numbers[v], v)))
    return tuple(sorted(values))
