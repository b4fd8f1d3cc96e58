"""The task that a person names with `--task`: a column, and what it is where that is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from features.data.several_labels import BETWEEN, names_in
from features.data.task_columns import why_unfit
from features.data.tasks import RESERVED, Task, numbers_of
from features.errors import InputError, OptionError, nearest


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
            raise InputError(why_unfit(name, columns[name]) or f"{name}: not a task.")
        raise InputError(f"--task {name}: there is no such label column; {nearest(name, tasks)}")
    task = tasks[name]
    if suffix == "ordered" and not task.has_classes:
        what = "a number" if task.is_number else "several labels an image"
        raise InputError(
            f"--task {task_name}: study.toml says that {name} is {what}; leave `:ordered` out, or give "
            f"[tasks.{name}] the classes in their order there."
        )
    return replace(task, ordered=True) if suffix == "ordered" else task


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
