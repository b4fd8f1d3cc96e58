"""What an export says of images, and what that is worth where their labels are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from features.arrays import Bools, Doubles
from features.errors import InputError
from probe.analysis.statistics import Interval
from probe.counts import count
from probe.exported.distance import FAR
from probe.exported.promise import Promise
from probe.html_table import html_table


@dataclass(frozen=True)
class Predictions:
    """What an export says of images; what could not be read has NaN, and None for a class."""

    paths: list[str]
    classes: tuple[str, ...]
    probabilities: Doubles
    """`(n, K)`."""
    distances: Doubles
    """From the training images, `(n,)`; 1 is their own median."""
    quantiles: Doubles
    """The share of the training images that lie nearer, `(n,)`."""
    threshold: float | None = None
    """Of two classes: the probability from which on an image is of the second."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """The reason by place of an image that could not be read."""

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """One mapping per image, as JSON lines have it."""
        for i, label in enumerate(self.labels):
            if label is None:
                yield {"path": self.paths[i], "unreadable": self.unreadable.get(i, "")}
                continue
            yield {
                "path": self.paths[i],
                "class": label,
                "probabilities": dict(
                    zip(self.classes, self.probabilities[i].tolist(), strict=True)
                ),
                "distance": float(self.distances[i]),
                "quantile": float(self.quantiles[i]),
                "far": bool(self.far[i]),
            }

    @property
    def labels(self) -> list[str | None]:
        """The class of every image; None where it could not be read."""
        read = [not np.isnan(row).any() for row in self.probabilities]
        safe = np.nan_to_num(self.probabilities)
        number = safe.argmax(1)
        if self.threshold is not None and len(self.classes) == 2:
            number = (safe[:, 1] >= self.threshold).astype(np.int64)
        return [
            self.classes[k] if ok else None for k, ok in zip(number.tolist(), read, strict=True)
        ]

    @property
    def far(self) -> Bools:
        """Whether an image lies farther from the training images than 99 % of these, `(n,)`."""
        return np.asarray(self.quantiles > FAR)

    def __repr__(self) -> str:
        """The number of images and their classes."""
        labels = self.labels
        shares = ", ".join(f"{name} {labels.count(name)}" for name in self.classes[:6])
        more = ", ..." if len(self.classes) > 6 else ""
        bad = f", {len(self.unreadable)} unreadable" if self.unreadable else ""
        return f"<{count(len(self), 'image')}: {shares}{more}{bad}, {int(self.far.sum())} far>"

    def _repr_html_(self) -> str:
        """How many images are of each class, for a notebook."""
        labels = self.labels
        told = {name: count(labels.count(name), "image") for name in self.classes}
        told |= {"unreadable": count(len(self.unreadable), "image")} if self.unreadable else {}
        return html_table({**told, "far": count(int(self.far.sum()), "image")})


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of consecutive parts, one at least, as one."""
    unreadable: dict[int, str] = {}
    start = 0
    for part in parts:
        unreadable |= {start + place: why for place, why in part.unreadable.items()}
        start += len(part)
    return replace(
        parts[0],
        paths=[path for part in parts for path in part.paths],
        probabilities=np.concatenate([part.probabilities for part in parts]),
        distances=np.concatenate([part.distances for part in parts]),
        quantiles=np.concatenate([part.quantiles for part in parts]),
        unreadable=unreadable,
    )


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
