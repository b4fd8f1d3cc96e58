"""How unlike the training images of an export an image is, in the features of its layer.

Features are standardised by the training rows. Along their r strongest axes a squared length counts in
variances, and off them in its mean over the training rows; cube roots make both even:

    a = (sum_k t_k^2 / v_k / r)^(1/3),    b = (|rest|^2 / mean |rest|^2)^(1/3)

(Hotelling's T^2 and the squared prediction error of principal components; Jackson and Mudholkar,
Control procedures for residuals associated with principal component analysis, Technometrics 1979; the
cube root of a chi-squared number is nearly normal, Wilson and Hilferty 1931). With mean and SD of a over
the training rows, and b = c + s a by least squares, of which B is the SD of what is left,

    d^2 = ((a - mean) / SD)^2 + max(0, (b - c - s a) / B)^2

so that an image is far which is longer off the axes than those that are as long along them. In many
dimensions images of one kind have one length (Nalisnick et al., Detecting out-of-distribution inputs to
deep generative models using typicality, 2019), and in an embedding of faces other pictures are no longer
than faces: short along the axes that tell faces apart, and long off them. The training rows' own a and b
are taken with mean, SD and axes of the rows of other subjects, so that they are those of new images, and d
is told in units of their median.

Files of format 1 have d^2 = a^3 + b^3.
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
_FEATURES_AN_AXIS = 4
_FEW_FEATURES = 4
_MOST_ROWS = 5_000
_GROUPS = 10
"""Of subjects, whose distances are taken from all others'."""
_MOST_QUANTILES = 1_001
_LEAST = 1e-3
"""The least SD of a cube root."""


@dataclass(frozen=True)
class Axes:
    """The strongest axes of standardised rows."""

    directions: Floats
    """`(r, dim)`, of length one."""
    variances: Floats
    """Along each, `(r,)`."""
    rest: float
    """The mean squared length of what lies off the axes."""

    def lengths(self, z: Floats) -> Doubles:
        """The squared lengths of standardised rows `(n, dim)` along the axes and off them, `(n, 2)`.

        Both are 1 on average over the training rows; where nothing lies off the axes that one is 0.
        """
        along = z @ self.directions.T
        inside = (along.astype(np.float64) ** 2 / self.variances).mean(1)
        off = np.square(z).sum(1, dtype=np.float64) - np.square(along).sum(1, dtype=np.float64)
        outside = off.clip(0) / self.rest if self.rest > 0 else np.zeros(len(z))
        return np.stack([inside, outside], axis=1)


@dataclass(frozen=True)
class Typical:
    """The cube roots of the training rows' squared lengths, taken as of new images."""

    mean: float
    """Of those along the axes."""
    sd: float
    constant: float
    """Of those off the axes on those along them."""
    slope: float
    left: float
    """The SD of what that leaves."""

    def distances(self, lengths: Doubles) -> Doubles:
        """The distances of squared lengths `(n, 2)`, `(n,)`."""
        along, off = np.cbrt(lengths).T
        longer = (off - self.constant - self.slope * along) / self.left
        return np.asarray(np.hypot((along - self.mean) / self.sd, longer.clip(0)))


@dataclass(frozen=True)
class Distance:
    """The distance of images from the training images."""

    scaler: Scaler
    axes: Axes
    quantiles: Floats
    """Distances of the training rows at evenly spaced quantiles from 0 to 1, ascending."""
    typical: Typical | None
    """None in files of format 1, whose squared distance is the sum of the lengths."""

    def __call__(self, x: Floats) -> Doubles:
        """The distances of features `(n, dim)`, `(n,)`; 1 is the training images' median."""
        lengths = self.axes.lengths(self.scaler(x))
        if self.typical is None:
            return np.asarray(np.sqrt(lengths.sum(1)) / self.median)
        return self.typical.distances(lengths) / self.median

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
    lengths = np.empty((len(x), 2))
    for number in np.unique(group):
        away = group == number
        others = rows if away.all() else rows[~away]
        own = scaler_of(source, others)
        lengths[away] = axes_of(own(source.rows(others))).lengths(own(x[away]))
    typical = _typical(lengths)
    points = min(len(x), _MOST_QUANTILES)
    quantiles = np.quantile(typical.distances(lengths), np.linspace(0, 1, points))
    return Distance(scaler, axes_of(scaler(x)), quantiles.astype(np.float32), typical)


def _typical(lengths: Doubles) -> Typical:
    """What the squared lengths of some rows, `(n, 2)`, say; those off the axes may all be 0."""
    along, off = np.cbrt(lengths).T
    mean, sd = float(along.mean()), max(float(along.std()), _LEAST)
    slope = float(np.mean((along - mean) * (off - off.mean()))) / sd**2
    constant = float(off.mean()) - slope * mean
    left = max(float((off - constant - slope * along).std()), _LEAST)
    return Typical(mean, sd, constant, slope, left)


def axes_of(z: Floats) -> Axes:
    """The strongest axes of rows `(n, dim)`.

    They are a tenth as many as rows, a fourth as many as features (of very few up to four), 64 at most.
    """
    n, dim = z.shape
    few = max(dim // _FEATURES_AN_AXIS, min(dim, _FEW_FEATURES))
    r = max(1, min(_AXES, n // _ROWS_AN_AXIS, few))
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
