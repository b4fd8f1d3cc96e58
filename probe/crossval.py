"""One probe on one layer: C chosen inside the training folds, one refit, one score per test fold."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from features.device import cores
from probe import knn
from probe.folds import Splits
from probe.linear import Prepared, Scored, fit_linear, log_loss, prepare

LINEAR = ("logistic", "svm", "ridge")
METHODS = (*LINEAR, "knn")
GRID = tuple(float(g) for g in np.logspace(-2, 4, 13))
"""Of C times the mean squared length of the training rows."""

Features = npt.NDArray[np.float32]
Shared = dict[tuple[str, frozenset[int], str, bool], Prepared]
Scorer = Callable[[frozenset[int], Sequence[int] | None], list[Scored]]


@dataclass(frozen=True)
class Settings:
    """What defines a probe besides features, labels and folds."""

    method: str
    scale: str
    grid: tuple[float, ...]
    relative: bool
    """The grid is of C times the mean squared length of the training rows, not of C itself."""
    solver: str


@dataclass(frozen=True)
class FoldResult:
    """One test fold: what was chosen on its training rows."""

    fold: int
    value: float
    """The C, alpha or k chosen."""
    at_edge: bool
    """It is the first or last of its grid."""
    selection: float
    """Inner score of the choice, larger is better: minus log loss (logistic) or accuracy."""
    n_train: int
    n_test: int
    converged: bool


@dataclass(frozen=True)
class Outcome:
    """The cross-validated scores of one probe on one layer."""

    scores: npt.NDArray[np.float32]
    """`(n, K)`, rows as images.csv; NaN where not tested."""
    folds: tuple[FoldResult, ...]


def cross_validate(
    x: Features,
    y: npt.NDArray[np.int64],
    classes: int,
    splits: Splits,
    settings: Settings,
    shared: Shared | None = None,
) -> Outcome:
    """Choose C, alpha or k by cross-validation inside each training set, then test it once.

    An inner training set that leaves out parts i and j serves both orders: j validates for the fold
    of i, and i for the fold of j.

    Args:
        x: Features, `(n, dim)`; rows that take no part are not looked at.
        y: Class numbers, `(n,)`.
        classes: K.
        splits: Folds and parts.
        settings: The probe.
        shared: Training sets already prepared from `x`, and where to put further ones: probes and
            tasks on the same folds prepare each but once.
    """
    score = (
        _knn_scorer(x, y, classes, splits)
        if settings.method == "knn"
        else _linear_scorer(x, y, classes, splits, settings, shared)
    )
    inner_sets = sorted(
        {left_out for fold in splits.folds for _, left_out in splits.inner(fold)}, key=sorted
    )
    made = _side_by_side(score, [(left_out, None) for left_out in inner_sets])
    inner = dict(zip(inner_sets, made, strict=True))
    chosen: list[tuple[int, float, int]] = []
    for fold in splits.folds:
        losses = []
        for part, left_out in splits.inner(fold):
            here = splits.part[splits.held_out_rows(left_out)] == part
            truth = y[splits.held_out_rows(left_out)][here]
            losses.append((len(truth), [_worth(s, here, truth, settings) for s in inner[left_out]]))
        points = min(len(worth) for _, worth in losses)
        total = sum(n for n, _ in losses)
        mean = [sum(n * worth[p] for n, worth in losses) / total for p in range(points)]
        best = int(np.argmax(mean))  # the first of equals: the strongest penalty, the smallest k
        chosen.append((best, mean[best], points))
    scores = np.full((len(y), classes), np.nan, dtype=np.float32)
    results = []
    refits = [
        (splits.tested(f), [best]) for f, (best, _, _) in zip(splits.folds, chosen, strict=True)
    ]
    for fold, (best, selection, points), (left_out, _), (one,) in zip(
        splits.folds, chosen, refits, _side_by_side(score, refits), strict=True
    ):
        rows = splits.held_out_rows(left_out)
        scores[rows] = one.scores
        results.append(
            FoldResult(
                fold,
                one.value,
                points > 1 and best in (0, points - 1),
                selection,
                len(splits.training_rows(left_out)),
                len(rows),
                one.converged,
            )
        )
    return Outcome(scores, tuple(results))


def _side_by_side(
    score: Scorer, sets: Sequence[tuple[frozenset[int], Sequence[int] | None]]
) -> list[list[Scored]]:
    """`score` on every training set, as many at a time as there are cores.

    Each runs on one thread: two threads that share a small product wait for each other at its end,
    and on a busy machine that wait is what takes the time (measured: forty times).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # scikit-learn's; `converged` says it
            ThreadPoolExecutor(min(cores(), len(sets))) as threads,
        ):
            return list(threads.map(lambda one: score(*one), sets))
    finally:
        torch.set_num_threads(before)


def _linear_scorer(
    x: Features,
    y: npt.NDArray[np.int64],
    classes: int,
    splits: Splits,
    settings: Settings,
    shared: Shared | None,
) -> Scorer:
    features = torch.from_numpy(x)
    centre = settings.method != "svm"
    same = hashlib.sha256(splits.part.tobytes()).hexdigest()

    def prepared(left_out: frozenset[int]) -> Prepared:
        key = (same, left_out, settings.scale, centre or settings.scale == "standard")
        if shared is not None and key in shared:
            return shared[key]
        train, other = splits.training_rows(left_out), splits.held_out_rows(left_out)
        made = prepare(features[train], features[other], settings.scale, centre)
        if shared is not None:
            shared[key] = made
        return made

    def score(left_out: frozenset[int], points: Sequence[int] | None) -> list[Scored]:
        return fit_linear(
            settings.method,
            prepared(left_out),
            y[splits.training_rows(left_out)],
            classes,
            settings.grid if points is None else [settings.grid[p] for p in points],
            relative=settings.relative,
            solver=settings.solver,
        )

    return score


def _knn_scorer(x: Features, y: npt.NDArray[np.int64], classes: int, splits: Splits) -> Scorer:
    found = knn.neighbours(x, splits.part, knn.GRID[-1])

    def score(left_out: frozenset[int], points: Sequence[int] | None) -> list[Scored]:
        n_train = len(splits.training_rows(left_out))
        made = knn.vote(found, left_out, splits.held_out_rows(left_out), y, classes, n_train)
        return made if points is None else [made[p] for p in points]

    return score


def _worth(
    scored: Scored, here: npt.NDArray[np.bool_], truth: npt.NDArray[np.int64], settings: Settings
) -> float:
    if settings.method == "logistic":
        return -log_loss(scored.scores[here], truth)
    return float((scored.scores[here].argmax(1) == truth).mean())
