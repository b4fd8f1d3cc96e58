"""Intervals and tests for accuracies of images that cluster in subjects.

An accuracy is a ratio of sums over subjects, sum_g c_g / sum_g n_g. Its standard error comes from
leaving out one subject at a time (the delete-one jackknife; Cochran, Sampling Techniques, 1977, ch. 6)
and its interval from Student's t with the effective number of subjects, (sum n_g)^2 / sum n_g^2, less
one: where a handful of subjects hold most images, that handful is the sample. High accuracies of
subjects of unequal size need a second standard error, see `accuracy_interval`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from features.arrays import Doubles, Ints

_DRAWS = 4_000
LEVEL = 0.95
_ENUMERATED = 12  # subjects


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; fractions."""

    value: float
    low: float
    high: float
    effective: float
    """Effective number of subjects."""

    def __str__(self) -> str:
        """In per cent: `61.2 % [58.0, 64.4]`."""
        return f"{self.value:.1%} [{100 * self.low:.1f}, {100 * self.high:.1f}]".replace("%", " %")


@dataclass(frozen=True)
class Band:
    """Estimates at several layers with intervals that hold for all of them at once (95 %)."""

    value: Doubles
    low: Doubles
    high: Doubles


@dataclass(frozen=True)
class Beside:
    """An error of other cause than the choice of images, independent of it: of what else was drawn."""

    error: float | Doubles
    """The standard error, one number or one for each layer."""
    freedom: float
    """The degrees of freedom that it was estimated with."""


def mean_interval(
    values: npt.NDArray[np.floating],
    subjects: Ints,
    wider: float = 1.0,
    beside: Beside | None = None,
) -> Interval:
    """The mean of `values`, `(n,)`, a value per image, with its interval over subjects.

    The standard error is multiplied by `wider`, for which see training_variance.py; that of `beside` is
    added to it in squares.
    """
    mean, error, _, effective = _by_subject(np.asarray(values, dtype=np.float64)[:, None], subjects)
    margin = float(_margin(wider * error, effective, beside)[0])
    return Interval(float(mean[0]), float(mean[0]) - margin, float(mean[0]) + margin, effective)


def difference_interval(
    apart: npt.NDArray[np.floating], subjects: Ints, wider: float = 1.0
) -> Interval:
    """The mean of `apart`, `(n,)`: an image each, right (1) or wrong (0) by one result minus by another.

    As `mean_interval`; but where the two agree on every image there is no spread to measure. Then the bound
    is Clopper and Pearson's (Biometrika 26, 1934) on how many subjects they may disagree about: where none
    of n was seen to, at most 1 - 0.025^(1/n), about 3.7 / n, all of them one way or the other.
    """
    plain = mean_interval(apart, subjects, wider)
    if np.any(apart):
        return plain
    most = 1 - ((1 - LEVEL) / 2) ** (1 / plain.effective)
    return Interval(0.0, -most, most, plain.effective)


def standard_error(values: npt.NDArray[np.floating], subjects: Ints) -> float:
    """The standard error of the mean of `values`, `(n,)`, over subjects."""
    return float(_by_subject(np.asarray(values, dtype=np.float64)[:, None], subjects)[1][0])


def accuracy_interval(
    correct: npt.NDArray[np.floating], subjects: Ints, wider: float = 1.0
) -> Interval:
    """The mean of `correct`, `(n,)`, of 0 and 1, with its interval over subjects on the logit scale.

    On that scale the interval stays within 0 and 1. The standard error is multiplied by `wider`, for which
    see training_variance.py.

    Where a few subjects hold most images and all of these happen to be right, the jackknife's error is
    far too small. So the larger is taken of that error and of the one that the intraclass correlation
    implies, in which small subjects count as well (see `_correlated`). With the subject sizes of Adience
    and an accuracy of 95 %, this interval holds the truth 96 times in 100, the jackknife's alone 92.

    Where all images are right, or all are wrong, there is no spread to measure: the interval is then
    Wilson's, for as many trials as there are effective subjects.
    """
    plain = mean_interval(correct, subjects)
    n, p = plain.effective, plain.value
    if p in (0.0, 1.0):
        z = special.ndtri(0.5 + LEVEL / 2)
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return Interval(p, float(max(0, centre - half)), float(min(1, centre + half)), n)
    reach = (plain.high - p) / (p * (1 - p))
    if np.isfinite(reach):
        reach = max(reach, _t(n) * _correlated(correct, subjects) / (p * (1 - p))) * wider
    low, high = special.expit(special.logit(p) + np.array([-reach, reach]))
    return Interval(p, float(low), float(high), n)


def sign_flip(values: npt.NDArray[np.floating], subjects: Ints, seed: int = 0) -> float:
    """The two-sided p-value of the mean of paired differences `(n,)`, by flipping signs of subjects.

    If neither of two methods is better, all differences of a subject might as well have had the other
    sign. So the sum over subjects is compared with the sums under other signs, one sign per subject: all
    possible signs where there are few subjects, else 9,999 drawn ones beside the observed one.

    Sums of whole images are often equal, which would make the test reject too seldom. Of the drawn sums
    that equal the observed one, half count (the mid-p value; Fagerland, Lydersen and Laake, 2013). With
    few subjects all of them count, since there a half would make the test reject too often.
    """
    _, group = np.unique(subjects, return_inverse=True)
    sums = np.bincount(group, weights=np.asarray(values, dtype=np.float64))
    sums = sums[sums != 0]
    observed = abs(sums.sum())
    if len(sums) <= _ENUMERATED:
        signs = 1.0 - 2.0 * (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1)
        return float((np.abs(signs @ sums) >= observed * (1 - 1e-12)).mean())
    rng = np.random.default_rng(seed)
    farther = 1.0  # the observed sum itself
    for _ in range(9):
        flipped = rng.integers(0, 2, size=(1_111, len(sums)), dtype=np.int8).astype(np.float64)
        drawn = np.abs(sums.sum() - 2 * flipped @ sums)
        farther += float((drawn > observed * (1 + 1e-12)).sum()) / 2
        farther += float((drawn >= observed * (1 - 1e-12)).sum()) / 2
    return farther / 10_000


def band(
    values: npt.NDArray[np.floating],
    subjects: Ints,
    wider: float | Doubles = 1.0,
    seed: int = 0,
    beside: Beside | None = None,
) -> Band:
    """The means of `values`, `(n, layers)`, with a simultaneous band over the layers.

    The half width at a layer is its standard error times a factor that is the same for all layers: the
    95 % quantile of the largest absolute studentised deviation when every subject's share in the
    deviation takes a random sign, the same at all layers (the multiplier bootstrap of the maximum;
    Montiel Olea and Plagborg-Moller, 2019). The band is never narrower than the interval of a single
    layer. Standard errors are multiplied by `wider`, one number or one for each layer, for which see
    training_variance.py; those of `beside` are added in squares.
    """
    mean, error, influence, effective = _by_subject(np.asarray(values, dtype=np.float64), subjects)
    varies = error > 0
    margin = _margin(wider * error, effective, beside)
    if varies.any():
        rng = np.random.default_rng(seed)
        signs = rng.choice((-1.0, 1.0), size=(_DRAWS, len(influence)))
        deviation = np.abs(signs @ influence[:, varies]) / error[varies]
        largest = np.quantile(deviation.max(1), LEVEL)
        single = special.ndtri(0.5 + LEVEL / 2)
        margin = margin * max(1.0, float(largest / single))
    return Band(mean, mean - margin, mean + margin)


def slope(
    values: npt.NDArray[np.floating],
    depth: npt.NDArray[np.floating],
    subjects: Ints,
    wider: float = 1.0,
    beside: Beside | None = None,
) -> Interval:
    """The least-squares slope of the layers' means over depth, with its interval over subjects.

    Depth runs from 0 to 1, so the slope is the change from one end of the network to the other. It is a
    weighted sum of the layers' values, and so the mean of each image's own slope.

    Args:
        values: A value per image and layer, `(n, layers)`.
        depth: The depth of every layer, `(layers,)`.
        subjects: The subject of every image, `(n,)`.
        wider: What standard errors are multiplied by, for which see training_variance.py.
        beside: An error of the slope that is added in squares.
    """
    of_images = np.asarray(values, dtype=np.float64) @ slope_weights(depth)
    return mean_interval(of_images, subjects, wider, beside)


def slope_weights(depth: npt.NDArray[np.floating]) -> Doubles:
    """The weights of the layers' values, `(layers,)`, whose sum is the least-squares slope over depth."""
    centred = depth - depth.mean()
    return np.asarray(centred / max(float(centred @ centred), 1e-12))


def _by_subject(values: Doubles, subjects: Ints) -> tuple[Doubles, Doubles, Doubles, float]:
    """Means and standard errors `(layers,)`, influences `(subjects, layers)`, and effective subjects."""
    _, group = np.unique(subjects, return_inverse=True)
    sizes = np.bincount(group).astype(np.float64)  # (g,)
    sums = np.stack(
        [np.bincount(group, weights=column) for column in values.T], axis=1
    )  # (g, layers)
    total, count = sums.sum(0), sizes.sum()
    mean = total / count
    effective = float(count**2 / (sizes**2).sum())
    g = len(sizes)
    if g < 2:
        nothing = np.full_like(mean, np.inf)
        return mean, nothing, np.zeros_like(sums), effective
    without = (total - sums) / (count - sizes)[:, None]  # each subject left out
    deviation = without - without.mean(0)
    influence = np.sqrt((g - 1) / g) * deviation
    return mean, np.sqrt((influence**2).sum(0)), influence, effective


def _correlated(correct: npt.NDArray[np.floating], subjects: Ints) -> float:
    """The standard error of an accuracy, from the intraclass correlation within subjects.

    The correlation rho comes from the analysis of variance between and within subjects (Ridout,
    Demetrio and Firth, Biometrics 1999); the design effect is Kish's, 1 + (sum n_g^2 / n - 1) rho.
    """
    _, group = np.unique(subjects, return_inverse=True)
    sizes = np.bincount(group).astype(np.float64)
    own = np.bincount(group, weights=correct) / sizes
    n, g, p = sizes.sum(), len(sizes), float(np.mean(correct))
    weighted = float((sizes**2).sum() / n)
    between = float((sizes * (own - p) ** 2).sum()) / (g - 1)
    within = float((sizes * own * (1 - own)).sum()) / max(n - g, 1)
    whole = between + ((n - weighted) / (g - 1) - 1) * within
    rho = min(max((between - within) / whole, 0.0), 1.0) if whole > 0 else 0.0
    return float(np.sqrt(p * (1 - p) / n * (1 + (weighted - 1) * rho) * g / (g - 1)))


def _margin(error: Doubles, effective: float, beside: Beside | None) -> Doubles:
    """Half the width of intervals: Student's t times the error, `(layers,)`.

    Where two errors are added, t has the degrees of freedom of Welch and Satterthwaite.
    """
    if beside is None:
        return _t(effective) * error
    ours, theirs = error**2, np.broadcast_to(np.square(beside.error), error.shape)
    own = max(effective - 1, 1.0)
    whole = np.asarray(np.where(ours + theirs > 0, ours + theirs, 1.0))
    # In shares of the whole, so that an infinite error of a lone subject stays what it is.
    share = np.where(np.isfinite(whole), theirs / whole, 0.0)
    freedom = 1 / ((1 - share) ** 2 / own + share**2 / beside.freedom)
    return np.asarray(special.stdtrit(freedom, 0.5 + LEVEL / 2) * np.sqrt(ours + theirs))


def _t(effective: float) -> float:
    return float(special.stdtrit(max(effective - 1, 1.0), 0.5 + LEVEL / 2))
