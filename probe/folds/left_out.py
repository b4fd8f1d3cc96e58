"""What of a task takes no part in its folds, in sentences."""

from __future__ import annotations

import numpy as np

from features.data.several_labels import BETWEEN
from features.data.tasks import Task
from features.study.study import Study
from probe.counts import count
from probe.folds.splits import Splits

_NAMED = 5
"""Classes that a sentence names."""


def left_out_sentences(study: Study, task: Task, splits: Splits) -> list[str]:
    """Which classes or labels take no part in a task, and why; none where all do."""
    made = [_too_small(study, task, splits)]
    if task.has_labels:
        made.append(_unknown(study, task))
    elif task.has_classes:
        made.append(_unread(study, task, splits))
    return [sentence for sentence in made if sentence is not None]


def _unread(study: Study, task: Task, splits: Splits) -> str | None:
    """Which classes have rows and no image with features."""
    y = study.labels(task.name)
    there = np.setdiff1d(np.unique(y[study.used & (y >= 0)]), np.unique(y[splits.part >= 0]))
    gone = np.setdiff1d(there, splits.too_small)
    if not len(gone):
        return None
    names = ", ".join(repr(task.classes[number]) for number in gone[:_NAMED])
    more = f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
    return (
        f"{task.name}: no image of the class{'es' * (len(gone) > 1)} {names}{more} is readable and "
        f"extracted, so {'they take' if len(gone) > 1 else 'it takes'} no part; chance counts all classes"
    )


def _too_small(study: Study, task: Task, splits: Splits) -> str | None:
    """Which classes take no part in a task and why; None where all do."""
    if not splits.too_small:
        return None
    many = len(splits.too_small)
    names = ", ".join(repr(task.classes[number]) for number in splits.too_small[:_NAMED])
    more = f" and {many - _NAMED} more" if many > _NAMED else ""
    if task.has_labels:
        return (
            f"{task.name}: the label{'s' * (many > 1)} {names}{more} {'are' if many > 1 else 'is'} left "
            "out: of some training set, or of all tested images, every one has it, or none"
        )
    images = int((np.isin(study.labels(task.name), splits.too_small) & study.used).sum())
    has_split = splits.fold_of_part.min() < 0
    return (
        f"{task.name}: all images of the class{'es' * (many > 1)} {names}{more} are in "
        f"{'the split test' if has_split else 'one fold'}, so nothing can be learnt about "
        f"{'them' if many > 1 else 'it'} there; {images:,} image{'s' * (images > 1)} "
        f"{'are' if images > 1 else 'is'} left out of this task"
    )


def _unknown(study: Study, task: Task) -> str | None:
    """How many labels of images in use are not known; None where all are."""
    y = study.targets(task.name)[study.used]
    unknown = int((y < 0).sum())
    if not unknown:
        return None
    if task.columns:
        return f"{task.name}: {unknown:,} of {y.size:,} labels are not known and left out"
    images = unknown // y.shape[1]
    return (
        f"{task.name}: {count(images, 'image')} without any label left out; an image that is known to have "
        f"none of them is written {BETWEEN}"
    )
