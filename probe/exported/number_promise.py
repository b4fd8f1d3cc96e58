"""The promise of an export of a number: its mean absolute error, and that of so many new images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from features.arrays import Doubles, Ints
from probe.analysis.scale import Scale
from probe.analysis.statistics import LEVEL, Interval
from probe.exported.promise import images_alike, within_subjects


@dataclass(frozen=True)
class NumberPromise:
    """The cross-validated mean absolute error of a result, and how far it can be relied on."""

    mae: float
    """In the column's unit, as are `low`, `high` and `sd`."""
    low: float
    high: float
    images: int
    """Images that were tested."""
    subjects: int
    effective: float
    """Effective number of subjects."""
    within: float
    """The correlation of absolute errors within a subject, 0 to 1."""
    sd: float
    """Of the absolute errors, between images."""
    unit: str
    """Of the errors, in words."""

    @property
    def interval(self) -> Interval:
        """The mean absolute error with its 95 % interval."""
        return Interval(self.mae, self.low, self.high, self.effective)

    def __str__(self) -> str:
        """The error with its interval and unit."""
        return f"a mean absolute error of {Scale(self.unit).value(self.interval)}"

    def predicted(self, subjects: Sequence[object]) -> tuple[float, float]:
        """Between which two mean absolute errors new images lie 95 times in 100, if like the study's.

        Both samples have their chance, so the variances of the two means add up: that of the promise, from
        its own interval, and sd^2 / m, with m the number of new images over Kish's design effect at the
        correlation measured in the study. The ends are quantiles of the gamma distribution with that mean
        and variance, which for many images is the normal one; errors of few are skewed, and never below 0.
        Where few subjects were tested, the variance is as much larger as Student's t is than the normal.

        Args:
            subjects: The subject of every new image, `(m,)`; None for an image of a subject of its own.
        """
        t = float(special.stdtrit(max(self.effective - 1, 1.0), 0.5 + LEVEL / 2))
        normal = float(special.ndtri(0.5 + LEVEL / 2))
        own = (self.high - self.mae) / normal  # which has its t already
        new = self.sd / np.sqrt(images_alike(subjects, self.within)) * t / normal
        variance = own**2 + new**2
        if not (variance > 0 and self.mae > 0):
            return self.mae, self.mae
        shape = self.mae**2 / variance
        if shape > _MANY:
            reach = normal * float(np.sqrt(variance))
            return self.mae - reach, self.mae + reach
        low, high = special.gammaincinv(shape, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
        return float(low * self.mae / shape), float(high * self.mae / shape)


_MANY = 1e6
"""The shape of a gamma distribution from which on it is normal."""


def number_promise_of(error: Interval, errors: Doubles, subjects: Ints, unit: str) -> NumberPromise:
    """The promise that cross-validated predictions make.

    Args:
        error: Their mean absolute error with its interval.
        errors: The absolute errors, `(n,)`.
        subjects: The subject of every tested image, `(n,)`.
        unit: Of the errors, in words.
    """
    return NumberPromise(
        error.value, error.low, error.high, len(errors), len(np.unique(subjects)), error.effective,
        within_subjects(errors, subjects), float(errors.std()), unit,
    )  # fmt: skip
