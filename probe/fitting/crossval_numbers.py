"""One probe that predicts a number on one layer: alpha or k chosen inside the training folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Doubles, Floats, Ints
from probe.fitting.crossval import FoldOutcome, Outcome
from probe.folds.splits import Splits
from probe.probes.layer import Source
from probe.probes.methods import METHODS
from probe.probes.ridge_numbers import Predicted
from probe.probes.scaling import AUTO
from probe.probes.scorer import Left
from probe.probes.settings import ProbeSettings


@dataclass(frozen=True)
class _Choice:
    """The best scale and point of the grid for one fold."""

    worth: float
    """Minus the root of the inner mean squared error, in the column's unit."""
    point: int
    at_edge: bool
    scale: str


def cross_validate_numbers(
    x: Floats | Source,
    y: Doubles,
    splits: Splits,
    settings: ProbeSettings,
    tested: Source | None = None,
) -> Outcome:
    """Choose alpha or k by the inner mean squared error, refit, and test every fold once.

    The most regular alpha and the smallest k win among equals. With the scale `auto`, standard and L2
    scaling are chosen between in the same way.

    Args:
        x: Features, `(n, dim)`; rows that take no part are not looked at.
        y: Numbers, `(n,)`.
        splits: Folds and parts.
        settings: The probe: `ridge` or `knn`.
        tested: Features of the same rows under another view, `(n, dim)`, which a test fold is scored on.

    Returns:
        Its scores are the predictions, `(n, 1)`, NaN where not tested.
    """
    source = x if isinstance(x, Source) else Source.of(x)
    imported = METHODS[settings.method].numbers
    assert imported is not None, settings.method
    make = imported()
    chosen: dict[int, _Choice] = {}
    fitted = {}
    for scale in AUTO if settings.scale == "auto" else (settings.scale,):
        here = replace(settings, scale=scale)
        fitted[scale] = make(source, y, splits, here, None)
        for fold, choice in _choose(fitted[scale], y, splits, here).items():
            if fold not in chosen or choice.worth > chosen[fold].worth:
                chosen[fold] = choice
    if tested is not None:
        n = len(y)
        apart = replace(splits, part=np.concatenate([splits.part, np.full(n, -1)]))

        def moved(left: Left) -> Ints:
            return splits.held_out_rows(left) + n

        for scale in fitted:
            here = replace(settings, scale=scale)
            fitted[scale] = make(source.followed_by(tested), y, apart, here, moved)
    scores = np.full((len(y), 1), np.nan, dtype=np.float32)
    folds = []
    for fold in splits.folds:
        choice, left = chosen[fold], splits.tested(fold)
        refit = fitted[choice.scale](left)
        rows = splits.held_out_rows(left)
        scores[rows, 0] = refit.numbers[:, choice.point]
        folds.append(
            FoldOutcome(
                fold=fold,
                value=refit.values[choice.point],
                at_edge=choice.at_edge,
                selection=choice.worth,
                n_train=len(splits.training_rows(left)),
                n_test=len(rows),
                converged=True,
                scale=choice.scale,
            )
        )
    return Outcome(scores, tuple(folds))


def _choose(
    predict: Callable[[Left], Predicted], y: Doubles, splits: Splits, settings: ProbeSettings
) -> dict[int, _Choice]:
    """The point of the grid with the smallest inner mean squared error, for every fold."""
    is_path = METHODS[settings.method].is_path
    known: dict[Left, Doubles] = {}
    chosen = {}
    for fold in splits.folds:
        pieces = []
        for part, left in splits.inner(fold):
            rows = splits.held_out_rows(left)
            if left not in known:
                known[left] = np.square(predict(left).numbers - y[rows, None])
            pieces.append(known[left][splits.part[rows] == part])
        if not pieces:  # nothing validates: the middle of the grid, or the nearest neighbour alone
            point = len(settings.grid) // 2 if is_path else 0
            chosen[fold] = _Choice(np.nan, point, False, settings.scale)
            continue
        common = min(piece.shape[1] for piece in pieces)  # a k may be larger than a training set
        errors = np.concatenate([piece[:, :common] for piece in pieces]).mean(0)
        best = int(np.argmin(errors))
        end = len(settings.grid) - 1 if is_path else common - 1
        at_edge = end > 0 and best in (0, end)
        chosen[fold] = _Choice(-float(np.sqrt(errors[best])), best, at_edge, settings.scale)
    return chosen
