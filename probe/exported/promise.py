"""The promise of an export, and what it says of the accuracy on other images: a prediction interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from features.arrays import Doubles, Ints
from probe.analysis.statistics import LEVEL, Interval


@dataclass(frozen=True)
class Promise:
    """The cross-validated accuracy of a result, and how far it can be relied on; fractions."""

    accuracy: float
    low: float
    high: float
    images: int
    """Images that were tested."""
    subjects: int
    effective: float
    """Effective number of subjects."""
    within: float
    """The correlation of right answers within a subject, 0 to 1."""

    @property
    def interval(self) -> Interval:
        """The accuracy with its 95 % interval."""
        return Interval(self.accuracy, self.low, self.high, self.effective)

    def __str__(self) -> str:
        """The accuracy with its interval."""
        return str(self.interval)

    def trials(self) -> float:
        """As many independent images would give an interval as wide as the accuracy's."""
        p = self.accuracy
        if p in (0.0, 1.0) or not 0 < self.low < self.high < 1:
            return max(self.effective, 1.0)
        reach = (special.logit(self.high) - special.logit(self.low)) / 2
        return float(1 / (p * (1 - p) * (reach / self._t()) ** 2))

    def predicted(self, subjects: Sequence[object]) -> tuple[float, float]:
        """Between which two accuracies new images lie 95 times in 100, if they are like the study's.

        Both samples have their chance: the images that the accuracy was measured on, and the new ones.
        With n and m independent images and one true accuracy, the ends are the y at which

            (p - y)^2 = t^2 q (1 - q) (1 / n + 1 / m),    q = (n p + m y) / (n + m)

        (the joint-sampling interval of Krishnamoorthy and Peng, Improved closed-form prediction
        intervals for binomial and Poisson distributions, 2011). Images of one subject are alike: n is
        what the accuracy's own interval implies, m the number of new images over Kish's design effect
        at the correlation measured in the study.

        Args:
            subjects: The subject of every new image, `(m,)`; None for an image of a subject of its own.
        """
        m = images_alike(subjects, self.within)
        n, p, t = self.trials(), self.accuracy, self._t()
        both = n + m
        a, b = n * p, both - n * p
        square = n * m * both + t**2 * m**2
        linear = -2 * n * m * both * p - t**2 * m * (b - a)
        constant = n * m * both * p**2 - t**2 * a * b
        root = np.sqrt(max(linear**2 - 4 * square * constant, 0.0))
        low, high = (-linear - root) / (2 * square), (-linear + root) / (2 * square)
        return max(0.0, float(low)), min(1.0, float(high))

    def _t(self) -> float:
        return float(special.stdtrit(max(self.effective - 1, 1.0), 0.5 + LEVEL / 2))


def promise_of(accuracy: Interval, correct: Doubles, subjects: Ints) -> Promise:
    """The promise that cross-validated answers make.

    Args:
        accuracy: Their accuracy with its interval.
        correct: 1 where an answer is right, else 0, `(n,)`.
        subjects: The subject of every tested image, `(n,)`.
    """
    return Promise(
        accuracy.value, accuracy.low, accuracy.high, len(correct), len(np.unique(subjects)),
        accuracy.effective, within_subjects(correct, subjects),
    )  # fmt: skip


def within_subjects(values: Doubles, subjects: Ints) -> float:
    """The intraclass correlation of `values`, `(n,)`, within subjects, cut to 0 to 1.

    By the analysis of variance between and within subjects (Ridout, Demetrio and Firth, Estimating
    intraclass correlation for binary data, Biometrics 1999); 0 where no subject has two images.
    """
    _, group = np.unique(subjects, return_inverse=True)
    sizes = np.bincount(group).astype(np.float64)
    n, g = sizes.sum(), len(sizes)
    if g < 2 or n == g:
        return 0.0
    own = np.bincount(group, weights=values) / sizes
    mean = float(values.mean())
    between = float((sizes * (own - mean) ** 2).sum()) / (g - 1)
    spread = np.bincount(group, weights=(values - own[group]) ** 2).sum()
    inside = float(spread) / (n - g)
    typical = (n - float((sizes**2).sum()) / n) / (g - 1)
    whole = between + (typical - 1) * inside
    return float(min(max((between - inside) / whole, 0.0), 1.0)) if whole > 0 else 0.0


def images_alike(subjects: Sequence[object], within: float) -> float:
    """As many independent images tell as much as images of `subjects`: their number over the design effect.

    Args:
        subjects: The subject of every image; None for one of its own.
        within: The correlation within a subject.
    """
    sizes = _sizes(subjects)
    images = float(sizes.sum())
    return images / (1 + (float((sizes**2).sum()) / images - 1) * within)


def _sizes(subjects: Sequence[object]) -> Doubles:
    """The number of images of every subject."""
    names = [i if name in (None, "") else ("subject", name) for i, name in enumerate(subjects)]
    counts: dict[object, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return np.array(list(counts.values()), dtype=np.float64)
