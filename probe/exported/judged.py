"""What an export's classes are worth where the true ones are known, beside the promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.errors import InputError
from probe.analysis.statistics import Interval
from probe.counts import count
from probe.exported.predictions import Predictions
from probe.exported.promise import Promise


@dataclass(frozen=True)
class Judged:
    """The accuracy on images whose labels are known, beside the promise."""

    task: str
    images: int
    accuracy: float
    low: float
    high: float
    """Between which accuracies such images lie 95 times in 100, if they are like the study's."""
    promise: Interval
    others: tuple[str, ...] = ()
    """What is wrong with other labels, in a sentence; most often nothing is."""

    @property
    def kept(self) -> bool:
        """Whether the accuracy lies in the interval."""
        return self.low <= self.accuracy <= self.high

    def __str__(self) -> str:
        """The accuracy, the promise and what that means, in a sentence."""
        if self.kept:
            verdict = "the promise is kept"
        elif self.accuracy < self.low:
            verdict = "less than was promised: these images differ from the study's"
        else:
            verdict = "more than was promised: these images are easier than the study's"
        return (
            f"{self.task}: {100 * self.accuracy:.1f} % of {count(self.images, 'labelled image')} right; "
            f"promised {self.promise}, by which {self.images} new images lie between "
            f"{100 * self.low:.1f} and {100 * self.high:.1f} % 95 times in 100: {verdict}."
        )


def judged(
    task: str,
    predictions: Predictions,
    labels: Sequence[str],
    subjects: Sequence[str],
    promise: Promise,
) -> Judged | None:
    """The accuracy of predictions by known labels; None where no image that was read has one.

    Args:
        task: What the classes are of.
        predictions: Of `n` images.
        labels: Their labels, empty where unknown, `(n,)`.
        subjects: Their subjects, likewise.
        promise: That of the export.

    Raises:
        InputError: There are labels, and none is a class of the export.
    """
    known = [
        i
        for i, (said, label) in enumerate(zip(predictions.labels, labels, strict=True))
        if said is not None and label in predictions.classes
    ]
    strange = [label for label in labels if label and label not in predictions.classes]
    if not known and not strange:
        return None
    if not known:
        raise InputError(
            f"{task}: none of the labels is one of its classes ({', '.join(predictions.classes[:12])}; the "
            f"first label is {strange[0]!r}); correct the labels, or take their column out."
        )
    others: tuple[str, ...] = ()
    if strange:
        others = (
            f"{task}: {count(len(strange), 'label')}, {strange[0]!r} first, not among its classes; these "
            "images are not counted",
        )
    answers = predictions.labels
    accuracy = float(np.mean([answers[i] == labels[i] for i in known]))
    low, high = promise.predicted([subjects[i] or None for i in known])
    return Judged(task, len(known), accuracy, low, high, promise.interval, others)
