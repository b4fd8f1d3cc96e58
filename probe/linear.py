"""The linear probes: `logistic`, `svm` and `ridge`, on one training set over a grid of C.

With features x, labels y and K classes they minimise

    logistic   C sum_i -log softmax(W x_i + b)[y_i] + |W|^2 / 2            (two classes: one column)
    svm        C sum_i max(0, 1 - t_ik (w_k x_i + b_k))^2 + (|w_k|^2 + b_k^2) / 2    for each k
    ridge      sum_i (t_ik - w_k x_i - b_k)^2 + alpha |w_k|^2, alpha = 1 / C         for each k

with t_ik = 1 where y_i = k and -1 elsewhere: scikit-learn's LogisticRegression, LinearSVC and
RidgeClassifier, with their meaning of C. `--solver grid` is this project's own (probe/solver.py),
`--solver sklearn` is scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from probe.axes import Axes, principal_axes
from probe.scale import scaled
from probe.solver import logistic_loss, softmax_loss, solve, squared_hinge_loss

SOLVERS = ("grid", "sklearn")
_MAX_ITER = 2_000


@dataclass(frozen=True)
class Scored:
    """Class scores of held-out rows at one point of the grid."""

    scores: npt.NDArray[np.float32]
    """`(rows, K)`; the largest is the prediction."""
    value: float
    """The C, alpha or k itself."""
    converged: bool = True


@dataclass(frozen=True)
class Prepared:
    """One training set and the rows to score, scaled and turned; probes and tasks can share it."""

    axes: Axes
    unit: float
    """Mean squared length of the scaled training rows."""


def prepare(train: Tensor, other: Tensor, scale: str, centre: bool) -> Prepared:
    """Scale training rows `(n, dim)` and other rows `(m, dim)` and turn them into principal axes.

    A probe whose bias is not penalised may `centre` them too: the bias makes up for the mean.
    """
    x, z = scaled(train, other, scale)
    unit = float(x.square().sum(1, dtype=torch.float64).mean())
    if centre and scale != "standard":  # which is centred already
        mean = x.mean(0)
        x, z = x - mean, z - mean
    return Prepared(principal_axes(x, z), unit)


def fit_linear(
    method: str,
    prepared: Prepared,
    y: npt.NDArray[np.int64],
    classes: int,
    grid: Sequence[float],
    *,
    relative: bool,
    solver: str = "grid",
) -> list[Scored]:
    """Fit every point of a grid and score the other rows.

    Args:
        method: `logistic`, `svm` or `ridge`.
        prepared: Training and other rows; centred for logistic and ridge.
        y: Class numbers of the training rows, `(n,)`.
        classes: K.
        grid: Values of C.
        relative: The grid is of C times the mean squared length of the scaled training rows.
        solver: `grid` or `sklearn`.

    Returns:
        The scores of the other rows at every point of the grid, in its order. A class that `y` lacks
        has score minus infinity.
    """
    axes, unit = prepared.axes, prepared.unit if relative else 1.0
    cs = [point / (unit or 1.0) for point in grid]
    seen, codes = np.unique(y, return_inverse=True)
    if len(seen) == 1:  # nothing to separate: always that class
        scores = np.full((len(axes.other), classes), -np.inf, dtype=np.float32)
        scores[:, seen] = 0
        return [Scored(scores, 1 / c if method == "ridge" else c) for c in cs]
    fit = _with_sklearn if solver == "sklearn" else _with_grid
    found = []
    for c, (margins, converged) in zip(cs, fit(method, axes, codes, len(seen), cs), strict=True):
        scores = np.full((len(axes.other), classes), -np.inf, dtype=np.float32)
        scores[:, seen] = margins
        found.append(Scored(scores, 1 / c if method == "ridge" else c, converged))
    return found


def log_loss(scores: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> float:
    """Mean of -log softmax(scores)[y] in nats; a class never seen counts as 1e-15."""
    s = scores.astype(np.float64)
    s = s - s.max(1, keepdims=True)
    p = np.exp(s[np.arange(len(y)), y]) / np.exp(s).sum(1)
    return float(-np.log(np.maximum(p, 1e-15)).mean())


def _with_grid(
    method: str, axes: Axes, y: npt.NDArray[np.int64], classes: int, cs: list[float]
) -> list[tuple[npt.NDArray[np.float32], bool]]:
    """Margins `(m, classes)` of the other rows for every C, and whether the solver converged."""
    c = torch.tensor(cs, dtype=torch.float64)
    labels = torch.from_numpy(y)
    signs = 2 * torch.nn.functional.one_hot(labels, classes).to(torch.float32) - 1  # (n, K)
    ones = torch.ones(len(axes.other), 1)
    if method == "ridge":
        return [(_ridge(axes, signs, 1 / one), True) for one in cs]
    if method == "svm":  # problem q is class q % K at C number q // K
        made = solve(
            axes,
            lambda q: squared_hinge_loss(signs[:, q % classes]),
            c.repeat_interleave(classes),
            1,
            penalise_bias=True,
        )
        gaps = made.gap.reshape(len(cs), classes).amax(1)
        weights = made.weights.reshape(-1, len(cs), classes)
    elif classes == 2:
        made = solve(axes, lambda q: logistic_loss(signs[:, 1]), c, 1, penalise_bias=False)
        gaps, weights = made.gap, torch.cat([-made.weights / 2, made.weights / 2], 2)
    else:
        made = solve(axes, lambda q: softmax_loss(labels, classes), c, classes, penalise_bias=False)
        gaps, weights = made.gap, made.weights
    other = torch.cat([axes.other, ones], 1).double()
    return [
        ((other @ weights[:, i]).float().numpy(), bool(gaps[i] <= 1e-4)) for i in range(len(cs))
    ]


def _ridge(axes: Axes, signs: Tensor, alpha: float) -> npt.NDArray[np.float32]:
    """In principal axes the normal equations are diagonal: w = z't / (s^2 + alpha)."""
    mean = signs.mean(0)
    weights = (axes.train.T @ (signs - mean)).double() / (axes.squares[:, None] + alpha)
    return (axes.other @ weights.float() + mean).numpy()


def _with_sklearn(
    method: str, axes: Axes, y: npt.NDArray[np.int64], classes: int, cs: list[float]
) -> list[tuple[npt.NDArray[np.float32], bool]]:
    train, other = axes.train.double().numpy(), axes.other.double().numpy()
    found = []
    for c in cs:
        model = sklearn_model(method, c).fit(train, y)
        # Its warning says the same, but filters of warnings belong to the whole process.
        converged = method == "ridge" or int(np.max(model.n_iter_)) < _MAX_ITER
        margins = np.asarray(model.decision_function(other))
        if margins.ndim == 1:  # two classes: one margin, for the second
            half = margins / 2 if method == "logistic" else margins
            margins = np.stack([-half, half], axis=1)
        found.append((margins.astype(np.float32), converged))
    return found


def sklearn_model(method: str, c: float) -> Any:
    """scikit-learn's estimator of the same objective."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import LinearSVC

    if method == "logistic":
        return LogisticRegression(C=c, max_iter=_MAX_ITER)
    if method == "svm":
        return LinearSVC(C=c, dual=False, max_iter=_MAX_ITER)
    return RidgeClassifier(alpha=1 / c)
