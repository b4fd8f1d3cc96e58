"""What predicted numbers are worth: metrics of a number task, and their values by image.

The mean of a metric's values by image is the metric, and their spread between subjects is that of its
linearisation (its influence function), so that intervals of means over subjects are intervals of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.arrays import Doubles


@dataclass(frozen=True)
class PredictedNumbers:
    """The predicted and true numbers of images, `(n,)` each, in the column's unit."""

    predicted: Doubles
    y: Doubles

    @cached_property
    def off(self) -> Doubles:
        """The prediction minus the truth, `(n,)`."""
        return np.asarray(self.predicted - self.y, dtype=np.float64)


def absolute_errors(images: PredictedNumbers) -> Doubles:
    """The absolute error of every image, `(n,)`."""
    return np.abs(images.off)


def mean_absolute_error(images: PredictedNumbers) -> float:
    """The mean absolute error, in the column's unit."""
    return float(absolute_errors(images).mean())


def root_mean_square(images: PredictedNumbers) -> float:
    """The root of the mean squared error, in the column's unit."""
    return float(np.sqrt(np.square(images.off).mean()))


def root_mean_square_by_image(images: PredictedNumbers) -> Doubles:
    """Values whose mean is the root of the mean squared error, `(n,)`: its linearisation."""
    root, squares = root_mean_square(images), np.square(images.off)
    if root == 0:
        return squares
    return np.asarray(root + (squares - root**2) / (2 * root))


def r_squared(images: PredictedNumbers) -> float | None:
    """One minus the squared errors over the squared distances from the mean; None where y is constant."""
    spread = np.square(images.y - images.y.mean()).mean()
    return float(1 - np.square(images.off).mean() / spread) if spread > 0 else None


def r_squared_by_image(images: PredictedNumbers) -> Doubles:
    """Values whose mean is R2, `(n,)`: the linearised ratio of two means; NaN where y is constant."""
    away = np.square(images.y - images.y.mean())
    spread = away.mean()
    if not spread > 0:
        return np.full(len(away), np.nan)
    squares = np.square(images.off)
    ratio = squares.mean() / spread
    return np.asarray(1 - ratio - (squares - ratio * away) / spread)


def spearman(images: PredictedNumbers) -> float | None:
    """The correlation of ranks, ties sharing theirs; None where either side is constant."""
    values = spearman_by_image(images)
    return None if np.isnan(values).any() else float(values.mean())


def spearman_by_image(images: PredictedNumbers) -> Doubles:
    """Values whose mean is Spearman's correlation, `(n,)`; NaN where either side is constant.

    With u and v the ranks as shares of n, it is (mean of u v, less the product of the means) over the SDs.
    Beside its own product an image moves the ranks of the others: the mean of v over the images above it
    in u, and of u over those above it in v (Hoeffding 1948, for a U-statistic of degree three).
    """
    u, v = _ranks(images.predicted), _ranks(images.y)
    scale = float(u.std() * v.std())
    if not scale > 0:
        return np.full(len(u), np.nan)
    product = float((u * v).mean())
    moved = u * v + _mean_above(u, v) + _mean_above(v, u)
    rho = (product - float(u.mean() * v.mean())) / scale
    return np.asarray(rho + (moved - moved.mean()) / scale)


def _ranks(x: Doubles) -> Doubles:
    """The share of images below each, those equal to it counting half, `(n,)`."""
    from scipy import stats  # slow to import

    return np.asarray((stats.rankdata(x) - 0.5) / len(x))


def _mean_above(order: Doubles, weights: Doubles) -> Doubles:
    """For every image, the sum of `weights` over those above it in `order`, equals half, over n, `(n,)`."""
    _, place = np.unique(order, return_inverse=True)
    sums = np.bincount(place, weights=weights)
    above = sums.sum() - np.cumsum(sums) + sums / 2
    return np.asarray(above[place] / len(order))
