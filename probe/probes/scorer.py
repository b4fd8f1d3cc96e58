"""A scorer fits and scores training sets: how it is called, and what several of them share of one layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from features.arrays import Ints
from features.machine.device import thread_per_core
from probe.probes.grid_fit import Scored
from probe.probes.layer import Prepared, Source

One = TypeVar("One")
Made = TypeVar("Made")

Left = frozenset[int]
"""The parts that a training set leaves out."""

HeldOut = Callable[[Left], Ints]
"""The rows to score by the training set that leaves out these parts."""


class Request(NamedTuple):
    """What is asked of a training set."""

    left: Left
    points: Sequence[int]
    """The points of the grid to fit on it."""
    start: Scored | None = None
    """What to start from."""
    to_choose: bool = False
    """The scores only choose among points, for which less precise ones will do."""
    judge: Callable[[Left, list[Scored]], list[Scored]] | None = None
    """What is kept of the points, called as soon as they are scored: all scores of all training sets
    would fill the memory where classes are many."""

    def judged(self, made: list[Scored]) -> list[Scored]:
        """What is kept of the points that were fitted."""
        return made if self.judge is None else self.judge(self.left, made)


Scorer = Callable[[Sequence[Request]], list[list[Scored]]]
"""From training sets to the scores of their held-out rows at every point asked for."""


class Asked(NamedTuple):
    """What a cross-validation waits for."""

    scorer: Scorer
    requests: Sequence[Request]


@dataclass
class Shared:
    """What probes and tasks on the same layer share: rows of length one, training sets."""

    limit: int = 2 << 30
    """Bytes of training sets to keep."""
    sources: dict[str, Source] = field(default_factory=dict)
    sets: dict[tuple[str, Left, str, bool], Prepared] = field(default_factory=dict)

    def room(self) -> int:
        """Bytes of memory that are left."""
        return max(0, self.limit - sum(kept.nbytes() for kept in list(self.sets.values())))

    def keep(self, key: tuple[str, Left, str, bool], prepared: Prepared) -> None:
        """Keep a training set while there is room."""
        if prepared.nbytes() <= self.room():
            self.sets[key] = prepared

    def let_go(self, key: tuple[str, Left, str, bool]) -> None:
        """Drop the training sets of other splits and scalings than `key`'s."""
        self.sets = {
            other: prepared
            for other, prepared in self.sets.items()
            if (other[0], *other[2:]) == (key[0], *key[2:])
        }


def side_by_side(score: Callable[[One], Made], requests: Sequence[One]) -> list[Made]:
    """`score` of every training set, as many at a time as there are cores.

    Each runs on one thread: two threads that share a small product wait for each other at its end,
    and on a busy machine that wait is what takes the time (measured: forty times).
    """
    with (
        warnings.catch_warnings(action="ignore"),  # scikit-learn's; `converged` says it
        thread_per_core() as pool,
    ):
        return list(pool.map(score, requests))
