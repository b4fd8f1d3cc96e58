"""How frequent every label is among the training images: the floor of several labels an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.arrays import Bools, Floats, Ints
from features.study.alike import held_rows
from features.study.study import Study
from probe.analysis.outcomes import Outcomes, measured
from probe.analysis.statistics import Interval
from probe.folds.given import training_of
from probe.results.label_metrics import LabelledImages
from probe.results.metrics import measure_labels
from probe.results.predictions import Key
from probe.results.rows import Row

NAME = "control:prevalence"
METHOD = "prevalence"


def stored(task: str) -> Key:
    """The key in predictions/ of its scores."""
    return (task, NAME, METHOD, METHOD)


def prevalence_rows(
    study: Study,
    task: str,
    fold: Ints,
    held: Bools,
    under: str,
    seed: int = 0,
    left_out: Sequence[int] = (),
) -> tuple[Floats, list[Row]]:
    """The share of the training images with each label as its score, `(n, labels)`; and a row per fold.

    All images score alike, so that the average precision of a label is how frequent it is among those
    tested. The arguments are those of `majority_rows`, and the labels that take no part.
    """
    y = study.targets(task)
    scores = np.full(y.shape, np.nan, dtype=np.float32)
    rows = []
    for number in range(int(fold.max()) + 1):
        train, test = training_of(study, task, fold, number, held), fold == number
        train = train if train.any() else test  # the only fold: its own shares
        known, has = (y[train] >= 0).sum(0), (y[train] == 1).sum(0)
        shares = np.divide(has, known, out=np.full(len(has), np.nan), where=known > 0)
        shares[list(left_out)] = np.nan
        scores[test] = shares
        images = LabelledImages(scores[test], y[test], fold[test], "shares")
        rows.append(
            Row(
                backbone=NAME,
                domain="control",
                layer=METHOD,
                method=METHOD,
                task=task,
                fold=number,
                **measure_labels(images),
                n_test=int(test.sum()),
                n_train=int(train.sum()),
                seed=seed,
                protocol=under,
            )
        )
    return scores, rows


def prevalence(outcomes: Outcomes) -> tuple[tuple[Row, ...], dict[str, Interval]] | None:
    """A row for every fold, and every metric over all tested images; None without predictions."""
    if outcomes.fold is None:
        return None
    held = held_rows(outcomes.study, outcomes.backbone)
    args = (outcomes.study, outcomes.task, outcomes.fold, held)
    scores, rows = prevalence_rows(*args, "", left_out=outcomes.left_out_labels)
    tested = outcomes.fold >= 0
    images = LabelledImages(scores[tested], outcomes.y[tested], outcomes.fold[tested], "shares")
    return tuple(rows), measured(images, outcomes.subjects[tested], outcomes.metrics)
