"""The linear probes, by scikit-learn: `logistic`, `svm` and `ridge`.

With labels y, features x and K classes they minimise

    logistic   C sum_i -log softmax(W x_i + b)[y_i] + |W|^2 / 2            (two classes: binary)
    svm        C sum_i max(0, 1 - t_ik (w_k x_i + b_k))^2 + (|w_k|^2 + b_k^2) / 2    for each class k
    ridge      sum_i (t_ik - w_k x_i - b_k)^2 + alpha |w_k|^2, alpha = 1 / C          for each class k

with t_ik = 1 where y_i = k and -1 elsewhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import LinearSVC

from probe.rowspace import rotate
from probe.scale import Floats, scaled

_MAX_ITER = 2_000


@dataclass(frozen=True)
class Scored:
    """Class scores of held-out rows at one point of the grid."""

    scores: npt.NDArray[np.float32]
    """`(rows, K)`; the largest is the prediction."""
    value: float
    """The C, alpha or k itself."""
    converged: bool = True


def fit_linear(
    method: str,
    train: Floats,
    y: npt.NDArray[np.int64],
    other: Floats,
    classes: int,
    grid: Sequence[float],
    *,
    scale: str,
    relative: bool,
    points: Sequence[int] | None = None,
) -> list[Scored]:
    """Fit at grid points and score other rows.

    Args:
        method: `logistic`, `svm` or `ridge`.
        train: `(n, dim)`.
        y: Class numbers, `(n,)`.
        other: Rows to score, `(m, dim)`.
        classes: K.
        grid: Values of C.
        scale: `standard`, `l2` or `none`.
        relative: The grid is of C times the mean squared length of the scaled training rows.
        points: Which grid points to fit; all by default.
    """
    x, z = scaled(train, other, scale)
    unit = float(np.mean(np.einsum("ij,ij->i", x, x))) if relative else 1.0
    x, z = rotate(x, z)
    seen = np.unique(y)
    found = []
    for point in range(len(grid)) if points is None else points:
        c = grid[point] / (unit or 1.0)
        model = _model(method, c)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", ConvergenceWarning)
            converged = True
            try:
                model.fit(x, y)
            except ConvergenceWarning:
                warnings.simplefilter("ignore", ConvergenceWarning)
                converged = False
                model.fit(x, y)
        raw = np.asarray(model.decision_function(z))
        if raw.ndim == 1:  # two classes: one margin, for the second
            half = raw / 2 if method == "logistic" else raw
            raw = np.stack([-half, half], axis=1)
        scores = np.full((len(z), classes), -np.inf, dtype=np.float32)
        scores[:, seen] = raw
        found.append(Scored(scores, 1 / c if method == "ridge" else c, converged))
    return found


def log_loss(scores: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> float:
    """Mean of -log softmax(scores)[y] in nats; a class never seen counts as 1e-15."""
    s = scores.astype(np.float64)
    s = s - s.max(1, keepdims=True)
    p = np.exp(s[np.arange(len(y)), y]) / np.exp(s).sum(1)
    return float(-np.log(np.maximum(p, 1e-15)).mean())


def _model(method: str, c: float) -> Any:
    if method == "logistic":
        return LogisticRegression(C=c, max_iter=_MAX_ITER)
    if method == "svm":
        return LinearSVC(C=c, dual=False, max_iter=_MAX_ITER)
    return RidgeClassifier(alpha=1 / c)
