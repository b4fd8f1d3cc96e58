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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from features.arrays import Ints
from probe.probes.layer import Prepared
from probe.probes.losses import Loss, logistic_loss, softmax_loss, squared_hinge_loss
from probe.probes.matrix import Held, Rows
from probe.probes.settings import TOL, ProbeSettings
from probe.probes.solver import CAUTION, Stop, solve

MAX_ITER = 2_000
ALPHAS_AT_ONCE = 1_024
"""Up to so many features ridge takes one eigendecomposition for all alphas."""
_MARGIN_BYTES = 128 << 20
"""What the margins of the values of C that are solved side by side may take."""
_COPIES = 18
"""How many arrays as large as the margins are held at once: measured."""
_REFINED = 5
_LEFT = 1e-8
"""Residual of the normal equations, relative, at which a solution is refined no further."""


@dataclass(frozen=True)
class Scored:
    """Class scores of held-out rows at one point of the grid."""

    scores: npt.NDArray[np.float32]
    """`(rows, K)`; the largest is the prediction."""
    value: float
    """The C, alpha or k itself."""
    converged: bool = True
    error: float | None = None
    """The relative error of the objective, at most; None where it is solved directly."""
    start: Tensor | None = field(default=None, repr=False, compare=False)
    """What the solver may start from at a weaker penalty."""


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
    method = settings.method
    cs = values_of_c(settings, prepared, points)
    seen, codes = np.unique(y, return_inverse=True)
    if len(seen) == 1:  # nothing to separate: always that class
        scores = np.full((prepared.other.n, classes), -np.inf, dtype=np.float32)
        scores[:, seen] = 0
        return [Scored(scores, 1 / c if method == "ridge" else c) for c in cs]
    if settings.solver == "sklearn":
        made = _with_sklearn(method, prepared, codes, cs)
    else:
        begin, stop = None if start is None else start.start, Stop(settings.tol, caution)
        some = len(cs) if method == "ridge" else at_once(prepared.train.n, len(seen))
        made = []
        for first in range(0, len(cs), some):
            here = cs[first : first + some]
            made += _with_grid(method, prepared, codes, len(seen), here, stop, begin)
            begin = made[-1].start
    results = []
    for c, of_seen in zip(cs, made, strict=True):
        scores = np.full((prepared.other.n, classes), -np.inf, dtype=np.float32)
        scores[:, seen] = of_seen.scores
        value = 1 / c if method == "ridge" else c
        results.append(replace(of_seen, scores=scores, value=value))
    return results


def values_of_c(settings: ProbeSettings, prepared: Prepared, points: Sequence[int]) -> list[float]:
    """C at some points of the grid, on one training set."""
    unit = prepared.unit if settings.relative else 1.0
    return [settings.grid[point] / (unit or 1.0) for point in points]


def at_once(n: int, classes: int) -> int:
    """How many values of C are solved side by side on `n` rows, as memory allows; at least one."""
    return max(1, _MARGIN_BYTES // (4 * n * classes))


def column_bytes(n: int, classes: int, points: int) -> int:
    """About what the solver holds besides the rows, for so many rows, classes and values of C."""
    return _COPIES * 4 * n * classes * min(points, at_once(n, classes))


def _with_grid(
    method: str,
    prepared: Prepared,
    y: Ints,
    classes: int,
    cs: list[float],
    stop: Stop,
    start: Tensor | None,
) -> list[Scored]:
    """Scores of the other rows for every C, one column per class."""
    rows, device = prepared.train, prepared.train.device
    c = torch.tensor(cs, dtype=torch.float64)
    labels = torch.from_numpy(y).to(device)
    signs = 2 * torch.nn.functional.one_hot(labels, classes).to(torch.float32) - 1  # (n, K)
    if method == "ridge":
        weights = _ridge(rows, prepared.gram, signs[:, -1:] if classes == 2 else signs, 1 / c)
        weights = torch.cat([-weights, weights], 2) if classes == 2 else weights
        return scored(prepared.other, weights)

    if method == "svm":  # problem q is class q % K at C number q // K; two classes are one problem
        columns = signs.T[-1:] if classes == 2 else signs.T
        k = len(columns)
        weights, gap, starts = solved_apart(
            prepared,
            lambda q: squared_hinge_loss(columns[q % k]),
            (c, k, True, stop),
            start,
        )
        both = torch.cat([-weights, weights], 2) if classes == 2 else weights
        return scored(prepared.other, both, gap, stop.tol, starts)
    one, first, k = logistic_loss(signs[:, 1]), softmax_loss(labels), 1 if classes == 2 else classes
    made = solve(
        prepared.space,
        lambda _: one if classes == 2 else first,
        c,
        k,
        penalise_bias=False,
        start=None if start is None else start.expand(len(c), -1, -1),
        stop=stop,
    )
    half = made.weights / 2
    weights = torch.cat([-half, half], 2) if classes == 2 else made.weights
    return scored(prepared.other, weights, made.gap, stop.tol, made.start[:, None])


def solved_apart(
    prepared: Prepared,
    loss: Callable[[Tensor], Loss],
    problems: tuple[Tensor, int, bool, Stop],
    start: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Several columns that share the rows and nothing else, each solved at every C, all side by side.

    Args:
        prepared: The training rows.
        loss: From the numbers of problems to their loss: problem q is column q % k at C number q // k.
        problems: The values of C, k, whether the bias is penalised, and when they are done.
        start: What the columns may start from, as the last of what this returns has it at one C.

    Returns:
        Weights `(p + 1, points, k)`, the largest error of a column at every C, and for every C what another
        search may start from.
    """
    c, k, penalise_bias, stop = problems
    made = solve(
        prepared.space,
        loss,
        c.repeat_interleave(k),
        1,
        penalise_bias=penalise_bias,
        start=None if start is None else start.repeat(len(c), 1, 1),
        stop=stop,
    )
    gap = made.gap.reshape(-1, k).amax(1)
    return made.weights.reshape(-1, len(c), k), gap, made.start.reshape(len(c), k, 1, -1)


def scored(
    other: Rows,
    weights: Tensor,
    gap: Tensor | None = None,
    tol: float = TOL,
    starts: Tensor | None = None,
) -> list[Scored]:
    """Scores by weights `(p + 1, points, K)`; `starts` is what the solver goes on from at each point."""
    points, k = weights.shape[1:]
    flat = weights.reshape(len(weights), -1).to(other.dtype)
    margins = (other.times(flat[:-1]) + flat[-1]).reshape(-1, points, k).float().cpu().numpy()
    errors = [None] * points if gap is None else gap.tolist()
    return [
        Scored(
            margins[:, i],
            0.0,
            error is None or error <= tol,
            error,
            None if starts is None else starts[i],
        )
        for i, error in enumerate(errors)
    ]


def _ridge(rows: Rows, gram: Tensor, signs: Tensor, alphas: Tensor) -> Tensor:
    """The normal equations (G + alpha) w = X't; rows are centred, so the bias is the mean of t.

    For narrow features one eigendecomposition G = V S V' serves every alpha. For wide ones it costs
    more than a Cholesky factor for each of them.

    Returns:
        Weights `(p + 1, alphas, K)` float64.
    """
    mean = signs.mean(0, dtype=torch.float64)
    target = rows.back(signs - mean.float()).double()  # (p, K)
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
        results.append(Scored(margins.astype(np.float32), 0.0, converged))
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
