"""Training sets of a layer fitted and scored, by each method."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from features.machine.device import cores
from probe.folds import Splits
from probe.probes import knn
from probe.probes.layer import Prepared, Source, prepared
from probe.probes.linear import TOL, Scored, fit_linear

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
