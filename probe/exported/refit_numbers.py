"""A ridge regression on a number, fitted once more on all rows, as weights that need nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from features.arrays import Doubles
from probe.exported.refit import (
    FAR,
    LinearProbe,
    Refitted,
    axes_from,
    scaler_of,
    unit_axes,
    with_a_test_part,
)
from probe.fitting.crossval_numbers import cross_validate_numbers
from probe.folds.splits import Splits
from probe.probes.layer import Source
from probe.probes.methods import METHODS
from probe.probes.settings import ProbeSettings


def refit_numbers(source: Source, y: Doubles, splits: Splits, settings: ProbeSettings) -> Refitted:
    """Choose alpha (and with the scale `auto` the scaling) over all folds, and fit on all rows.

    Args:
        source: Features, `(n, dim)`.
        y: Numbers, `(n,)`.
        splits: The folds of the cross-validation; rows of no part take none here either.
        settings: The probe, whose scores must be linear.
    """
    used = np.flatnonzero(splits.part >= 0)
    once_more = Source.of(source.rows(used[:1]))
    choice = cross_validate_numbers(
        source.followed_by(once_more),
        np.append(y, y[used[0]]),
        with_a_test_part(splits, 1, validates=splits.validates),
        settings,
    ).folds[0]
    scale = choice.scale or settings.scale
    fixed = replace(settings, scale=scale, grid=(1 / choice.value,), relative=False)
    scaler = scaler_of(source, used)
    axes = unit_axes(source.dim) if scale == "l2" else axes_from(scaler)
    apart = with_a_test_part(splits, axes.n, validates=False)
    imported = METHODS[settings.method].numbers
    assert imported is not None, settings.method
    numbers = np.concatenate([y, np.full(axes.n, y[used[0]])])
    fitted = imported()(source.followed_by(axes), numbers, apart, fixed, None)
    predicted = fitted(apart.tested(0)).numbers[:, 0]  # (dim + 1,)
    bias = predicted[-1:]
    weight = (predicted[:-1] - bias) / (1.0 if scale == "l2" else FAR)
    probe = LinearProbe(
        scaler, weight[None].astype(np.float32), bias.astype(np.float32), unit_rows=scale == "l2"
    )
    return Refitted(probe, (), replace(choice, scale=scale))
