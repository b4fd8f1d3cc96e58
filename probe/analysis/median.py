"""The median of the training images' numbers: the floor of a number task."""

from __future__ import annotations

import numpy as np

from features.arrays import Bools, Floats, Ints
from features.study.alike import held_rows
from features.study.study import Study
from probe.analysis.outcomes import Outcomes, measured
from probe.analysis.statistics import Interval
from probe.folds.given import training_of
from probe.results.metrics import measure_numbers
from probe.results.number_metrics import PredictedNumbers
from probe.results.predictions import Key
from probe.results.rows import Row

NAME = "control:median"
METHOD = "median"


def stored(task: str) -> Key:
    """The key in predictions/ of the median's predictions."""
    return (task, NAME, METHOD, METHOD)


def median_rows(
    study: Study, task: str, fold: Ints, held: Bools, under: str, seed: int = 0
) -> tuple[Floats, list[Row]]:
    """The median as the prediction of every image, `(n, 1)`, NaN where not tested; and a row per fold.

    No constant has a smaller mean absolute error on the training images. The arguments are those of
    `majority_rows`.
    """
    y = study.numbers(task)
    scores = np.full((len(y), 1), np.nan, dtype=np.float32)
    rows = []
    for number in range(int(fold.max()) + 1):
        train, test = training_of(study, task, fold, number, held), fold == number
        train = train if train.any() else test  # the only fold: its own median
        scores[test] = np.median(y[train])
        rows.append(
            Row(
                backbone=NAME,
                domain="control",
                layer=METHOD,
                method=METHOD,
                task=task,
                fold=number,
                **measure_numbers(scores[test, 0].astype(np.float64), y[test]),
                n_test=int(test.sum()),
                n_train=int(train.sum()),
                seed=seed,
                protocol=under,
            )
        )
    return scores, rows


def median(outcomes: Outcomes) -> tuple[tuple[Row, ...], dict[str, Interval]] | None:
    """A row for every fold, and every metric over all tested images; None without predictions."""
    if outcomes.fold is None:
        return None
    held = held_rows(outcomes.study, outcomes.backbone)
    scores, rows = median_rows(outcomes.study, outcomes.task, outcomes.fold, held, "")
    tested = outcomes.fold >= 0
    images = PredictedNumbers(scores[tested, 0].astype(np.float64), outcomes.numbers[tested])
    return tuple(rows), measured(images, outcomes.subjects[tested], outcomes.metrics)
