"""The linear probes on training sets of one layer, which are made once and shared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from features.arrays import Ints
from probe.folds.splits import Splits
from probe.probes.layer import Prepared, Source, prepared
from probe.probes.linear import Scored, fit_linear
from probe.probes.linear_labels import fit_labels
from probe.probes.scorer import HeldOut, Left, Request, Scorer, Shared, side_by_side
from probe.probes.settings import ProbeSettings
from probe.probes.solver import CAUTION, TO_CHOOSE


def linear_scorer(
    source: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: ProbeSettings,
    shared: Shared,
    held_out: HeldOut | None = None,
) -> Scorer:
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
    centre = settings.method != "svm"
    to_score = held_out or splits.held_out_rows
    same = hashlib.sha256(splits.part.tobytes()).hexdigest()
    if settings.scale == "l2":
        if same not in shared.sources:
            used = [to_score(splits.tested(fold)) for fold in splits.folds]
            shared.sources[same] = source.unit_rows(
                np.union1d(np.flatnonzero(splits.part >= 0), np.concatenate(used))
            )
        source = shared.sources[same]

    def rows(left: Left) -> tuple[Ints, Ints]:
        return splits.training_rows(left), to_score(left)

    def key(left: Left) -> tuple[str, Left, str, bool]:
        return same, left, settings.scale, centre or settings.scale == "standard"

    def fit(training_set: Prepared, request: Request) -> list[Scored]:
        points, start = request.points, request.start
        y_train = y[splits.training_rows(request.left)]
        caution = TO_CHOOSE if request.to_choose else CAUTION
        if y.ndim == 2:
            made = fit_labels(settings, training_set, y_train, points, start, caution)
        else:
            made = fit_linear(settings, training_set, y_train, classes, points, start, caution)
        return request.judged(made)

    def alone(request: Request) -> list[Scored]:
        left = request.left
        training_set = shared.sets.get(key(left))
        if training_set is None:
            sets = [rows(left)]
            ((_, training_set),) = prepared(source, splits.part, sets, settings.scale, centre)
            shared.keep(key(left), training_set)
        return fit(training_set, request)

    def score(requests: Sequence[Request]) -> list[list[Scored]]:
        if source.held and source.device.type == "cpu":
            largest = max((len(splits.training_rows(asked.left)) for asked in requests), default=0)
            for part in np.unique(splits.part[splits.part >= 0]).tolist():
                source.moments(splits.part, [part], largest > source.dim)
            return side_by_side(alone, requests)
        scored: dict[Left, list[Scored]] = {}
        missing = [request for request in requests if key(request.left) not in shared.sets]
        if missing:
            shared.let_go(key(missing[0].left))
        for group in source.groups([rows(request.left) for request in missing], shared.room()):
            sets = [rows(missing[i].left) for i in group]
            made = prepared(source, splits.part, sets, settings.scale, centre)
            for number, training_set in made:
                left = missing[group[number]].left
                scored[left] = fit(training_set, missing[group[number]])
                shared.keep(key(left), training_set)
        for request in requests:
            if request.left not in scored:
                scored[request.left] = fit(shared.sets[key(request.left)], request)
        return [scored[request.left] for request in requests]

    return score
