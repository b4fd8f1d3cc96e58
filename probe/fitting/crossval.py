"""One probe on one layer: C chosen inside the training folds, one refit, one score per test fold."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Floats, Ints
from probe.fitting.choosing import Choice, choosing, inner_bytes, points_at_once
from probe.folds.splits import Splits
from probe.probes.grid_fit import Scored
from probe.probes.layer import Source
from probe.probes.linear import ALPHAS_AT_ONCE
from probe.probes.linear_scorer import LinearScorer, score_together
from probe.probes.methods import METHODS
from probe.probes.scaling import AUTO
from probe.probes.scorer import Asked, Left, Request, Scorer, Shared
from probe.probes.settings import ProbeSettings


@dataclass(frozen=True)
class FoldOutcome:
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
    """The relative error of the refit's objective, at most."""
    scale: str = ""
    """The scaling, where it was chosen too."""


@dataclass(frozen=True)
class Outcome:
    """The cross-validated scores of one probe on one layer."""

    scores: Floats
    """`(n, K)`, rows as images.csv; NaN where not tested."""
    folds: tuple[FoldOutcome, ...]
    inner: Ints | None = None
    """The class predicted for each image while the parameter of each fold was chosen, `(n, folds)`, by
    the probe that was trained without the fold and without the image's own part, at the parameter
    chosen; -1 where the image did not validate. None where nothing did."""


Search = Generator[Asked, list[list[Scored]], Outcome]
"""A cross-validation at work: what it asks, what it is told, and what comes of it."""


def cross_validate(
    x: Floats | Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: ProbeSettings,
    shared: Shared | None = None,
    tested: Source | None = None,
) -> Outcome:
    """Choose C, alpha or k by cross-validation inside each training set, then test it once.

    An inner training set that leaves out parts i and j serves both orders: j validates for the fold
    of i, and i for the fold of j. With the scale `auto`, standard and L2 scaling are both tried and
    chosen between in the same way.

    Args:
        x: Features, `(n, dim)`; rows that take no part are not looked at.
        y: Class numbers, `(n,)`, or several labels an image, `(n, labels)`: 1, 0, and -1 where not known.
        classes: K, or how many labels.
        splits: Folds and parts.
        settings: The probe.
        shared: What other probes and tasks have prepared of `x`, and where to put more.
        tested: Features of the same rows under another view, `(n, dim)`, which a test fold is scored
            on in the place of `x`; all that is chosen or fitted is chosen and fitted on `x`.
    """
    source = x if isinstance(x, Source) else Source.of(x)
    shared = Shared() if shared is None else shared
    return together([search(source, y, classes, splits, settings, shared, tested)])[0]


def together(searches: Sequence[Search]) -> list[Outcome]:
    """What comes of several cross-validations on one layer.

    What they ask of the same training sets is solved side by side. Where training sets of one kind alone
    are kept, others would push them out: so those of a kind are done with before the next.
    """
    outcomes: dict[int, Outcome] = {}
    asking = {number: next(each) for number, each in enumerate(searches)}
    last: Scorer | None = None
    while asking:
        numbers = _next(asking, last)
        last = asking[numbers[0]].scorer
        told = _answers([asking.pop(number) for number in numbers])
        for number, scored in zip(numbers, told, strict=True):
            try:
                asking[number] = searches[number].send(scored)
            except StopIteration as end:
                outcomes[number] = end.value
    return [outcomes[number] for number in range(len(searches))]


def _next(asking: Mapping[int, Asked], last: Scorer | None) -> list[int]:
    """The searches to answer: on training sets of the last kind, else such as choose, else the first."""

    def joining(scorer: Scorer | None) -> list[int]:
        if not isinstance(scorer, LinearScorer):
            return []
        return sorted(number for number, asked in asking.items() if scorer.joins(asked.scorer))

    if same := joining(last):
        return same
    choose = [n for n, (_, requests) in asking.items() if all(r.to_choose for r in requests)]
    first = min(choose or asking)
    return joining(asking[first].scorer) or [first]


def _answers(asking: Sequence[Asked]) -> list[list[list[Scored]]]:
    linear = [(s, requests) for s, requests in asking if isinstance(s, LinearScorer)]
    if linear:
        return score_together(linear)
    return [scorer(requests) for scorer, requests in asking]


def search(
    source: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: ProbeSettings,
    shared: Shared,
    tested: Source | None = None,
) -> Search:
    """`cross_validate`, step by step."""
    method = METHODS[settings.method]
    chosen: dict[int, Choice] = {}
    scorers = {}
    for scale in AUTO if settings.scale == "auto" else (settings.scale,):
        here = replace(settings, scale=scale)
        scorers[scale] = method.scorer(source, y, classes, splits, here, shared, None)
        # What makes its sets anew each time, or has every alpha from one factorisation, is asked once.
        at_once = method.at_once and min(source.dim, len(y)) <= ALPHAS_AT_ONCE
        staged = (
            method.is_path
            and not at_once
            and (source.held or inner_bytes(source, splits) <= shared.limit)
        )
        stage = points_at_once(source.dim, len(y))
        choices = yield from choosing(scorers[scale], y, splits, here, staged, stage)
        for fold, choice in choices.items():
            if fold not in chosen or choice.worth > chosen[fold].worth:
                chosen[fold] = choice
    scores = np.full((len(y), classes), np.nan, dtype=np.float32)
    results = {}
    for scale, scorer in scorers.items():
        if tested is not None:
            here = replace(settings, scale=scale)
            scorer = _under_another_view(source, tested, y, classes, splits, here)
        folds = [fold for fold in splits.folds if chosen[fold].scale == scale]
        requests = [Request(splits.tested(fold), [chosen[fold].point]) for fold in folds]
        refits = yield Asked(scorer, requests)
        for fold, (refit,) in zip(folds, refits, strict=True):
            rows = splits.held_out_rows(splits.tested(fold))
            scores[rows] = refit.scores
            results[fold] = FoldOutcome(
                fold,
                refit.value,
                chosen[fold].at_edge,
                chosen[fold].worth,
                len(splits.training_rows(splits.tested(fold))),
                len(rows),
                refit.converged,
                refit.error,
                scale,
            )
    inner = _inner(chosen, len(y)) if y.ndim == 1 else None
    return Outcome(scores, tuple(results[fold] for fold in splits.folds), inner)


def _inner(chosen: Mapping[int, Choice], n: int) -> Ints | None:
    if not any(len(choice.rows) for choice in chosen.values()):
        return None
    inner = np.full((n, max(chosen) + 1), -1, dtype=np.int64)
    for fold, choice in chosen.items():
        inner[choice.rows, fold] = choice.told
    return inner


def _under_another_view(
    source: Source,
    tested: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: ProbeSettings,
) -> Scorer:
    """Trains on rows of `source` and scores those of `tested`, which stand after them in no part."""
    both, n = source.followed_by(tested), len(y)
    apart = replace(splits, part=np.concatenate([splits.part, np.full(n, -1)]))

    def held_out(left: Left) -> Ints:
        return splits.held_out_rows(left) + n

    scorer = METHODS[settings.method].scorer
    return scorer(both, y, classes, apart, settings, Shared(0), held_out)
