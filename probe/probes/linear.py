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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from features.arrays import Doubles, Ints
from probe.probes.layer import Prepared
from probe.probes.losses import Logistic, Softmax, SquaredHinge
from probe.probes.matrix import Held, Rows, row_space
from probe.probes.problems import Problems, Solved
from probe.probes.ridge import ridge
from probe.probes.scored import Scored
from probe.probes.settings import ProbeSettings
from probe.probes.solver import solve
from probe.probes.spaces import FeatureSpace

_MAX_ITER = 2_000
_MOST_STEPS = 1_000


@dataclass(frozen=True)
class Effort:
    """How far problems are solved."""

    tol: float
    """Error of the objective, relative."""
    steps: int = _MOST_STEPS
    """Iterations after which they stop in any case."""
    single: bool = False
    """They stop where float32 is too coarse, too."""


_CHOOSING = Effort(3.0, 150, True)
"""Of fits that only choose; times `tol`. At a C so large that this will not do, nothing is chosen."""
_REFIT = Effort(0.1)
"""Of refits, which have converged at `tol` itself."""
_MARGIN_BYTES = 128 << 20
"""What the margins of the values of C that are solved side by side may take."""
_COPIES = 8
"""How many arrays as large as the margins are held at once: measured."""


def fit_linear(
    settings: ProbeSettings,
    prepared: Prepared,
    y: Ints,
    classes: int,
    points: Sequence[int],
    start: Scored | None = None,
    inner: bool = False,
) -> list[Scored]:
    """Fit some points of a grid and score the other rows.

    Args:
        settings: The probe: `logistic`, `svm` or `ridge`.
        prepared: Training and other rows, scaled; centred for logistic and ridge.
        y: Class numbers of the training rows, `(n,)`.
        classes: K.
        points: Which values of the grid to fit, by their places in it.
        start: What the same training set gave at another C, to start from.
        inner: The fits only choose; they stop at thrice `tol`, others at a tenth of it.

    Returns:
        The scores of the other rows at every point, in the order of `points`. A class that `y` lacks
        has score minus infinity.
    """
    method = settings.method
    unit = prepared.unit if settings.relative else 1.0
    cs = [settings.grid[point] / (unit or 1.0) for point in points]
    seen, codes = np.unique(y, return_inverse=True)
    if len(seen) == 1:  # nothing to separate: always that class
        scores = np.full((prepared.other.n, classes), -np.inf, dtype=np.float32)
        scores[:, seen] = 0
        return [Scored(scores, 1 / c if method == "ridge" else c) for c in cs]
    if settings.solver == "sklearn":
        made = _with_sklearn(method, prepared, codes, cs)
    elif method == "ridge":
        made = ridge(prepared, codes, len(seen), cs)
    else:
        how = _CHOOSING if inner else _REFIT
        how = replace(how, tol=how.tol * settings.tol)
        weights = None if start is None else start.weights
        some = at_once(prepared.space.n, len(seen))
        made = []
        for first in range(0, len(cs), some):
            part, place = cs[first : first + some], prepared.space.device
            asked = problems(method, codes, len(seen), part, how, weights, place)
            (solved,) = solve(prepared.space, prepared.directions, [asked])
            made += scored(method, prepared.other, solved, len(seen), settings.tol)
            weights = made[-1].weights
    results = []
    for c, at_c in zip(cs, made, strict=True):
        scores = np.full((prepared.other.n, classes), -np.inf, dtype=np.float32)
        scores[:, seen] = at_c.scores
        value = 1 / c if method == "ridge" else c
        results.append(replace(at_c, scores=scores, value=value))
    return results


def at_once(n: int, classes: int) -> int:
    """How many values of C are solved side by side on `n` rows, as memory allows; at least one."""
    return max(1, _MARGIN_BYTES // (4 * n * classes))


def column_bytes(n: int, classes: int, points: int) -> int:
    """About what the solver holds besides the rows, for so many rows, classes and values of C."""
    return _COPIES * 4 * n * classes * min(points, at_once(n, classes))


def problems(
    method: str,
    y: Ints,
    classes: int,
    cs: Sequence[float],
    effort: Effort,
    start: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Problems:
    """The problems of a probe on one training set, one for each C; of the svm one for each C and class.

    Args:
        method: `logistic` or `svm`.
        y: Class numbers, `(n,)`; all classes are there.
        classes: K; two have one column.
        cs: Values of C.
        effort: How far they are solved.
        start: Coordinates to start from, `(K, size + 1)`, or of one column where there are two classes.
        device: Where they are solved.
    """
    labels = torch.from_numpy(y).to(device)
    columns = 1 if classes == 2 else classes
    limits = effort.tol, effort.steps, effort.single
    c = torch.tensor(cs, dtype=torch.float64, device=device)
    begin = None if start is None else start.expand(len(cs), -1, -1)
    if method == "logistic" and classes > 2:
        return Problems(Softmax(labels, classes), c, False, *limits, begin)
    signs = 2 * torch.nn.functional.one_hot(labels, classes).T.to(torch.float32) - 1  # (K, n)
    signs = signs[-columns:].contiguous()
    if method == "logistic":
        return Problems(Logistic(signs[0]), c, False, *limits, begin)
    begin = None if begin is None else begin.flatten(0, 1)[:, None]
    loss = SquaredHinge(signs, torch.arange(columns, device=device).repeat(len(cs)))
    return Problems(loss, c.repeat_interleave(columns), True, *limits, begin)


def scored(method: str, other: Rows, solved: Solved, classes: int, tol: float) -> list[Scored]:
    """Scores of the other rows at every C; converged where the error is at most `tol`."""
    columns = 1 if classes == 2 else classes
    weights = solved.weights.view(
        -1, columns, solved.weights.shape[-1]
    )  # (points, columns, size + 1)
    errors = solved.gap.view(len(weights), -1).amax(1).tolist()
    flat = weights.flatten(0, 1).to(other.dtype)
    margins = other.times(flat[:, :-1].T) + flat[:, -1]
    margins = margins.view(-1, len(weights), columns).float()
    if classes == 2:
        half = margins / 2 if method == "logistic" else margins
        margins = torch.cat([-half, half], 2)
    scores = np.asarray(margins.cpu().numpy())
    return [
        Scored(scores[:, i], 0.0, error <= tol, error, weights[i].to(torch.float32))
        for i, error in enumerate(errors)
    ]


def _with_sklearn(method: str, prepared: Prepared, y: Ints, cs: list[float]) -> list[Scored]:
    train, other = _coordinates(prepared)
    results = []
    for c in cs:
        model = sklearn_model(method, c).fit(train, y)
        # Its warning says the same, but filters of warnings belong to the whole process.
        converged = method == "ridge" or int(np.max(model.n_iter_)) < _MAX_ITER
        margins = np.asarray(model.decision_function(other))
        if margins.ndim == 1:  # two classes: one margin, for the second
            half = margins / 2 if method == "logistic" else margins
            margins = np.stack([-half, half], axis=1)
        results.append(Scored(margins.astype(np.float32), 0.0, converged))
    return results


def _coordinates(prepared: Prepared) -> tuple[Doubles, Doubles]:
    """Training and other rows in coordinates that keep their inner products."""
    space, other = prepared.space, prepared.other
    if isinstance(space, FeatureSpace):
        return _array(space.rows), _array(other)
    assert isinstance(other, Held)
    more = float(space.augmented)
    train_x, other_x = row_space(space.products_of_rows.double() - more, other.x.double() - more)
    return _array(Held(train_x)), _array(Held(other_x))


def _array(rows: Rows) -> Doubles:
    x = rows.x if isinstance(rows, Held) else rows.times(torch.eye(rows.p, device=rows.device))
    return np.asarray(x.double().cpu().numpy())


def sklearn_model(method: str, c: float) -> Any:
    """scikit-learn's estimator of the same objective."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import LinearSVC

    if method == "logistic":
        return LogisticRegression(C=c, max_iter=_MAX_ITER)
    if method == "svm":
        return LinearSVC(C=c, dual=False, max_iter=_MAX_ITER)
    return RidgeClassifier(alpha=1 / c)
