"""The majority class: what always saying the class most frequent in training is worth."""

from __future__ import annotations

import numpy as np

from probe.folds import training_of
from probe.metrics import measure
from probe.outcomes import Outcomes, interval, per_image
from probe.results import Row
from probe.statistics import Interval

NAME = "control:majority"


def majority(seen: Outcomes) -> tuple[tuple[Row, ...], dict[str, Interval]] | None:
    """A row for every fold, and each metric over all tested images; None without predictions."""
    if seen.fold is None:
        return None
    y, fold = seen.y, seen.fold
    said = np.full(len(y), -1, dtype=np.int64)
    rows = []
    for one in range(int(fold.max()) + 1):
        train, test = training_of(seen.study, seen.task, fold, one), fold == one
        train = train if train.any() else test  # one fold alone: its own most frequent class
        said[test] = np.bincount(y[train]).argmax()
        scores = np.eye(len(seen.study.tasks[seen.task].classes))[said[test]]
        rows.append(
            Row(
                backbone=NAME,
                domain="control",
                layer="majority",
                method="majority",
                task=seen.task,
                fold=one,
                **measure(scores, y[test], seen.ordered),
                n_test=int(test.sum()),
                n_train=int(train.sum()),
                protocol="",
            )
        )
    tested = fold >= 0
    values = per_image(said[tested], y[tested], fold[tested])
    subjects = seen.subjects[tested]
    return tuple(rows), {m: interval(m, values[m], subjects) for m in seen.metrics}
