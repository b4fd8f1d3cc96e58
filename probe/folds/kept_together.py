"""The rows that no split may part: those of one subject, and copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from features.arrays import Ints
from features.study.copies import Copies
from features.study.study import Study
from probe.folds.given import has_split, own_folds


def kept_together(study: Study, folds: int | None) -> Ints:
    """A number for every row, `(n,)`, that rows share which no split may part: subjects and copies.

    Where the data set's own folds or split are kept to, likeness by the kind of picture is no copy.
    """
    copies = kept_copies(study, folds)
    return (study if copies is study.copies else replace(study, copies=copies)).subjects


def kept_copies(study: Study, folds: int | None) -> Copies | None:
    """The copies that no split may part; without those that are alike by their kind, in given folds."""
    given = own_folds(study) is not None or (folds is None and has_split(study))
    if given and study.copies is not None:
        return study.copies.plausible(len(study))
    return study.copies


def in_several(subjects: Ints, fold: Ints) -> list[Ints]:
    """For every subject that is in several folds its places in `subjects`, `(n,)`."""
    order = np.argsort(subjects, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(subjects[order])) + 1)
    return [group for group in groups if len(np.unique(fold[group])) > 1]


def unlike(places: Ints, fold: Ints) -> tuple[int, int]:
    """Two of the places whose folds differ."""
    other = places[fold[places] != fold[places[0]]][0]
    return int(places[0]), int(other)
