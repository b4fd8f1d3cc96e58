"""The linear probes on training sets of one layer, which are made once and shared.

Several probes and tasks that ask for the same training sets at a time are solved side by side there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Ints
from probe.folds.splits import Splits
from probe.probes.grid_fit import GridFit, Scored, searched
from probe.probes.layer import Prepared, Source, prepared
from probe.probes.linear import linear_fit
from probe.probes.linear_labels import labels_fit
from probe.probes.scorer import HeldOut, Left, Request, Shared, side_by_side
from probe.probes.settings import ProbeSettings
from probe.probes.solver import CAUTION, TO_CHOOSE

Key = tuple[str, Left, str, bool]
"""What a training set is kept under."""


@dataclass(frozen=True)
class LinearScorer:
    """Fits a linear probe on training sets and scores the rows that they leave out."""

    source: Source
    """Features, `(n, dim)`, as the scale takes them."""
    y: Ints
    """Class numbers, `(n,)`, or several labels an image, `(n, labels)`."""
    classes: int
    splits: Splits
    settings: ProbeSettings
    shared: Shared
    """Training sets that are there already, and where to keep more."""
    held_out: HeldOut | None
    """The rows to score, where they are others than those left out."""
    same: str
    """Digest of the parts."""

    @property
    def is_centred(self) -> bool:
        """Whether the mean of the training rows is subtracted whatever the scale."""
        return self.settings.method != "svm"

    def key(self, left: Left) -> Key:
        """What the training set without these parts is kept under."""
        scale = self.settings.scale
        return self.same, left, scale, self.is_centred or scale == "standard"

    def rows(self, left: Left) -> tuple[Ints, Ints]:
        """The training rows without these parts, and those to score."""
        held_out = self.held_out or self.splits.held_out_rows
        return self.splits.training_rows(left), held_out(left)

    def fit(self, training_set: Prepared, request: Request) -> list[Scored] | GridFit:
        """The scores at the points asked for, or what the solver is to find first."""
        points, start = request.points, request.start
        y = self.y[self.splits.training_rows(request.left)]
        caution = TO_CHOOSE if request.to_choose else CAUTION
        if y.ndim == 2:
            return labels_fit(self.settings, training_set, y, points, start, caution)
        return linear_fit(self.settings, training_set, y, self.classes, points, start, caution)

    def joins(self, other: object) -> bool:
        """Whether both can be asked together: they have the same training sets and rows to score."""
        nothing: Left = frozenset()
        return (
            isinstance(other, LinearScorer)
            and self.source is other.source
            and self.shared is other.shared
            and self.key(nothing) == other.key(nothing)
            and self.held_out is other.held_out
        )

    def __call__(self, requests: Sequence[Request]) -> list[list[Scored]]:
        """The scores at every point asked for, training set by training set."""
        return score_together([(self, requests)])[0]


def linear_scorer(
    source: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: ProbeSettings,
    shared: Shared,
    held_out: HeldOut | None = None,
) -> LinearScorer:
    """The scorer that fits a linear probe on training sets and scores the rows that they leave out.

    Args:
        source: Features, `(n, dim)`.
        y: Class numbers, `(n,)`, or several labels an image, `(n, labels)`.
        classes: K.
        splits: Folds and parts.
        settings: The probe.
        shared: Training sets that are there already, and where to keep more.
        held_out: The rows to score, where they are others than those left out.
    """
    to_score = held_out or splits.held_out_rows
    same = hashlib.sha256(splits.part.tobytes()).hexdigest()
    if settings.scale == "l2":
        if same not in shared.sources:
            used = [to_score(splits.tested(fold)) for fold in splits.folds]
            shared.sources[same] = source.unit_rows(
                np.union1d(np.flatnonzero(splits.part >= 0), np.concatenate(used))
            )
        source = shared.sources[same]
    return LinearScorer(source, y, classes, splits, settings, shared, held_out, same)


def score_together(
    asked: Sequence[tuple[LinearScorer, Sequence[Request]]],
) -> list[list[list[Scored]]]:
    """The scores that scorers which join each other are asked for, each in the order of its requests."""
    first = asked[0][0]
    source, shared, parts = first.source, first.shared, first.splits.part
    of_set: dict[Left, list[tuple[int, LinearScorer, Request]]] = {}
    for number, (scorer, requests) in enumerate(asked):
        for request in requests:
            of_set.setdefault(request.left, []).append((number, scorer, request))

    def fit(training_set: Prepared, left: Left) -> dict[int, list[Scored]]:
        wanted = of_set[left]
        told = [scorer.fit(training_set, request) for _, scorer, request in wanted]
        solved = iter(searched(training_set, [one for one in told if isinstance(one, GridFit)]))
        made = [next(solved) if isinstance(one, GridFit) else one for one in told]
        every = zip(wanted, made, strict=True)
        return {number: request.judged(scores) for (number, _, request), scores in every}

    def alone(left: Left) -> dict[int, list[Scored]]:
        training_set = shared.sets.get(first.key(left))
        if training_set is None:
            scale, sets = first.settings.scale, [first.rows(left)]
            ((_, training_set),) = prepared(source, parts, sets, scale, first.is_centred)
            shared.keep(first.key(left), training_set)
        return fit(training_set, left)

    if source.held and source.device.type == "cpu":
        largest = max((len(first.splits.training_rows(left)) for left in of_set), default=0)
        for part in np.unique(parts[parts >= 0]).tolist():
            source.moments(parts, [part], largest > source.dim)
        scored = dict(zip(of_set, side_by_side(alone, list(of_set)), strict=True))
    else:
        scored = {}
        missing = [left for left in of_set if first.key(left) not in shared.sets]
        if missing:
            shared.let_go(first.key(missing[0]))
        for group in source.groups([first.rows(left) for left in missing], shared.room()):
            lefts = [missing[i] for i in group]
            sets = [first.rows(left) for left in lefts]
            scale = first.settings.scale
            for number, training_set in prepared(source, parts, sets, scale, first.is_centred):
                scored[lefts[number]] = fit(training_set, lefts[number])
                shared.keep(first.key(lefts[number]), training_set)
        for left in of_set:
            if left not in scored:
                scored[left] = fit(shared.sets[first.key(left)], left)
    return [
        [scored[request.left][number] for request in requests]
        for number, (_, requests) in enumerate(asked)
    ]
