"""The splits of several tasks that share one network."""

from __future__ import annotations

import numpy as np

from features.arrays import Ints
from features.data.tasks import Task
from features.errors import InputError
from features.study.study import Study
from probe.folds.kept_together import in_several, kept_together, unlike
from probe.folds.splits import Splits


def joint_splits(
    study: Study, tasks: tuple[Task, ...], each: list[Splits], folds: int | None
) -> Splits:
    """The splits of tasks that share a network: a subject is in the same part for all of them."""
    first, *others = each
    part = first.part.copy()
    for task, other in zip(tasks[1:], others, strict=True):
        both = (part >= 0) & (other.part >= 0)
        alike = (
            np.array_equal(other.fold_of_part, first.fold_of_part)
            and other.choosing == first.choosing
        )
        if (part[both] != other.part[both]).any() or not alike:
            raise InputError(
                f"tasks {tasks[0].name} and {task.name}: their folds differ, so that one network "
                "would be tested on what it was trained on; fine-tune them one by one, or give the "
                "data a column fold."
            )
        part = np.where(part < 0, other.part, part)
    if others:
        _check_apart(study, tasks, part, folds)
    return Splits(part, first.fold_of_part, first.choosing)


def _check_apart(study: Study, tasks: tuple[Task, ...], part: Ints, folds: int | None) -> None:
    """Refuse folds that part a subject: a task keeps together only the images that it labels itself."""
    rows = np.flatnonzero(part >= 0)
    across = in_several(kept_together(study, folds)[rows], part[rows])
    if across:
        first, other = (study.paths[rows[place]] for place in unlike(across[0], part[rows]))
        raise InputError(
            f"tasks {' and '.join(task.name for task in tasks)}: {len(across)} subjects or copies have "
            f"images in several folds (first: {first} and {other}), labelled for different tasks, so that "
            "one network would be tested on subjects it was trained on; fine-tune the tasks one by "
            "one, or give the data a column fold with every subject in one."
        )
