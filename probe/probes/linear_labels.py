"""The linear probes on several labels an image: `logistic` and `svm`, each label a problem of its own.

With t_il = 1 where image i has label l and -1 where it has not, over the images of which it is known, they
minimise for every label

    logistic   C sum_i log(1 + exp(-t_il (w_l x_i + b_l))) + |w_l|^2 / 2
    svm        C sum_i max(0, 1 - t_il (w_l x_i + b_l))^2 + (|w_l|^2 + b_l^2) / 2

scikit-learn's LogisticRegression and LinearSVC. The labels share the rows, and so one block of columns;
where a label is not known a row costs nothing. All are scaled by all training rows of the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from features.arrays import Ints
from probe.probes.grid_fit import GridFit, Scored, apart, by_point, scored, searched
from probe.probes.layer import Prepared
from probe.probes.linear import MAX_ITER, as_array, sklearn_model, values_of_c
from probe.probes.losses import logistic_loss, squared_hinge_loss
from probe.probes.settings import ProbeSettings
from probe.probes.solver import CAUTION, Solved, Stop

_SURE = 34.5
"""The margin of a label that a training set has in all of its images, or in none: -log of 1e-15."""


def fit_labels(
    settings: ProbeSettings,
    prepared: Prepared,
    y: Ints,
    points: Sequence[int],
    start: Scored | None = None,
    caution: float = CAUTION,
) -> list[Scored]:
    """Fit some points of a grid on every label and score the other rows.

    Args:
        settings: The probe: `logistic` or `svm`.
        prepared: Training and other rows, scaled; centred for logistic.
        y: Labels of the training rows, `(n, labels)`: 1, 0, and -1 where not known.
        points: Which values of the grid to fit, by their places in it.
        start: What the same training set gave at another C, to start from.
        caution: As `Stop.caution`.

    Returns:
        The margins of the other rows at every point, `(rows, labels)`, above 0 where a label is predicted.
    """
    made = labels_fit(settings, prepared, y, points, start, caution)
    return made if isinstance(made, list) else searched(prepared, [made])[0]


def labels_fit(
    settings: ProbeSettings,
    prepared: Prepared,
    y: Ints,
    points: Sequence[int],
    start: Scored | None,
    caution: float,
) -> list[Scored] | GridFit:
    """As `fit_labels`, but what the grid solver is needed for is only told, so that others may join it."""
    cs = values_of_c(settings, prepared, points)
    told = np.flatnonzero((y == 1).any(0) & (y == 0).any(0))
    always = np.where((y == 1).any(0), _SURE, -_SURE).astype(np.float32)
    stop, begin = Stop(settings.tol, caution), None if start is None else start.start

    def of_all(made: list[Scored]) -> list[Scored]:
        scores = np.tile(always, (len(made), prepared.other.n, 1))
        for here, point in zip(scores, made, strict=True):
            here[:, told] = point.scores
        return [replace(point, scores=here) for here, point in zip(scores, made, strict=True)]

    y = y[:, told]
    if not len(told):
        empty = np.zeros((prepared.other.n, 0), dtype=np.float32)
        return of_all([Scored(empty, c) for c in cs])
    if settings.solver == "sklearn":
        return of_all([_with_sklearn(settings.method, prepared, y, c) for c in cs])
    device, k = prepared.train.device, len(told)
    signs = torch.from_numpy(np.select([y == 1, y == 0], [1, -1], 0).T).to(device, torch.float32)
    known = None if bool((y >= 0).all()) else signs.abs()
    if settings.method == "svm":
        problems = apart(
            lambda q: squared_hinge_loss(signs[q % k], None if known is None else known[q % k]),
            k, True, stop,
        )  # fmt: skip
    else:
        problems = apart(
            lambda q: logistic_loss(
                signs[q % k, None], None if known is None else known[q % k, None]
            ),
            k, False, stop,
        )  # fmt: skip

    def of_solved(solved: Solved, cs: list[float]) -> list[Scored]:
        weights, gap, starts = by_point(solved, len(cs))
        return of_all(scored(prepared.other, weights, cs, gap, stop.tol, starts))

    return GridFit(cs, k, problems, of_solved, begin)


def _with_sklearn(method: str, prepared: Prepared, y: Ints, c: float) -> Scored:
    train, other = as_array(prepared.train), as_array(prepared.other)
    margins, converged = [], True
    for label in y.T:
        known = label >= 0
        model = sklearn_model(method, c).fit(train[known], label[known])
        converged = converged and int(np.max(model.n_iter_)) < MAX_ITER
        margins.append(np.asarray(model.decision_function(other)))
    return Scored(np.stack(margins, axis=1).astype(np.float32), c, converged)
