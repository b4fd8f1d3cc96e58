"""What predicted numbers are worth where the true ones are known, beside the promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from features.errors import InputError
from probe.analysis.scale import Scale
from probe.counts import count
from probe.exported.number_promise import NumberPromise
from probe.exported.predictions import Predictions


@dataclass(frozen=True)
class JudgedNumbers:
    """The mean absolute error on images whose numbers are known, beside the promise."""

    task: str
    images: int
    mae: float
    low: float
    high: float
    """Between which errors such images lie 95 times in 100, if they are like the study's."""
    promise: NumberPromise
    others: tuple[str, ...] = ()
    """What is wrong with other labels, in a sentence; most often nothing is."""

    @property
    def kept(self) -> bool:
        """Whether the error lies in the interval."""
        return self.low <= self.mae <= self.high

    def __str__(self) -> str:
        """The error, the promise and what that means, in a sentence."""
        if self.kept:
            verdict = "the promise is kept"
        elif self.mae > self.high:
            verdict = "worse than was promised: these images differ from the study's"
        else:
            verdict = "better than was promised: these images are easier than the study's"
        scale = Scale(self.promise.unit)
        low, high = (scale.number(end) for end in (self.low, self.high))
        return (
            f"{self.task}: off by {scale.number(self.mae)} {self.promise.unit} in the mean over "
            f"{count(self.images, 'labelled image')}; promised {self.promise}, by which {self.images} new "
            f"images lie between {low} and {high} 95 times in 100: {verdict}."
        )


def judged_numbers(
    task: str,
    predictions: Predictions,
    labels: Sequence[str],
    subjects: Sequence[str],
    promise: NumberPromise,
) -> JudgedNumbers | None:
    """The error of predictions by known numbers; None where no image that was read has one.

    Args:
        task: What is predicted.
        predictions: Of `n` images.
        labels: Their numbers as text, empty where unknown, `(n,)`.
        subjects: Their subjects, likewise.
        promise: That of the export.

    Raises:
        InputError: There are labels, and none is a number.
    """
    assert predictions.values is not None
    numbers = [_number(label) for label in labels]
    strange = [
        label for label, number in zip(labels, numbers, strict=True) if label and number is None
    ]
    off, of = [], []
    for i, (number, said) in enumerate(zip(numbers, predictions.values.tolist(), strict=True)):
        if number is not None and isfinite(said):
            off.append(abs(said - number))
            of.append(subjects[i] or None)
    if not off:
        if not strange:
            return None
        raise InputError(
            f"{task}: none of the labels is a number (the first label is {strange[0]!r}); correct the "
            "labels, or take their column out."
        )
    others: tuple[str, ...] = ()
    if strange:
        others = (
            f"{task}: {count(len(strange), 'label')}, {strange[0]!r} first, no number; these images are "
            "not counted",
        )
    low, high = promise.predicted(of)
    return JudgedNumbers(task, len(off), float(np.mean(off)), low, high, promise, others)


def _number(label: str) -> float | None:
    """The number in a label; None where it has none."""
    try:
        number = float(label)
    except ValueError:
        return None
    return number if isfinite(number) else None
