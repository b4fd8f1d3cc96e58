"""A linear probe fitted once more on all rows of its task, as weights that need nothing else.

C is chosen by cross-validation over all folds, one after the other left out. What the solver gives are
scores of rows, not weights, and in coordinates of its own; a probe is linear, so its scores of a row for
every axis tell its weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Doubles, Floats, Ints
from probe.fitting.crossval import FoldOutcome, cross_validate
from probe.folds.splits import Splits
from probe.probes.layer import Source
from probe.probes.methods import METHODS
from probe.probes.settings import ProbeSettings

_BLOCK = 32 << 20
"""Bytes of rows that are looked at together."""
_FLOOR = 1e-3
"""The least SD of a feature, as a share of the root mean square SD of all."""
FAR = 1024.0
"""How many SDs from the mean the row for an axis lies: so far that the rounding of the scores, which is
relative, is that of the weight alone."""


@dataclass(frozen=True)
class Scaler:
    """The mean of every feature over the training rows, and one over its SD."""

    mean: Floats
    """`(dim,)`."""
    scale: Floats
    """`(dim,)`; the SD of a feature counts as a thousandth of the others' at least."""

    def __call__(self, x: Floats) -> Floats:
        """Rows `(n, dim)`, standardised."""
        return (x - self.mean) * self.scale


@dataclass(frozen=True)
class LinearProbe:
    """A linear probe: scores of rows are a matrix product."""

    scaler: Scaler
    weight: Floats
    """`(K, dim)`."""
    bias: Floats
    """`(K,)`."""
    unit_rows: bool = False
    """Rows are divided by their lengths, in the place of standardising them."""

    def scores(self, x: Floats) -> Floats:
        """The scores of features `(n, dim)`, `(n, K)`; the largest is the prediction."""
        if self.unit_rows:
            z = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        else:
            z = self.scaler(x)
        return np.asarray(z @ self.weight.T + self.bias, dtype=np.float32)


@dataclass(frozen=True)
class Refitted:
    """A probe fitted on all rows, and what was chosen for it."""

    probe: LinearProbe
    classes: tuple[int, ...]
    """The numbers of the classes that the rows have, in the order of the scores."""
    choice: FoldOutcome


def refit(
    source: Source, y: Ints, classes: int, splits: Splits, settings: ProbeSettings
) -> Refitted:
    """Choose C (or alpha, and with the scale `auto` the scaling) over all folds, and fit on all rows.

    Args:
        source: Features, `(n, dim)`.
        y: Class numbers, `(n,)`.
        classes: K.
        splits: The folds of the cross-validation; rows of no part take none here either.
        settings: The probe.
    """
    used = np.flatnonzero(splits.part >= 0)
    scaler = scaler_of(source, used)
    choice = _choose(source, y, classes, splits, settings)
    scale = choice.scale or settings.scale
    point = 1 / choice.value if METHODS[settings.method].value_is_alpha else choice.value
    fixed = replace(settings, scale=scale, grid=(float(point),), relative=False)
    axes = unit_axes(source.dim) if scale == "l2" else axes_from(scaler)
    both = source.followed_by(axes)
    apart = with_a_test_part(splits, axes.n, validates=False)
    fitted = cross_validate(both, _with_more(y, splits, axes.n), classes, apart, fixed)
    scores = fitted.scores[source.n :].astype(np.float64)  # (dim + 1, K)
    seen = np.unique(y[used])
    bias = scores[-1, seen]
    weight = (scores[:-1, seen] - bias).T / (1.0 if scale == "l2" else FAR)
    probe = LinearProbe(
        scaler, weight.astype(np.float32), bias.astype(np.float32), unit_rows=scale == "l2"
    )
    last = replace(fitted.folds[0], at_edge=choice.at_edge, selection=choice.selection, scale=scale)
    return Refitted(probe, tuple(seen.tolist()), last)


def scaler_of(source: Source, rows: Ints) -> Scaler:
    """Mean and SD of every feature over some rows, in two passes and float64."""
    some = max(1, _BLOCK // (4 * source.dim))
    blocks = [rows[start : start + some] for start in range(0, len(rows), some)]
    total = np.zeros(source.dim)
    for block in blocks:
        total += source.rows(block).sum(0, dtype=np.float64)
    mean = (total / len(rows)).astype(np.float32)
    squares = np.zeros(source.dim)
    for block in blocks:
        squares += np.square(source.rows(block) - mean).sum(0, dtype=np.float64)
    sd = np.sqrt(squares / len(rows))
    floor = max(_FLOOR * float(np.sqrt(np.mean(sd**2))), 1e-30)
    return Scaler(mean, (1 / np.maximum(sd, floor)).astype(np.float32))


def _choose(
    source: Source, y: Ints, classes: int, splits: Splits, settings: ProbeSettings
) -> FoldOutcome:
    """What is chosen for a test part that holds one row: C over all folds."""
    first = int(np.flatnonzero(splits.part >= 0)[0])
    once_more = Source.of(source.rows(np.array([first])))
    apart = with_a_test_part(splits, 1, validates=splits.validates)
    both = source.followed_by(once_more)
    return cross_validate(both, _with_more(y, splits, 1), classes, apart, settings).folds[0]


def with_a_test_part(splits: Splits, rows: int, *, validates: bool) -> Splits:
    """The splits with `rows` more rows, which alone are tested: all others train, and validate in turn.

    Of more folds than choose alone, groups of them validate.
    """
    own = splits.validating
    last = int(own.max()) + 1
    part = np.concatenate([own, np.full(rows, last)])
    of_part = np.append(np.full(last, -1), 0)
    choosing = splits.choosing if validates else ()
    return Splits(part, of_part, choosing, validates)


def _with_more(y: Ints, splits: Splits, rows: int) -> Ints:
    """The labels with those of `rows` more rows, which are tested and so of no account."""
    return np.concatenate([y, np.full(rows, int(y[splits.part >= 0][0]))])


def axes_from(scaler: Scaler) -> Source:
    """A row for every feature, far from the mean along it alone, and then the mean, `(dim + 1, dim)`."""
    step = FAR / scaler.scale.astype(np.float64)
    return _spikes(scaler.mean, (scaler.mean + step).astype(np.float32))


def unit_axes(dim: int) -> Source:
    """A row of length one for every feature, and then zeros, `(dim + 1, dim)`."""
    return _spikes(np.zeros(dim, dtype=np.float32), np.ones(dim, dtype=np.float32))


def _spikes(base: Floats, spike: Floats) -> Source:
    """Rows that are `base` but for `spike` in one place each, and `base` last; none is kept in memory."""
    dim = len(base)

    def rows(wanted: Ints) -> Floats:
        made = np.tile(base, (len(wanted), 1))
        here = np.flatnonzero(wanted < dim)
        made[here, wanted[here]] = spike[wanted[here]]
        return made

    def columns(start: int, stop: int) -> Floats:
        made = np.tile(base[start:stop], (dim + 1, 1))
        own = np.arange(start, stop)
        made[own, own - start] = spike[own]
        return made

    return Source(dim + 1, dim, rows, columns)


def temperature_of(scores: Floats, y: Ints) -> float:
    """What margins are multiplied by, so that their softmax is a probability: the least log loss.

    The order of the classes stays as it is (Guo et al., On calibration of modern neural networks, 2017).

    Args:
        scores: Margins of images that took no part in their making, `(n, K)`.
        y: Their classes, `(n,)`.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    margins: Doubles = np.nan_to_num(scores.astype(np.float64), neginf=-1e6)

    def loss(log_times: float) -> float:
        p = log_softmax(margins * np.exp(log_times), axis=1)
        return float(-np.maximum(p[np.arange(len(y)), y], np.log(1e-15)).mean())

    best = minimize_scalar(loss, bounds=(np.log(1e-2), np.log(1e2)), method="bounded")
    return float(np.exp(best.x))
