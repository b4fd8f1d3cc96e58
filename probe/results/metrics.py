"""The metrics of a set of scores: accuracies, log loss, calibration, AUC, errors in classes."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from features.arrays import Doubles, Ints
from probe.probes.methods import METHODS, ScoreKind

_BINS = 15
_SMALLEST = float(np.finfo(np.float32).eps)
NEVER_SEEN = 1e-15
"""The least probability where a loss chooses: a class that training lacks must cost more than any other."""


class Measured(TypedDict):
    """Metrics by name; None where one does not apply. All but log loss and MAE are fractions."""

    accuracy: float
    balanced_accuracy: float
    """The mean recall of the classes that occur."""
    macro_f1: float
    """The mean F1 of the classes that occur or are predicted."""
    log_loss: float | None
    """In nats, of probabilities."""
    calibration_error: float | None
    """The expected calibration error of probabilities."""
    auc: float | None
    """The area under the ROC curve, for two classes that both occur."""
    one_off: float | None
    """The share of images at most one class off, for ordered classes."""
    mae: float | None
    """The mean distance in classes, for ordered classes."""


NAMES = tuple(Measured.__annotations__)


def kind_of(method: str) -> ScoreKind:
    """What the scores of a method are; those of a fine-tune are logits."""
    if method == "majority":
        return "margins"
    return METHODS[method].scores if method in METHODS else "logits"


def measure(
    scores: npt.NDArray[np.floating], y: Ints, ordered: bool, kind: ScoreKind = "margins"
) -> Measured:
    """Metrics of the largest score against the truth.

    Args:
        scores: `(n, K)`.
        y: Class numbers, `(n,)`.
        ordered: Whether classes have an order.
        kind: What the scores are.
    """
    table = confusion(scores, y)
    hits, occurs, claimed = np.diag(table), table.sum(1), table.sum(0)
    either = (occurs + claimed) > 0
    p = None if kind == "margins" else probabilities(scores, kind)
    off = np.abs(scores.argmax(1) - y) if ordered else None
    return {
        "accuracy": float(hits.sum() / len(y)),
        "balanced_accuracy": float((hits[occurs > 0] / occurs[occurs > 0]).mean()),
        "macro_f1": float((2 * hits[either] / (occurs + claimed)[either]).mean()),
        "log_loss": None if p is None else log_loss(p, y),
        "calibration_error": None if p is None else calibration_error(p, y),
        "auc": auc(scores, y) if scores.shape[1] == 2 and (occurs > 0).all() else None,
        "one_off": None if off is None else float((off <= 1).mean()),
        "mae": None if off is None else float(off.mean()),
    }


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
