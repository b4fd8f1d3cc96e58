"""Splits made of a study: its own folds or split, or folds stratified by class and grouped by subject."""

from __future__ import annotations

import warnings
from dataclasses import replace
from shlex import quote

import numpy as np

from features.arrays import Bools, Ints
from features.data.tasks import Task
from features.errors import InputError, OptionError
from features.study.study import Study
from probe.folds.given import SPLIT_NAMES, has_split, own_folds
from probe.folds.kept_together import in_several, kept_together, unlike
from probe.folds.splits import Splits, Unfit

_MANY = 1_000_000
"""Rows from which subjects are dealt out; to weigh each against all folds took half a minute."""
_INNER_PARTS = 3  # of the training rows, where only one other fold is left


def make_splits(study: Study, task: Task, readable: Bools, folds: int | None, seed: int) -> Splits:
    """The data set's own folds or split where it has them, else stratified folds grouped by subject.

    Of a split (train, val and test) the test images are the only fold; val chooses, and the refit is on
    train and val. Without val, parts of train choose; without test, val is tested.
    Folds that are made serve all tasks alike, wherever every combination of labels has enough images.
    A number, and a task that is one only when it is named, have no say in them.

    Args:
        study: The study.
        task: The task, whose classes are spread evenly over the folds.
        readable: Rows with features, `(n,)`.
        folds: How many to make, in the place of a split; None: the data set's own, or five.
        seed: Of the folds that are made.

    A class that a training set would lack, since all its rows are in one fold, takes no part.

    Raises:
        Unfit: There are fewer subjects than folds, or fewer than two classes that can be learnt.
        InputError: The data set's own folds or its split share a subject.
    """
    rows = np.flatnonzero(study.labelled(task.name) & readable & study.used)
    if not len(rows):
        if not (study.labelled(task.name) & study.used).any():
            raise Unfit(
                f"task {task.name}: no image with a label takes part (one that is listed under several "
                "labels does not); correct the labels."
            )
        raise Unfit(f"task {task.name}: no image with a label has features; extract some first.")
    if folds is None and has_split(study):
        return _learnable(_split(study, task, rows, seed), task, study)
    if own_folds(study) is not None:
        fold = _own_folds(study, rows, folds)
    else:
        wanted = 5 if folds is None else folds
        _check_subjects(study, task, rows, wanted)
        shared = _shared_folds(study, rows, readable, wanted, seed)
        fold = _made_folds(study, task, rows, wanted, seed) if shared is None else shared
    many = int(fold.max()) + 1
    part = np.full(len(study), -1, dtype=np.int64)
    if many > 2:
        part[rows] = fold
        splits = Splits(part, np.arange(many))
    else:
        for number in range(many):
            here = rows[fold == number]
            inner = _made_folds(study, task, here, _INNER_PARTS, seed)
            part[here] = number * _INNER_PARTS + inner
        splits = Splits(part, np.repeat(np.arange(many), _INNER_PARTS))
    splits = _learnable(splits, task, study)
    _check_inner(splits, task)
    return splits


def _split(study: Study, task: Task, rows: Ints, seed: int) -> Splits:
    file, own = study.folder / "images.csv", study.columns["split"]
    splits = [own[row] for row in rows]
    if "" in splits:
        raise InputError(
            f"{file}: some rows have a split and some have none; fill in the column split, or make "
            "folds with --folds 5."
        )
    for name in splits:
        if name.casefold() not in SPLIT_NAMES:
            raise InputError(
                f"{file}: the split {name!r} is not train, val or test; rename it, or make "
                "folds with --folds 5."
            )
    names = np.array([SPLIT_NAMES[name.casefold()] for name in splits])
    if "test" not in names:
        names[names == "val"] = "test"
    for name in ("train", "test"):
        if name not in names:
            raise Unfit(
                f"{file}: task {task.name} has no image of the split {name}; add some, or make folds "
                "with --folds 5."
            )
    fold = np.array([("train", "val", "test").index(name) for name in names])
    _check_across(study, rows, fold, "split")
    part = np.full(len(study), -1, dtype=np.int64)
    if "val" in names:
        part[rows] = fold
        return Splits(part, np.array([-1, -1, 0]), (1,))
    train = rows[fold == 0]
    if len(np.unique(study.subjects[train])) < 2:
        raise Unfit(
            f"{file}: all images of the split train are of one subject, so nothing is left to choose "
            "C on; add data."
        )
    part[rows] = _INNER_PARTS
    part[train] = _made_folds(study, task, train, _INNER_PARTS, seed)
    return Splits(part, np.array([-1] * _INNER_PARTS + [0]))


def _own_folds(study: Study, rows: Ints, folds: int | None) -> Ints:
    own = study.columns["fold"]
    names = sorted({own[row] for row in rows})
    if "" in names:
        raise InputError(
            f"{study.folder / 'images.csv'}: some rows have a fold and some have none; fill in the "
            "column fold, or leave it out."
        )
    if len(names) < 2:
        raise InputError(
            f"{study.folder / 'images.csv'}: all rows are in fold {names[0]}; a cross-validation "
            "needs two folds or more."
        )
    if folds is not None and folds != len(names):
        raise InputError(
            f"--folds {folds}: this data set comes with {len(names)} folds of its own; leave "
            "--folds out."
        )
    fold = np.array([names.index(own[row]) for row in rows], dtype=np.int64)
    _check_across(study, rows, fold, "fold")
    return fold


def _check_across(study: Study, rows: Ints, fold: Ints, what: str) -> None:
    across = in_several(study.named_subjects[rows], fold)
    if len(across):
        name = study.columns["subject"][int(rows[across[0][0]])]
        raise InputError(
            f"{study.folder / 'images.csv'}: {len(across)} subjects are in several {what}s (first: "
            f"{name}); a subject must be in one, or the results are inflated."
        )
    across = in_several(kept_together(study, None)[rows], fold)
    if len(across):
        first, second = unlike(across[0], fold)
        raise InputError(
            f"{study.folder / 'images.csv'}: {len(across)} images have copies in another {what} (first: "
            f"{study.paths[rows[first]]} and {study.paths[rows[second]]}); `probe data check "
            f"--study {quote(str(study.folder))} --drop-duplicates` leaves the copies out."
        )


def _shared_folds(study: Study, rows: Ints, readable: Bools, folds: int, seed: int) -> Ints | None:
    """Folds of `rows` that are the same for every task, or None where that would unbalance one.

    They are stratified by the combination of all labels, so each task's classes are spread evenly
    too; that needs `folds` images of every combination.
    """
    # Columns of several labels an image too, so that folds stay as they were before these were named.
    names = [n for n, task in study.tasks.items() if task.has_classes and not task.when_named]
    if not names:
        return None
    codes = np.stack([study.labels(name) for name in names], axis=1)  # (n, tasks)
    everyone = np.flatnonzero(readable & study.used & (codes >= 0).any(1))
    _, joint = np.unique(codes[everyone], axis=0, return_inverse=True)
    if np.bincount(joint).min() < folds:
        return None
    fold = np.full(len(study), -1, dtype=np.int64)
    fold[everyone] = _stratified(study.subjects[everyone], joint, folds, seed)
    here = fold[rows]
    return here if here.min() >= 0 and len(np.unique(here)) == folds else None


def _made_folds(study: Study, task: Task, rows: Ints, folds: int, seed: int) -> Ints:
    return _stratified(study.subjects[rows], _strata(study, task, rows), folds, seed)


def _strata(study: Study, task: Task, rows: Ints) -> Ints:
    """What is spread evenly over the folds, `(rows,)`: classes, or the tenths that numbers lie in.

    Of several labels an image it is the rarest that an image has.
    """
    if task.has_classes:
        return study.labels(task.name)[rows]
    if task.has_labels:
        has = study.targets(task.name)[rows] == 1
        rarest_first = np.argsort(has.sum(0), kind="stable")
        return np.where(has.any(1), has[:, rarest_first].argmax(1), -1)
    values = study.numbers(task.name)[rows]
    return np.searchsorted(np.quantile(values, np.arange(1, 10) / 10), values)


def _check_subjects(study: Study, task: Task, rows: Ints, folds: int) -> None:
    if folds < 2:
        raise OptionError(f"--folds {folds}: a cross-validation needs two folds or more.")
    subjects = len(np.unique(study.subjects[rows]))
    if subjects < 2:
        one = "one subject" if study.whose == "subjects" else "one group of copies"
        raise Unfit(
            f"task {task.name}: all images are of {one}, so none can be held out; add data."
        )
    if subjects < folds:
        raise Unfit(
            f"task {task.name}: {subjects} {study.whose} are fewer than {folds} folds; use --folds "
            f"{subjects} or fewer, or add data."
        )


def _stratified(subjects: Ints, y: Ints, folds: int, seed: int) -> Ints:
    if len(y) >= _MANY:
        return _dealt(subjects, y, folds, seed)
    fold = np.zeros(len(y), dtype=np.int64)
    from probe.folds.stratified import QuickStratifiedGroupKFold  # a second, where folds are given

    splitter = QuickStratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes with fewer images than folds
            for number, (_, test) in enumerate(splitter.split(y, y, subjects)):
                fold[test] = number
    except ValueError:  # the same, where it is true of all classes
        return _spread(subjects, folds, seed)
    if len(np.unique(fold)) < folds:  # the splitter may leave a fold empty on tiny data
        return _spread(subjects, folds, seed)
    return fold


def _spread(subjects: Ints, folds: int, seed: int) -> Ints:
    """Subjects dealt out to folds in random order."""
    _, number = np.unique(subjects, return_inverse=True)
    order = np.random.default_rng(seed).permutation(number.max() + 1)
    return _one_by_one(order, folds)[number]


def _dealt(subjects: Ints, y: Ints, folds: int, seed: int) -> Ints:
    """Subjects dealt out one by one, by the rarest class that each has, those of many images first."""
    _, number, size = np.unique(subjects, return_inverse=True, return_counts=True)
    _, of_row, images = np.unique(y, return_inverse=True, return_counts=True)
    rarity = np.empty(len(images), dtype=np.int64)
    rarity[np.argsort(images, kind="stable")] = np.arange(len(images))  # 0 is the rarest
    rarest = np.full(len(size), len(images))
    np.minimum.at(rarest, number, rarity[of_row])
    order = np.random.default_rng(seed).permutation(len(size))
    order = order[np.lexsort((-size[order], rarest[order]))]
    return _one_by_one(order, folds)[number]


def _one_by_one(order: Ints, folds: int) -> Ints:
    """The fold of each of the subjects that are dealt out in this order."""
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % folds
    return fold


def _learnable(splits: Splits, task: Task, study: Study) -> Splits:
    """The splits without the classes that some training set lacks; those of a number as they are.

    Of several labels an image the rows stay, and what is left out are labels.

    Raises:
        Unfit: Fewer than two classes are left, or a fold without images, or all numbers are the same.
    """
    if task.is_number:
        if len(np.unique(study.numbers(task.name)[splits.part >= 0])) < 2:
            raise Unfit(f"task {task.name}: all images with features have the same number.")
        return splits
    if task.has_labels:
        return _learnable_labels(splits, task, study)
    y = study.labels(task.name)
    present = np.unique(y[splits.part >= 0])
    if len(present) < 2:
        only = task.classes[int(present[0])]
        raise Unfit(
            f"task {task.name}: all images with features are of the class {only!r}; a task needs at "
            "least two classes."
        )
    fold_without: dict[int, int] = {}
    for fold in splits.folds:
        seen = np.unique(y[splits.training_rows(splits.tested(fold))])
        fold_without |= dict.fromkeys(np.setdiff1d(present, seen).tolist(), fold)
    if not fold_without:
        return splits
    part = np.where(np.isin(y, list(fold_without)), -1, splits.part)
    left = replace(splits, part=part, too_small=tuple(sorted(fold_without)))
    held = np.unique(left.fold[left.fold >= 0])
    if len(present) - len(fold_without) < 2 or len(held) < len(splits.folds):
        first, fold = next(iter(fold_without.items()))
        where = f"fold {fold}" if splits.fold_of_part.min() >= 0 else "the split test"
        raise Unfit(
            f"task {task.name}: all images of the class {task.classes[first]!r} are in {where}, so "
            "nothing can be learnt about it there, and without such classes too little is left; merge "
            "them with others."
        )
    return left


def _learnable_labels(splits: Splits, task: Task, study: Study) -> Splits:
    y = study.targets(task.name)
    able = np.ones(y.shape[1], dtype=bool)
    for fold in splits.folds:
        known = y[splits.training_rows(splits.tested(fold))]
        able &= (known == 1).any(0) & (known == 0).any(0)
    tested = y[splits.fold >= 0]
    able &= (tested == 1).any(0) & (tested == 0).any(0)
    if not able.any():
        raise Unfit(
            f"task {task.name}: no label is both there and absent outside every fold, so nothing can be "
            "learnt; add data."
        )
    for fold in splits.folds:
        here = y[splits.fold == fold][:, able]
        if not ((here == 1).any(0) & (here == 0).any(0)).any():
            raise Unfit(
                f"task {task.name}: in fold {fold} every label is on all images or on none, so nothing can "
                "be measured there; make fewer folds, or add data."
            )
    return replace(splits, too_small=tuple(np.flatnonzero(~able).tolist()))


def _check_inner(splits: Splits, task: Task) -> None:
    for fold in splits.folds:
        for _, left_out in splits.inner(fold):
            if not len(splits.training_rows(left_out)):
                raise Unfit(
                    f"task {task.name}: outside fold {fold} all images are of one subject, so nothing "
                    "is left to choose C on; add data."
                )
