"""What class scores are worth, as numbers: probabilities, log loss, calibration, AUC, confusion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.arrays import Bools, Doubles, Ints
from probe.probes.methods import ScoreKind

_BINS = 15
_SMALLEST = float(np.finfo(np.float32).eps)
NEVER_SEEN = 1e-15
"""The least probability where a loss chooses: a class that training lacks must cost more than any other."""


def in_top(scores: npt.NDArray[np.floating], y: Ints, guesses: int = 5) -> Bools:
    """Whether fewer than `guesses` classes score above the true one, `(n,)`; of equals the first counts."""
    true = np.take_along_axis(scores, y[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < y[:, None]
    ahead = (scores > true) | ((scores == true) & earlier)
    return np.asarray(ahead.sum(1) < guesses)


def confusion(scores: npt.NDArray[np.floating], y: Ints) -> Ints:
    """Images by true class (rows) and predicted class (columns), `(K, K)`."""
    classes = scores.shape[1]
    return np.bincount(y * classes + scores.argmax(1), minlength=classes**2).reshape(
        classes, classes
    )


def probabilities(scores: npt.NDArray[np.floating], kind: ScoreKind) -> Doubles:
    """Class probabilities `(n, K)` in float64: the softmax of logits, or shares as they are."""
    s = np.asarray(scores, dtype=np.float64)
    if kind == "shares":
        return s
    from scipy.special import softmax  # takes as long to import as `probe status` otherwise takes

    return np.asarray(softmax(s, axis=1))


def log_loss(p: Doubles, y: Ints, smallest: float = _SMALLEST) -> float:
    """The mean of `log_losses`, by default with the smallest probability that scikit-learn has."""
    return float(log_losses(p, y, smallest).mean())


def log_losses(p: Doubles, y: Ints, smallest: float) -> Doubles:
    """-log p[y] of every row in nats, `(n,)`; a probability counts as `smallest` at least."""
    return np.asarray(-np.log(np.clip(p[np.arange(len(y)), y], smallest, 1)))


def calibration_error(p: Doubles, y: Ints) -> float:
    """Mean distance between confidence and accuracy over fifteen bins of confidence of equal width.

    The expected calibration error of Guo et al. 2017, arXiv 1706.04599: each bin weighs as many
    images as it holds; its ends belong to the bin below.
    """
    confidence, right = p.max(1), p.argmax(1) == y
    place = np.clip(np.ceil(confidence * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    distance = np.bincount(place, weights=confidence - right, minlength=_BINS)
    return float(np.abs(distance).sum() / len(y))


def auc(scores: npt.NDArray[np.floating], y: Ints) -> float:
    """The chance that an image of class 1 scores above one of class 0, ties counting half."""
    from scipy import stats  # slow to import, and the only use

    rank = stats.rankdata(scores[:, 1].astype(np.float64) - scores[:, 0])
    ones = int((y == 1).sum())
    above = rank[y == 1].sum() - ones * (ones + 1) / 2
    return float(above / (ones * (len(y) - ones)))
