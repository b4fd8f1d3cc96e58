"""How far an image lies from the training images of an export, in the features of its layer.

Features are standardised by the training rows. Along their r strongest axes a squared distance counts in
variances, and what is left in its mean over the training rows:

    d^2 = sum_k t_k^2 / v_k / r + |rest|^2 / mean |rest|^2

(Hotelling's T^2 and the squared prediction error of principal components; Jackson and Mudholkar,
Control procedures for residuals associated with principal component analysis, Technometrics 1979). The
training rows' own distances are taken with mean, SD and axes of the rows of other subjects, so that they
are those of new images, and d is told in units of their median.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from features.arrays import Doubles, Floats, Ints
from probe.exported.refit import Scaler, scaler_of
from probe.probes.layer import Source

FAR = 0.99
"""The quantile of the training images beyond which an image is marked as far."""
_AXES = 64
_ROWS_AN_AXIS = 10
_MOST_ROWS = 5_000
_GROUPS = 20
"""Of subjects, whose distances are taken from all others'."""
_MOST_QUANTILES = 1_001


@dataclass(frozen=True)
class Axes:
    """The strongest axes of standardised rows."""

    directions: Floats
    """`(r, dim)`, of length one."""
    variances: Floats
    """Along each, `(r,)`."""
    rest: float
    """The mean squared length of what lies off the axes."""

    def squared(self, z: Floats) -> Doubles:
        """The squared distances of standardised rows `(n, dim)`, `(n,)`."""
        along = z @ self.directions.T
        inside = (along.astype(np.float64) ** 2 / self.variances).mean(1)
        off = np.square(z).sum(1, dtype=np.float64) - np.square(along).sum(1, dtype=np.float64)
        return np.asarray(inside + (off.clip(0) / self.rest if self.rest > 0 else 0.0))


@dataclass(frozen=True)
class Distance:
    """The distance of images from the training images."""

    scaler: Scaler
    axes: Axes
    quantiles: Floats
    """Distances of the training rows at evenly spaced quantiles from 0 to 1, ascending."""

    def __call__(self, x: Floats) -> Doubles:
        """The distances of features `(n, dim)`, `(n,)`; 1 is the training images' median."""
        return np.sqrt(self.axes.squared(self.scaler(x))) / self.median

    @property
    def median(self) -> float:
        """The median before it was made the unit."""
        return max(float(np.median(self.quantiles)), 1e-30)

    def quantile(self, distances: Doubles) -> Doubles:
        """The share of the training images that lie nearer, `(n,)`."""
        known = self.quantiles / self.median
        return np.asarray(np.interp(distances, known, np.linspace(0, 1, len(known))))


def distance_from(
    source: Source, rows: Ints, subjects: Ints, scaler: Scaler, seed: int = 0
) -> Distance:
    """The distance from some rows of a layer.

    Args:
        source: Features, `(n, dim)`.
        rows: The training rows; of more than 5,000, so many are drawn.
        subjects: The subject of every one of `rows`, `(len(rows),)`.
        scaler: Of the training rows.
        seed: Of the rows that are drawn.
    """
    if len(rows) > _MOST_ROWS:
        drawn = np.random.default_rng(seed).choice(len(rows), _MOST_ROWS, replace=False)
        rows, subjects = rows[np.sort(drawn)], subjects[np.sort(drawn)]
    group = np.unique(subjects, return_inverse=True)[1] % _GROUPS
    x = source.rows(rows)
    squared = np.empty(len(x))
    for number in np.unique(group):
        away = group == number
        others = rows if away.all() else rows[~away]
        own = scaler_of(source, others)
        squared[away] = axes_of(own(source.rows(others))).squared(own(x[away]))
    points = min(len(x), _MOST_QUANTILES)
    quantiles = np.quantile(np.sqrt(squared), np.linspace(0, 1, points))
    return Distance(scaler, axes_of(scaler(x)), quantiles.astype(np.float32))


def axes_of(z: Floats) -> Axes:
    """The strongest axes of rows `(n, dim)`: a tenth as many as rows, 64 at most."""
    n, dim = z.shape
    r = max(1, min(_AXES, n // _ROWS_AN_AXIS, dim))
    centred = torch.from_numpy(z - z.mean(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, values, turned = torch.svd_lowrank(centred, q=min(r + 8, n, dim), niter=2)
    directions = turned[:, :r].T.contiguous().numpy()
    variances = np.maximum((values[:r].double() ** 2 / n).numpy(), 1e-12).astype(np.float32)
    off = np.square(z).sum(1, dtype=np.float64) - np.square(z @ directions.T).sum(1)
    typical = float(off.clip(0).mean())
    whole = float(np.square(z).sum(1, dtype=np.float64).mean())
    return Axes(directions, variances, typical if typical > 1e-6 * whole else 0.0)
