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

import numpy as np
import torch

from features.arrays import Ints
from probe.probes.layer import Prepared
from probe.probes.linear import (
    MAX_ITER,
    Scored,
    as_array,
    at_once,
    scored,
    sklearn_model,
    solved_apart,
    values_of_c,
)
from probe.probes.losses import logistic_loss, squared_hinge_loss
from probe.probes.settings import ProbeSettings
from probe.probes.solver import CAUTION, Stop

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
    cs = values_of_c(settings, prepared, points)
    told = np.flatnonzero((y == 1).any(0) & (y == 0).any(0))
    always = np.where((y == 1).any(0), _SURE, -_SURE)
    begin, stop = None if start is None else start.start, Stop(settings.tol, caution)
    made: list[Scored] = []
    if not len(told):
        empty = np.zeros((prepared.other.n, 0), dtype=np.float32)
        made = [Scored(empty, c) for c in cs]
    elif settings.solver == "sklearn":
        made = [_with_sklearn(settings.method, prepared, y[:, told], c) for c in cs]
    else:
        some = at_once(prepared.train.n, len(told))
        for first in range(0, len(cs), some):
            here = cs[first : first + some]
            made += _with_grid(settings.method, prepared, y[:, told], here, stop, begin)
            begin = made[-1].start
    results = []
    for c, of_told in zip(cs, made, strict=True):
        scores = np.tile(always.astype(np.float32), (prepared.other.n, 1))
        scores[:, told] = of_told.scores
        results.append(Scored(scores, c, of_told.converged, of_told.error, of_told.start))
    return results


def _with_grid(
    method: str,
    prepared: Prepared,
    y: Ints,
    cs: list[float],
    stop: Stop,
    start: torch.Tensor | None,
) -> list[Scored]:
    """Margins of the other rows for every C, a column per label."""
    device, k = prepared.train.device, y.shape[1]
    signs = torch.from_numpy(np.select([y == 1, y == 0], [1, -1], 0).T).to(device, torch.float32)
    known = None if bool((y >= 0).all()) else signs.abs()
    c = torch.tensor(cs, dtype=torch.float64)
    if method == "svm":
        weights, gap, starts = solved_apart(
            prepared,
            lambda q: squared_hinge_loss(signs[q % k], None if known is None else known[q % k]),
            (c, k, True, stop),
            start,
        )
    else:
        weights, gap, starts = solved_apart(
            prepared,
            lambda q: logistic_loss(
                signs[q % k, None], None if known is None else known[q % k, None]
            ),
            (c, k, False, stop),
            start,
        )
    return scored(prepared.other, weights, gap, stop.tol, starts)


def _with_sklearn(method: str, prepared: Prepared, y: Ints, c: float) -> Scored:
    train, other = as_array(prepared.train), as_array(prepared.other)
    margins, converged = [], True
    for label in y.T:
        known = label >= 0
        model = sklearn_model(method, c).fit(train[known], label[known])
        converged = converged and int(np.max(model.n_iter_)) < MAX_ITER
        margins.append(np.asarray(model.decision_function(other)))
    return Scored(np.stack(margins, axis=1).astype(np.float32), c, converged)
