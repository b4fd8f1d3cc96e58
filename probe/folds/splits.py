"""The splits of one task: folds, and the parts that the inner cross-validation leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from features.arrays import Ints
from features.errors import InputError

MOST_ALONE = 30
"""Folds up to this many choose alone: of more, whole groups do, since their pairs grow with the square."""
GROUPS = 10
"""Groups that more folds are dealt into."""


class Unfit(InputError):
    """One task cannot be cross-validated; others of the study may be."""


@dataclass(frozen=True)
class Splits:
    """The cross-validation of one task.

    Rows are grouped into parts; a fold is one part, or several where there are only two folds. Every
    training set is a union of whole parts, so it is named by the parts that it leaves out.
    """

    part: Ints
    """The part of every row of images.csv, `(n,)`; -1 for rows that take no part."""
    fold_of_part: Ints
    """The test fold that each part belongs to; -1 for parts that are never tested."""
    choosing: tuple[int, ...] = ()
    """The only parts that validate; none: every part does, while its fold is not tested."""
    validates: bool = True
    """Whether any part does."""
    too_small: tuple[int, ...] = ()
    """Classes whose rows take no part: all are in one fold, so that its training set lacks them."""

    @property
    def fold(self) -> Ints:
        """The test fold of every row, `(n,)`; -1 where it is not tested."""
        return np.where(self.part < 0, -1, self.fold_of_part[self.part])

    @property
    def folds(self) -> range:
        """The numbers of the folds."""
        return range(int(self.fold_of_part.max()) + 1)

    def tested(self, fold: int) -> frozenset[int]:
        """The parts that make up a fold: what its training set leaves out."""
        return frozenset(np.flatnonzero(self.fold_of_part == fold).tolist())

    @property
    def in_groups(self) -> bool:
        """Whether there are so many folds that groups of them validate."""
        return not self.choosing and len(self.folds) > MOST_ALONE

    @property
    def validating(self) -> Ints:
        """The part with which every row validates, `(n,)`, and its group where folds are `in_groups`."""
        return np.where(self.part < 0, -1, self.part % GROUPS) if self.in_groups else self.part

    def inner(self, fold: int) -> Iterator[tuple[int, frozenset[int]]]:
        """For every part outside `fold`: the part, and what is left out while it validates.

        Of many folds (`in_groups`) the other groups validate in the place of parts, and the whole group of
        `fold` is left out, so that its folds share what was trained.
        """
        if not self.validates:
            return
        if self.in_groups:
            for group in (number for number in range(GROUPS) if number != fold % GROUPS):
                yield group, self._group(fold % GROUPS) | self._group(group)
            return
        for part in self.choosing or np.flatnonzero(self.fold_of_part != fold).tolist():
            if (self.part == part).any():
                yield part, self.tested(fold) | {part}

    def _group(self, number: int) -> frozenset[int]:
        """Every tenth part; each is a fold."""
        return frozenset(range(number, len(self.fold_of_part), GROUPS))

    def training_rows(self, left_out: frozenset[int]) -> Ints:
        """The rows of all parts but those left out."""
        return np.flatnonzero((self.part >= 0) & ~np.isin(self.part, sorted(left_out)))

    def held_out_rows(self, left_out: frozenset[int]) -> Ints:
        """The rows of the parts left out."""
        return np.flatnonzero(np.isin(self.part, sorted(left_out)))
