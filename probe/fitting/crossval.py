"""One probe on one layer: C chosen inside the training folds, one refit, one score per test fold."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from features.machine.device import cores
from probe.folds import Splits
from probe.probes import knn
from probe.probes.layer import Prepared, Source, prepared
from probe.probes.linear import ALPHAS_AT_ONCE, TOL, Scored, fit_linear, log_losses
from probe.probes.scale import AUTO

LINEAR = ("logistic", "svm", "ridge")
METHODS = (*LINEAR, "knn")
GRID = tuple(float(g) for g in np.logspace(-2, 4, 13))
"""Of C times the mean squared length of the training rows."""

_STAGE = 3
"""Points of the grid that are tried together once the path goes on beyond its middle."""
_WORSE = 2
"""Points in a row that must be worse than the best one for a path to end."""
_SURE = 3.0
"""Standard errors by which they must be worse."""

Features = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Left = frozenset[int]
"""The parts that a training set leaves out."""
Asked = tuple[Left, Sequence[int], Scored | None]
"""A training set, the points of the grid to fit on it, and what to start from."""
Scorer = Callable[[Sequence[Asked]], list[list[Scored]]]


@dataclass
class Shared:
    """What probes and tasks on the same layer share: rows of length one, training sets."""

    limit: int = 2 << 30
    """Bytes of training sets to keep."""
    sources: dict[str, Source] = field(default_factory=dict)
    sets: dict[tuple[str, Left, str, bool], Prepared] = field(default_factory=dict)

    def room(self) -> int:
        """Bytes that are left."""
        return max(0, self.limit - sum(kept.nbytes() for kept in list(self.sets.values())))

    def keep(self, key: tuple[str, Left, str, bool], one: Prepared) -> None:
        """Keep a training set while there is room."""
        if one.nbytes() <= self.room():
            self.sets[key] = one

    def let_go(self, key: tuple[str, Left, str, bool]) -> None:
        """Let go of the training sets of other splits and scalings than `key`'s."""
        self.sets = {
            kept: one
            for kept, one in self.sets.items()
            if (kept[0], *kept[2:]) == (key[0], *key[2:])
        }


@dataclass(frozen=True)
class Settings:
    """What defines a probe besides features, labels and folds."""

    method: str
    scale: str
    grid: tuple[float, ...]
    relative: bool
    """The grid is of C times the mean squared length of the training rows, not of C itself."""
    solver: str
    tol: float = TOL


@dataclass(frozen=True)
class FoldResult:
    """One test fold: what was chosen on its training rows."""

    fold: int
    value: float
    """The C, alpha or k chosen."""
    at_edge: bool
    """It is the first or last of its grid."""
    selection: float
    """Inner score of the choice, larger is better: minus log loss (logistic) or accuracy; NaN where
    nothing could validate."""
    n_train: int
    n_test: int
    converged: bool
    error: float | None = None
    """Of the refit's objective, relative, as the solver estimates it."""
    scale: str = ""
    """The scaling, where it was chosen too."""


@dataclass(frozen=True)
class Outcome:
    """The cross-validated scores of one probe on one layer."""

    scores: npt.NDArray[np.float32]
    """`(n, K)`, rows as images.csv; NaN where not tested."""
    folds: tuple[FoldResult, ...]


@dataclass(frozen=True)
class _Choice:
    """The best point of one fold's path."""

    worth: float
    point: int
    at_edge: bool
    scale: str


def cross_validate(
    x: Features | Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: Settings,
    shared: Shared | None = None,
    tested: Source | None = None,
) -> Outcome:
    """Choose C, alpha or k by cross-validation inside each training set, then test it once.

    An inner training set that leaves out parts i and j serves both orders: j validates for the fold
    of i, and i for the fold of j. With the scale `auto`, standard and L2 scaling are both tried and
    chosen between in the same way.

    Args:
        x: Features, `(n, dim)`; rows that take no part are not looked at.
        y: Class numbers, `(n,)`.
        classes: K.
        splits: Folds and parts.
        settings: The probe.
        shared: What other probes and tasks have prepared of `x`, and where to put more.
        tested: Features of the same rows under another view, `(n, dim)`, which a test fold is scored
            on in the place of `x`; all that is chosen or fitted is chosen and fitted on `x`.
    """
    source = x if isinstance(x, Source) else Source.of(x)
    shared = Shared() if shared is None else shared
    chosen: dict[int, _Choice] = {}
    scorers = {}
    for scale in AUTO if settings.scale == "auto" else (settings.scale,):
        here = replace(settings, scale=scale)
        scorers[scale] = (
            _knn_scorer(source, y, classes, splits, here)
            if settings.method == "knn"
            else _linear_scorer(source, y, classes, splits, here, shared)
        )
        # What makes its sets anew each time, or has every alpha from one factorisation, is asked once.
        at_once = here.method == "ridge" and min(source.dim, len(y)) <= ALPHAS_AT_ONCE
        staged = not at_once and (source.held or _inner_bytes(source, splits) <= shared.limit)
        for fold, choice in _choose(scorers[scale], y, splits, here, staged).items():
            if fold not in chosen or choice.worth > chosen[fold].worth:
                chosen[fold] = choice
    scores = np.full((len(y), classes), np.nan, dtype=np.float32)
    results = {}
    for scale, scorer in scorers.items():
        if tested is not None:
            scorer = _under_another_view(source, tested, y, classes, splits, settings, scale)
        folds = [fold for fold in splits.folds if chosen[fold].scale == scale]
        refits = scorer([(splits.tested(fold), [chosen[fold].point], None) for fold in folds])
        for fold, (one,) in zip(folds, refits, strict=True):
            rows = splits.held_out_rows(splits.tested(fold))
            scores[rows] = one.scores
            results[fold] = FoldResult(
                fold,
                one.value,
                chosen[fold].at_edge,
                chosen[fold].worth,
                len(splits.training_rows(splits.tested(fold))),
                len(rows),
                one.converged,
                one.error,
                scale,
            )
    return Outcome(scores, tuple(results[fold] for fold in splits.folds))


def _under_another_view(
    source: Source,
    tested: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: Settings,
    scale: str,
) -> Scorer:
    """Trains on rows of `source` and scores those of `tested`, which stand after them in no part."""
    both, n = source.followed_by(tested), len(y)
    apart = replace(splits, part=np.concatenate([splits.part, np.full(n, -1)]))
    here = replace(settings, scale=scale)

    def other(left: Left) -> Ints:
        return splits.held_out_rows(left) + n

    if settings.method == "knn":
        return _knn_scorer(both, y, classes, apart, here, other)
    return _linear_scorer(both, y, classes, apart, here, Shared(0), other)


def _choose(
    score: Scorer, y: Ints, splits: Splits, settings: Settings, staged: bool
) -> dict[int, _Choice]:
    """The best point for every fold, from strong penalties to weak ones.

    The path of a fold ends before its last point where two points in a row are worse than the best
    one by three standard errors of the differences: from there on it only overfits.
    """
    points = len(settings.grid)
    first = points if settings.method == "knn" or not staged else points // 2 + 1
    starts = [0, *range(first, points, _STAGE)]
    inner = {fold: list(splits.inner(fold)) for fold in splits.folds}
    if not any(inner.values()):  # the middle of the grid, or the nearest neighbour alone
        point = 0 if settings.method == "knn" else points // 2
        return {fold: _Choice(np.nan, point, False, settings.scale) for fold in splits.folds}
    worth: dict[int, list[npt.NDArray[np.float64]]] = {fold: [] for fold in splits.folds}
    going = set(splits.folds)
    last: dict[Left, Scored] = {}
    for start, stop in pairwise([*starts, points]):
        sets = sorted({left for fold in going for _, left in inner[fold]}, key=sorted)
        asked = [(left, range(start, stop), last.get(left)) for left in sets]
        made = dict(zip(sets, score(asked), strict=True))
        last = {left: found[-1] for left, found in made.items()}
        for fold in sorted(going):
            pieces = []
            for part, left in inner[fold]:
                rows = splits.held_out_rows(left)
                here = splits.part[rows] == part
                truth = y[rows][here]
                pieces.append([_worth(one.scores[here], truth, settings) for one in made[left]])
            common = min(map(len, pieces))  # a k larger than a training set has no score there
            worth[fold] += [np.concatenate([p[i] for p in pieces]) for i in range(common)]
            if _overfits(worth[fold]):
                going.discard(fold)
        if not going:
            break
    chosen = {}
    for fold, found in worth.items():
        mean = [float(one.mean()) for one in found]
        best = int(np.argmax(mean))  # the first of equals: the strongest penalty, the smallest k
        end = len(found) - 1 if settings.method == "knn" else points - 1
        chosen[fold] = _Choice(mean[best], best, end > 0 and best in (0, end), settings.scale)
    return chosen


def _inner_bytes(source: Source, splits: Splits) -> int:
    """What all inner training sets together hold in memory."""
    sets = {left for fold in splits.folds for _, left in splits.inner(fold)}
    rows = [(splits.training_rows(left), splits.held_out_rows(left)) for left in sets]
    return sum(source.turned(len(train), len(other)) for train, other in rows)


def _overfits(worth: list[npt.NDArray[np.float64]]) -> bool:
    best = max(worth, key=lambda one: float(one.mean()))
    for one in worth[-_WORSE:]:
        lost = best - one
        if not lost.mean() > _SURE * lost.std() / len(lost) ** 0.5:
            return False
    return len(worth) > _WORSE


def _worth(
    scores: npt.NDArray[np.float32], truth: Ints, settings: Settings
) -> npt.NDArray[np.float64]:
    """Of every row: minus its log loss for logistic, else whether it is right."""
    if settings.method == "logistic":
        return -log_losses(scores, truth)
    return np.asarray(scores.argmax(1) == truth, dtype=np.float64)


def _side_by_side(score: Callable[[Asked], list[Scored]], asked: Sequence[Asked]) -> list[Any]:
    """`score` on every training set, as many at a time as there are cores.

    Each runs on one thread: two threads that share a small product wait for each other at its end,
    and on a busy machine that wait is what takes the time (measured: forty times).
    """
    if not asked:
        return []
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # scikit-learn's; `converged` says it
            ThreadPoolExecutor(min(cores(), len(asked))) as threads,
        ):
            return list(threads.map(score, asked))
    finally:
        torch.set_num_threads(before)


def _linear_scorer(
    source: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: Settings,
    shared: Shared,
    other: Callable[[Left], Ints] | None = None,
) -> Scorer:
    centre = settings.method != "svm"
    held_out = other or splits.held_out_rows
    same = hashlib.sha256(splits.part.tobytes()).hexdigest()
    if settings.scale == "l2":
        if same not in shared.sources:
            used = [held_out(splits.tested(fold)) for fold in splits.folds]
            shared.sources[same] = source.unit_rows(
                np.union1d(np.flatnonzero(splits.part >= 0), np.concatenate(used))
            )
        source = shared.sources[same]

    def rows(left: Left) -> tuple[Ints, Ints]:
        return splits.training_rows(left), held_out(left)

    def key(left: Left) -> tuple[str, Left, str, bool]:
        return same, left, settings.scale, centre or settings.scale == "standard"

    def fit(one: Prepared, asked: Asked) -> list[Scored]:
        left, points, start = asked
        return fit_linear(
            settings.method,
            one,
            y[splits.training_rows(left)],
            classes,
            [settings.grid[point] for point in points],
            relative=settings.relative,
            solver=settings.solver,
            tol=settings.tol,
            start=start,
        )

    def alone(asked: Asked) -> list[Scored]:
        left = asked[0]
        one = shared.sets.get(key(left))
        if one is None:
            sets = [rows(left)]
            ((_, one),) = prepared(source, splits.part, sets, settings.scale, centre)
            shared.keep(key(left), one)
        return fit(one, asked)

    def score(asked: Sequence[Asked]) -> list[list[Scored]]:
        if source.held and source.device.type == "cpu":
            largest = max((len(splits.training_rows(left)) for left, _, _ in asked), default=0)
            for part in np.unique(splits.part[splits.part >= 0]).tolist():
                source.moments(splits.part, [part], largest > source.dim)
            return _side_by_side(alone, asked)
        found: dict[Left, list[Scored]] = {}
        missing = [one for one in asked if key(one[0]) not in shared.sets]
        if missing:
            shared.let_go(key(missing[0][0]))
        for group in source.groups([rows(left) for left, _, _ in missing], shared.room()):
            sets = [rows(missing[i][0]) for i in group]
            for number, one in prepared(source, splits.part, sets, settings.scale, centre):
                left = missing[group[number]][0]
                found[left] = fit(one, missing[group[number]])
                shared.keep(key(left), one)
        for left, points, start in asked:
            if left not in found:
                found[left] = fit(shared.sets[key(left)], (left, points, start))
        return [found[left] for left, _, _ in asked]

    return score


def _knn_scorer(
    source: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: Settings,
    other: Callable[[Left], Ints] | None = None,
) -> Scorer:
    cosine = settings.scale != "none"
    held_out = other or splits.held_out_rows
    queries = None
    if other is not None:
        queries = np.concatenate([other(splits.tested(fold)) for fold in splits.folds])
    found = knn.neighbours(source, splits.part, knn.GRID[-1], settings.solver, cosine, queries)

    def spread(left: Left) -> float:
        parts = [part for part in found if part not in left]
        m = source.moments(splits.part, parts, False)
        return max(float(m.squares.sum()) / m.n, 1e-30)

    def score(asked: Sequence[Asked]) -> list[list[Scored]]:
        result = []
        for left, points, _ in asked:
            n_train = len(splits.training_rows(left))
            rows = held_out(left)
            unit = 1.0 if cosine else spread(left)
            made = knn.vote(found, left, rows, y, classes, n_train, unit)
            result.append([made[point] for point in points if point < len(made)])
        return result

    return score
