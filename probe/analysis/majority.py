"""The majority class: what always saying the class most frequent in training is worth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.study.alike import held_rows
from features.study.study import Study
from probe.analysis.outcomes import Outcomes, interval, per_image
from probe.analysis.statistics import Interval
from probe.folds import training_of
from probe.results.metrics import measure
from probe.results.predictions import Key
from probe.results.rows import Row

NAME = "control:majority"
METHOD = "majority"


def stored(task: str) -> Key:
    """Where predictions.h5 holds its scores."""
    return (task, NAME, METHOD, METHOD)


def majority_rows(
    study: Study,
    task: str,
    fold: npt.NDArray[np.int64],
    held: npt.NDArray[np.bool_],
    ordered: bool,
    under: str,
    seed: int = 0,
) -> tuple[npt.NDArray[np.float32], list[Row]]:
    """Scores, `(n, K)`, 1 for the class that is said and NaN where not tested; and a row for every fold.

    Args:
        study: The study.
        task: The task's name.
        fold: The fold in which each image is tested, `(n,)`, -1 where it is not.
        held: The rows with features, `(n,)`; of a split, those outside it are not trained on.
        ordered: Whether the classes have an order.
        under: The hash of the protocol.
        seed: Of the folds.
    """
    y = study.labels(task)
    scores = np.full((len(y), len(study.tasks[task].classes)), np.nan, dtype=np.float32)
    rows = []
    for one in range(int(fold.max()) + 1):
        train, test = training_of(study, task, fold, one, held), fold == one
        train = train if train.any() else test  # one fold alone: its own most frequent class
        scores[test] = np.arange(scores.shape[1]) == np.bincount(y[train]).argmax()
        rows.append(
            Row(
                backbone=NAME,
                domain="control",
                layer=METHOD,
                method=METHOD,
                task=task,
                fold=one,
                **measure(scores[test], y[test], ordered),
                n_test=int(test.sum()),
                n_train=int(train.sum()),
                seed=seed,
                protocol=under,
            )
        )
    return scores, rows


def majority(seen: Outcomes) -> tuple[tuple[Row, ...], dict[str, Interval]] | None:
    """A row for every fold, and each metric over all tested images; None without predictions."""
    if seen.fold is None:
        return None
    held = held_rows(seen.study, seen.backbone)
    scores, rows = majority_rows(seen.study, seen.task, seen.fold, held, seen.ordered, "")
    tested = seen.fold >= 0
    values = per_image(scores[tested].argmax(1), seen.y[tested], seen.fold[tested])
    subjects = seen.subjects[tested]
    return tuple(rows), {m: interval(m, values[m], subjects) for m in seen.metrics}
