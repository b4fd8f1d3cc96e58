"""The metrics of class scores, each a function of the tested images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from features.arrays import Doubles, Ints
from probe.probes.methods import ScoreKind
from probe.results import scores as of_scores
from probe.results.scores import confusion, in_top, probabilities

MANY = 20
"""Classes, from which on five guesses are counted too."""


@dataclass(frozen=True)
class ScoredImages:
    """The scores of tested images and their true classes, and what several metrics read of them."""

    scores: npt.NDArray[np.floating]
    """`(n, K)`."""
    y: Ints
    """Class numbers, `(n,)`."""
    ordered: bool
    """Whether the classes have an order."""
    kind: ScoreKind
    """What the scores are."""

    @cached_property
    def confusion(self) -> Ints:
        """Images by true class (rows) and predicted class (columns), `(K, K)`."""
        return confusion(self.scores, self.y)

    @cached_property
    def probabilities(self) -> Doubles | None:
        """Class probabilities `(n, K)`; None where the scores are margins."""
        return None if self.kind == "margins" else probabilities(self.scores, self.kind)

    @cached_property
    def classes_off(self) -> Ints | None:
        """How many classes each prediction is off, `(n,)`; None where classes have no order."""
        return np.abs(self.scores.argmax(1) - self.y) if self.ordered else None


@dataclass(frozen=True)
class PredictedImages:
    """The predicted and true classes of images, and the fold that tested each, `(n,)` each."""

    predicted: npt.NDArray[np.integer]
    y: Ints
    fold: npt.NDArray[np.integer]
    scores: npt.NDArray[np.floating] | None = None
    """`(n, K)`, for metrics of more than the first guess."""

    @cached_property
    def correct(self) -> Doubles:
        """1 where the prediction is right, else 0, `(n,)`."""
        return np.asarray(self.predicted == self.y, dtype=np.float64)

    @cached_property
    def classes_off(self) -> Ints:
        """How many classes each prediction is off, `(n,)`."""
        return np.asarray(np.abs(self.predicted.astype(np.int64) - self.y))


def accuracy(tested: ScoredImages) -> float:
    """The share of images whose highest score is that of their class."""
    return float(np.diag(tested.confusion).sum() / len(tested.y))


def balanced_accuracy(tested: ScoredImages) -> float:
    """The mean recall of the classes that occur."""
    hits, occurs = np.diag(tested.confusion), tested.confusion.sum(1)
    return float((hits[occurs > 0] / occurs[occurs > 0]).mean())


def balanced_per_image(images: PredictedImages) -> Doubles:
    """Values whose mean is the mean over folds of the mean recall of the classes that occur.

    The value of an image is that mean plus the image's share in the deviation, n w (correct - recall of
    its class in its fold) with w = 1 / (folds x classes x images of the class in the fold). So the mean
    of the values is the metric, and their spread between subjects is that of the linearised ratio.
    """
    y, fold, correct = images.y, images.fold, images.correct
    classes = int(y.max()) + 1
    cell = fold.astype(np.int64) * classes + y
    size = np.bincount(cell, minlength=(int(fold.max()) + 1) * classes)
    hits = np.bincount(cell, weights=correct, minlength=len(size))
    occurs = size.reshape(-1, classes) > 0
    parts = occurs.sum(1)  # classes that occur, per fold
    folds = int((parts > 0).sum())
    weight = 1 / (folds * parts[fold] * size[cell])
    recall = hits[cell] / size[cell]
    mean = float((weight * correct).sum())
    return np.asarray(mean + len(y) * weight * (correct - recall))


def macro_f1(tested: ScoredImages) -> float:
    """The mean F1 of the classes that occur or are predicted."""
    table = tested.confusion
    hits, occurs, claimed = np.diag(table), table.sum(1), table.sum(0)
    either = (occurs + claimed) > 0
    return float((2 * hits[either] / (occurs + claimed)[either]).mean())


def log_loss(tested: ScoredImages) -> float | None:
    """The mean of -log p of the true class; None of margins."""
    p = tested.probabilities
    return None if p is None else of_scores.log_loss(p, tested.y)


def calibration_error(tested: ScoredImages) -> float | None:
    """The expected calibration error; None of margins."""
    p = tested.probabilities
    return None if p is None else of_scores.calibration_error(p, tested.y)


def auc(tested: ScoredImages) -> float | None:
    """The area under the ROC curve of two classes that both occur, else None."""
    two = tested.scores.shape[1] == 2 and bool((tested.confusion.sum(1) > 0).all())
    return of_scores.auc(tested.scores, tested.y) if two else None


def one_off(tested: ScoredImages) -> float | None:
    """The share of predictions at most one class off; None where classes have no order."""
    off = tested.classes_off
    return None if off is None else float((off <= 1).mean())


def top5(tested: ScoredImages) -> float | None:
    """The share of images whose class is among the five highest scores; None of few classes."""
    many = tested.scores.shape[1] >= MANY
    return float(in_top(tested.scores, tested.y).mean()) if many else None


def top5_per_image(images: PredictedImages) -> Doubles:
    """1 where the class is among the five highest scores, else 0, `(n,)`."""
    assert images.scores is not None
    return in_top(images.scores, images.y).astype(np.float64)


def no_classes(_: ScoredImages) -> None:
    """What a metric of numbers is for classes."""


def mean_error(tested: ScoredImages) -> float | None:
    """How many classes predictions are off on average; None where classes have no order."""
    off = tested.classes_off
    return None if off is None else float(off.mean())
