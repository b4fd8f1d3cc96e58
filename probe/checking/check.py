"""Checking a data set before a number is made of it: counts, copies, conflicting labels, leaks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Bools, Ints
from features.data.tasks import Task
from features.errors import InputError
from features.study.copies import Copies, Group
from features.study.study import Study
from probe.folds.given import own_folds
from probe.folds.kept_together import in_several, kept_copies
from probe.folds.left_out import left_out_sentences
from probe.folds.make_splits import make_splits
from probe.folds.splits import Unfit


@dataclass(frozen=True)
class Count:
    """How many images have a label, and how many each class has, in all folds or in one."""

    n: int
    classes: dict[str, int]


@dataclass(frozen=True)
class TaskCount(Count):
    """The counts of one task, in all folds and in each."""

    folds: tuple[Count, ...]
    """The data set's own folds, or those that `fit` makes by default; none if it would refuse."""
    absent: tuple[tuple[int, str], ...]
    """Fold and class, where all images of the class are in that fold, so that training lacks it."""


@dataclass(frozen=True)
class Conflict:
    """Rows that show one image under different labels."""

    task: str
    rows: Group
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """What is known of a data set; rows are those of images.csv, counts are of rows in use."""

    study: Study
    copies: Copies
    tasks: dict[str, TaskCount]
    subjects: int
    subjects_across: tuple[str, ...]
    """Subjects in several of the data set's own folds."""
    copies_across: tuple[Group, ...]
    """Copies in several of the data set's own folds."""
    too_large: tuple[Group, ...]
    """Groups of images that are alike, too large to be copies of one picture: splits may part them."""
    placeholders: tuple[Group, ...]
    """Rows of one file that is given as the picture of more than ten subjects: they are left out."""
    conflicts: tuple[Conflict, ...]
    refused: tuple[str, ...]
    """Why `probe fit` would refuse this data, a sentence for each reason."""
    notes: tuple[str, ...] = ()
    """Columns that are no tasks, tasks that cannot be fitted and classes too small for it: a sentence
    each."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Files of the data set that became no row, and why; known only where the data were just read."""


def check(study: Study, copies: Copies) -> Check:
    """Counts of a study's images, and everything that would make a number wrong.

    Args:
        study: The study; it need not be on disk.
        copies: The copies among its images, from `probe.checking.find_copies.find`.
    """
    study = replace(study, copies=copies)
    used = np.flatnonzero(study.used)
    readable = np.ones(len(study), dtype=bool)
    readable[list(copies.unreadable)] = False
    groups = [tuple(r for r in group if study.used[r]) for group in copies.groups]
    groups = [group for group in groups if len(group) > 1]
    fold = own_folds(study)
    refused, unfit, notes = [], [], [*study.no_tasks.values(), *cautions(study)]
    tasks = {}
    for task in study.default_tasks.values():
        folds = fold
        try:
            splits = make_splits(study, task, readable, None, 0)
            folds = splits.fold if fold is None else fold
            notes += [f"{said}." for said in left_out_sentences(study, task, splits)]
        except Unfit as reason:
            unfit.append(str(reason))
        except InputError as error:
            refused.append(str(error))
        tasks[task.name] = _count(study, task, folds)
    (refused if len(unfit) == len(tasks) else notes).extend(unfit)
    across = [] if fold is None else in_several(study.named_subjects[used], fold[used])
    names = study.columns.get("subject", [])
    return Check(
        study=study,
        copies=copies,
        tasks=tasks,
        subjects=len(np.unique(study.named_subjects[used])),
        subjects_across=tuple(names[used[places[0]]] for places in across),
        copies_across=tuple(_across(groups, fold)),
        too_large=copies.too_many_alike(len(study)),
        placeholders=study.placeholders,
        conflicts=tuple(_conflicts(study, groups)),
        refused=tuple(dict.fromkeys(refused)),
        notes=tuple(dict.fromkeys(notes)),
    )


def without_copies(study: Study, copies: Copies) -> Study:
    """The study with copies marked as not to be used; no row is moved or removed.

    The first row of every group stays in use, and so do rows that repeat its path; where the labels of
    a group conflict no row stays, since nothing tells which label is right. Images that are alike in a
    group too large to be copies are left alone.
    """
    use = list(study.columns.get("use", ["1"] * len(study)))
    for group in copies.acted_on(len(study)):
        rows = [row for row in group if use[row] != "0"]
        unsure = bool(_conflicts(study, [tuple(rows)]))
        for row in rows:
            if unsure or study.paths[row] != study.paths[rows[0]]:
                use[row] = "0"
    return replace(study, columns={**study.columns, "use": use}, copies=copies)


def cautions(study: Study) -> tuple[str, ...]:
    """A sentence for each way in which copies may still stand on both sides of a split, or are left out."""
    if study.copies is None:
        return ()
    sentences = []
    for group in study.placeholders:
        subjects = {study.columns["subject"][row] for row in group} - {""}
        sentences.append(
            f"{len(group)} rows of {len(subjects)} subjects have the same file as "
            f"{study.paths[group[0]]}: a placeholder, left out"
        )
    alike = study.copies.too_many_alike(len(study))
    if not alike and kept_copies(study, None) is not study.copies:
        alike = study.copies.groups
    if alike:
        sentences.append(
            f"{sum(map(len, alike))} images are alike, too many to be taken for copies (such as "
            f"{study.paths[alike[0][0]]} and {study.paths[alike[0][1]]}): if they are frames of a film or "
            "versions of one picture, give them a column subject, or results are inflated"
        )
    return tuple(sentences)


def _count(study: Study, task: Task, fold: Ints | None) -> TaskCount:
    if task.is_number:
        return _count_numbers(study, task, fold)
    if task.has_labels:
        return _count_labels(study, task, fold)
    y = np.where(study.used, study.labels(task.name), -1)
    numbers = [] if fold is None else range(int(fold[y >= 0].max(initial=-1)) + 1)
    whole = _classes(task, y)
    folds = [] if fold is None else [_classes(task, y[fold == number]) for number in numbers]
    absent = [
        (number, name)
        for number, count in enumerate(folds)
        for name in task.classes
        if whole[name] and count[name] == whole[name]
    ]
    return TaskCount(
        sum(whole.values()),
        whole,
        tuple(Count(sum(classes.values()), classes) for classes in folds),
        tuple(absent),
    )


def _count_numbers(study: Study, task: Task, fold: Ints | None) -> TaskCount:
    """The count of a number's rows, under its range in place of classes."""
    values = study.numbers(task.name)
    here = study.used & ~np.isnan(values)
    if not here.any():
        return TaskCount(0, {}, (), ())
    low, middle, high = (float(f(values[here])) for f in (np.min, np.median, np.max))
    name = f"{low:g} to {high:g}, median {middle:g}"
    own = np.array([], dtype=np.int64) if fold is None else fold[here]
    sizes = [int((own == number).sum()) for number in range(int(own.max(initial=-1)) + 1)]
    return TaskCount(
        int(here.sum()), {name: int(here.sum())}, tuple(Count(n, {name: n}) for n in sizes), ()
    )


def _count_labels(study: Study, task: Task, fold: Ints | None) -> TaskCount:
    """The count of the images that have any label known, and of those with each."""
    y = study.targets(task.name)
    here = study.used & (y >= 0).any(1)

    def count_of(some: Bools) -> Count:
        return Count(int(some.sum()), dict(zip(task.classes, (y[some] == 1).sum(0), strict=True)))

    numbers = [] if fold is None else range(int(fold[here].max(initial=-1)) + 1)
    folds = tuple(count_of(here & (fold == number)) for number in numbers)
    return TaskCount(int(here.sum()), count_of(here).classes, folds, ())


def _classes(task: Task, y: Ints) -> dict[str, int]:
    counts = np.bincount(y[y >= 0], minlength=len(task.classes))
    return dict(zip(task.classes, counts.tolist(), strict=True))


def _across(groups: list[Group], fold: Ints | None) -> list[Group]:
    if fold is None:
        return []
    return [group for group in groups if len({int(fold[row]) for row in group} - {-1}) > 1]


def _conflicts(study: Study, groups: list[Group]) -> list[Conflict]:
    conflicts = []
    for name, task in study.default_tasks.items():
        if task.columns:
            continue
        labels = study.columns[name]
        for group in groups:
            given = tuple(labels[row] for row in group)
            if len(set(given) - {""}) > 1:
                conflicts.append(Conflict(name, group, given))
    return conflicts
