"""The floor of a task: the scores that guessing gives every image, from the labels of training alone.

Of classes it guesses the most frequent one, of a number the median, and of several labels an image how
frequent each is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from features.arrays import Bools, Floats, Ints
from features.data.tasks import Kind, Task
from features.study.alike import held_rows
from features.study.study import Study
from probe.analysis.outcomes import Outcomes, images_of, measured
from probe.analysis.statistics import Interval
from probe.folds.given import training_of
from probe.results.metrics import kind_of, measure_task
from probe.results.predictions import Key
from probe.results.rows import Row

METHODS: dict[Kind, str] = {"classes": "majority", "number": "median", "labels": "prevalence"}
"""The method of the rows, by the kind of the task."""
NAMES = tuple(f"control:{method}" for method in METHODS.values())
"""What their column `backbone` says."""


def stored(task: Task) -> Key:
    """The key in predictions/ of its scores."""
    method = METHODS[task.kind]
    return (task.name, f"control:{method}", method, method)


def floor_rows(
    study: Study,
    task: Task,
    fold: Ints,
    held: Bools,
    under: str = "",
    seed: int = 0,
    left_out: Sequence[int] = (),
) -> tuple[Floats, list[Row]]:
    """The scores of all images, `(n, K)`, alike within a fold and NaN where not tested; and a row per fold.

    The most frequent class scores 1 and the others 0. No constant has a smaller mean absolute error on the
    training images than their median. Where each label's score is its share of the training images, its
    average precision is how frequent it is among those tested.

    Args:
        study: The study.
        task: The task, whose classes may be ordered.
        fold: The fold in which each image is tested, `(n,)`, -1 where it is not tested.
        held: Whether each row has features, `(n,)`; where the data set has a split, rows without them
            are not trained on.
        under: The hash of the protocol.
        seed: The seed of the folds.
        left_out: Labels that take no part, of several an image.
    """
    y, (_, name, method, _) = study.truth(task.name), stored(task)
    scores = np.full((len(y), len(task.classes) or 1), np.nan, dtype=np.float32)
    rows = []
    for number in range(int(fold.max()) + 1):
        train, test = training_of(study, task.name, fold, number, held), fold == number
        train = train if train.any() else test  # the only fold: guessed from itself
        scores[test] = _GUESSES[task.kind](y[train], scores.shape[1])
        scores[np.ix_(test, list(left_out))] = np.nan
        rows.append(
            Row(
                backbone=name,
                domain="control",
                layer=method,
                method=method,
                task=task.name,
                fold=number,
                **measure_task(task, scores[test], y[test], kind_of(method)),
                n_test=int(test.sum()),
                n_train=int(train.sum()),
                seed=seed,
                protocol=under,
            )
        )
    return scores, rows


def floor(outcomes: Outcomes) -> tuple[tuple[Row, ...], dict[str, Interval]] | None:
    """A row for every fold, and every metric over all tested images; None without predictions."""
    study, fold = outcomes.study, outcomes.fold
    if fold is None:
        return None
    held = held_rows(study, outcomes.backbone)
    task = replace(study.tasks[outcomes.task], ordered=outcomes.ordered)
    scores, rows = floor_rows(study, task, fold, held, left_out=outcomes.left_out_labels)
    tested = fold >= 0
    kind = kind_of(METHODS[task.kind])
    images = images_of(task, scores[tested], study.truth(task.name)[tested], fold[tested], kind)
    return tuple(rows), measured(images, outcomes.subjects[tested], outcomes.metrics)


def _majority(y: Ints, classes: int) -> Any:
    return np.arange(classes) == np.bincount(y).argmax()


def _median(y: Any, _: int) -> Any:
    return np.median(y)


def _shares(y: Ints, labels: int) -> Any:
    known, has = (y >= 0).sum(0), (y == 1).sum(0)
    return np.divide(has, known, out=np.full(labels, np.nan), where=known > 0)


_GUESSES: dict[Kind, Callable[[Any, int], Any]] = {
    "classes": _majority,
    "number": _median,
    "labels": _shares,
}
