"""The linear probes: `logistic`, `svm` and `ridge`, on one training set over a grid of C.

With features x, labels y and K classes they minimise

    logistic   C sum_i -log softmax(W x_i + b)[y_i] + |W|^2 / 2            (two classes: one column)
    svm        C sum_i max(0, 1 - t_ik (w_k x_i + b_k))^2 + (|w_k|^2 + b_k^2) / 2    for each k
    ridge      sum_i (t_ik - w_k x_i - b_k)^2 + alpha |w_k|^2, alpha = 1 / C         for each k

with t_ik = 1 where y_i = k and -1 elsewhere: scikit-learn's LogisticRegression, LinearSVC and
RidgeClassifier, with their meaning of C. `--solver grid` is this project's own (probe/probes/solver.py),
`--solver sklearn` is scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from features.arrays import Ints
from probe.probes.grid_fit import GridFit, Scored, apart, by_point, coupled, scored, searched
from probe.probes.layer import Prepared
from probe.probes.losses import logistic_loss, softmax_loss, squared_hinge_loss
from probe.probes.matrix import Held, Rows
from probe.probes.settings import ProbeSettings
from probe.probes.solver import CAUTION, Solved, Stop

MAX_ITER = 2_000
ALPHAS_AT_ONCE = 1_024
"""Up to so many features ridge takes one eigendecomposition for all alphas."""
_REFINED = 5
_LEFT = 1e-8
"""Residual of the normal equations, relative, at which a solution is refined no further."""


def fit_linear(
    settings: ProbeSettings,
    prepared: Prepared,
    y: Ints,
    classes: int,
    points: Sequence[int],
    start: Scored | None = None,
    caution: float = CAUTION,
) -> list[Scored]:
    """Fit some points of a grid and score the other rows.

    Args:
        settings: The probe: `logistic`, `svm` or `ridge`.
        prepared: Training and other rows, scaled; centred for logistic and ridge.
        y: Class numbers of the training rows, `(n,)`.
        classes: K.
        points: Which values of the grid to fit, by their places in it.
        start: What the same training set gave at another C, to start from.
        caution: As `Stop.caution`.

    Returns:
        The scores of the other rows at every point, in the order of `points`. A class that `y` lacks
        has score minus infinity.
    """
    made = linear_fit(settings, prepared, y, classes, points, start, caution)
    return made if isinstance(made, list) else searched(prepared, [made])[0]


def linear_fit(
    settings: ProbeSettings,
    prepared: Prepared,
    y: Ints,
    classes: int,
    points: Sequence[int],
    start: Scored | None,
    caution: float,
) -> list[Scored] | GridFit:
    """As `fit_linear`, but what the grid solver is needed for is only told, so that others may join it."""
    method = settings.method
    cs = values_of_c(settings, prepared, points)
    seen, codes = np.unique(y, return_inverse=True)

    def of_all(made: list[Scored]) -> list[Scored]:
        scores = np.full((len(made), prepared.other.n, classes), -np.inf, dtype=np.float32)
        for here, point in zip(scores, made, strict=True):
            here[:, seen] = point.scores
        return [replace(point, scores=here) for here, point in zip(scores, made, strict=True)]

    if len(seen) == 1:  # nothing to separate: always that class
        nothing = np.zeros((prepared.other.n, 1), dtype=np.float32)
        return of_all([Scored(nothing, 1 / c if method == "ridge" else c) for c in cs])
    if settings.solver == "sklearn":
        return of_all(_with_sklearn(method, prepared, codes, cs))
    device, k = prepared.train.device, 1 if len(seen) == 2 else len(seen)
    labels = torch.from_numpy(codes).to(device)
    signs = 2 * torch.nn.functional.one_hot(labels, len(seen)).to(torch.float32) - 1  # (n, K)
    if method == "ridge":
        weights = _ridge(prepared, signs[:, -k:], 1 / torch.tensor(cs, dtype=torch.float64))
        weights = torch.cat([-weights, weights], 2) if k == 1 else weights
        return of_all(scored(prepared.other, weights, [1 / c for c in cs]))
    stop, begin = Stop(settings.tol, caution), None if start is None else start.start
    if method == "svm":
        columns = signs.T[-k:]
        problems = apart(lambda q: squared_hinge_loss(columns[q % k]), k, True, stop)
    else:
        problems = coupled(logistic_loss(signs[:, 1]) if k == 1 else softmax_loss(labels), k, stop)

    def of_solved(solved: Solved, cs: list[float]) -> list[Scored]:
        weights, gap, starts = by_point(solved, len(cs))
        if k == 1:
            one = weights / 2 if method == "logistic" else weights
            weights = torch.cat([-one, one], 2)
        return of_all(scored(prepared.other, weights, cs, gap, stop.tol, starts))

    return GridFit(cs, k, problems, of_solved, begin)


def values_of_c(settings: ProbeSettings, prepared: Prepared, points: Sequence[int]) -> list[float]:
    """C at some points of the grid, on one training set."""
    unit = prepared.unit if settings.relative else 1.0
    return [settings.grid[point] / (unit or 1.0) for point in points]


def _ridge(prepared: Prepared, signs: Tensor, alphas: Tensor) -> Tensor:
    """The normal equations (G + alpha) w = X't; rows are centred, so the bias is the mean of t.

    For narrow features one eigendecomposition G = V S V' serves every alpha. For wide ones it costs
    more than a Cholesky factor for each of them.

    Returns:
        Weights `(p + 1, alphas, K)` float64.
    """
    mean = signs.mean(0, dtype=torch.float64)
    gram, target = prepared.gram, prepared.train.back(signs - mean.float()).double()  # (p, K)
    square = gram[:-1, :-1]
    if len(square) <= ALPHAS_AT_ONCE:
        values, turn = torch.linalg.eigh(square.double())
        alpha = alphas.to(gram.device)[None, :, None]
        bent = (turn.T @ target)[:, None] / (values.clamp_min(0)[:, None, None] + alpha)
        w = (turn @ bent.flatten(1)).reshape(bent.shape)
    else:
        w = torch.stack([_ridge_at(square, float(a), target) for a in alphas], 1)
    return torch.cat([w, mean.expand(1, len(alphas), -1)])


def _ridge_at(square: Tensor, alpha: float, target: Tensor) -> Tensor:
    """(G + alpha)^-1 b, `(p, K)` float64: a float32 factor, refined; a float64 one where that won't do."""
    exact = square.double()
    exact.diagonal().add_(alpha)
    factor, failed = torch.linalg.cholesky_ex(exact.to(torch.float32))
    if not failed:
        w = torch.zeros_like(target)
        for _ in range(_REFINED):
            left = target - exact @ w
            if float(left.norm()) <= _LEFT * float(target.norm()):
                return w
            w = w + torch.cholesky_solve(left.to(torch.float32), factor).double()
    return torch.cholesky_solve(target, torch.linalg.cholesky(exact))


def _with_sklearn(method: str, prepared: Prepared, y: Ints, cs: list[float]) -> list[Scored]:
    train, other = (as_array(rows) for rows in (prepared.train, prepared.other))
    results = []
    for c in cs:
        model = sklearn_model(method, c).fit(train, y)
        # Its warning says the same, but filters of warnings belong to the whole process.
        converged = method == "ridge" or int(np.max(model.n_iter_)) < MAX_ITER
        margins = np.asarray(model.decision_function(other))
        if margins.ndim == 1:  # two classes: one margin, for the second
            half = margins / 2 if method == "logistic" else margins
            margins = np.stack([-half, half], axis=1)
        value = 1 / c if method == "ridge" else c
        results.append(Scored(margins.astype(np.float32), value, converged))
    return results


def as_array(rows: Rows) -> npt.NDArray[np.float64]:
    """Scaled rows as an array, `(n, p)`."""
    x = rows.x if isinstance(rows, Held) else rows.times(torch.eye(rows.p, device=rows.device))
    return np.asarray(x.double().cpu().numpy())


def sklearn_model(method: str, c: float) -> Any:
    """scikit-learn's estimator of the same objective."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import LinearSVC

    if method == "logistic":
        return LogisticRegression(C=c, max_iter=MAX_ITER)
    if method == "svm":
        return LinearSVC(C=c, dual=False, max_iter=MAX_ITER)
    return RidgeClassifier(alpha=1 / c)
