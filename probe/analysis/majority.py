"""The majority class: the accuracy of always predicting the class most frequent in training."""

from __future__ import annotations

import numpy as np

from features.arrays import Bools, Floats, Ints
from features.study.alike import held_rows
from features.study.study import Study
from probe.analysis.outcomes import Outcomes, measured
from probe.analysis.statistics import Interval
from probe.folds.given import training_of
from probe.results.class_metrics import PredictedImages
from probe.results.metrics import measure
from probe.results.predictions import Key
from probe.results.rows import Row

NAME = "control:majority"
METHOD = "majority"


def stored(task: str) -> Key:
    """The key in predictions/ of the majority class's scores."""
    return (task, NAME, METHOD, METHOD)


def majority_rows(
    study: Study,
    task: str,
    fold: Ints,
    held: Bools,
    ordered: bool,
    under: str,
    seed: int = 0,
) -> tuple[Floats, list[Row]]:
    """Scores `(n, K)`, 1 for the predicted class and NaN where not tested; and a row for every fold.

    Args:
        study: The study.
        task: The task's name.
        fold: The fold in which each image is tested, `(n,)`, -1 where it is not tested.
        held: Whether each row has features, `(n,)`; where the data set has a split, rows without them
            are not trained on.
        ordered: Whether the classes have an order.
        under: The hash of the protocol.
        seed: The seed of the folds.
    """
    y = study.labels(task)
    scores = np.full((len(y), len(study.tasks[task].classes)), np.nan, dtype=np.float32)
    rows = []
    for number in range(int(fold.max()) + 1):
        train, test = training_of(study, task, fold, number, held), fold == number
        train = train if train.any() else test  # the only fold: its own most frequent class
        scores[test] = np.arange(scores.shape[1]) == np.bincount(y[train]).argmax()
        rows.append(
            Row(
                backbone=NAME,
                domain="control",
                layer=METHOD,
                method=METHOD,
                task=task,
                fold=number,
                **measure(scores[test], y[test], ordered),
                n_test=int(test.sum()),
                n_train=int(train.sum()),
                seed=seed,
                protocol=under,
            )
        )
    return scores, rows


def majority(outcomes: Outcomes) -> tuple[tuple[Row, ...], dict[str, Interval]] | None:
    """A row for every fold, and every metric over all tested images; None without predictions."""
    if outcomes.fold is None:
        return None
    held = held_rows(outcomes.study, outcomes.backbone)
    scores, rows = majority_rows(
        outcomes.study, outcomes.task, outcomes.fold, held, outcomes.ordered, ""
    )
    tested = outcomes.fold >= 0
    guessed, y, fold = scores[tested], outcomes.y[tested], outcomes.fold[tested]
    images = PredictedImages(guessed.argmax(1), y, fold, guessed)
    return tuple(rows), measured(images, outcomes.subjects[tested], outcomes.metrics)
