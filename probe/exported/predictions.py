"""What an export says of images, and what that is worth where their labels are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from features.arrays import Bools, Doubles
from probe.counts import count
from probe.exported.distance import FAR
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
    values: Doubles | None = None
    """Of a number: the predicted one of every image, `(n,)`; there are no classes then."""

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """One mapping per image, as JSON lines have it."""
        labels = self.labels
        for i, path in enumerate(self.paths):
            if np.isnan(self.values[i]) if self.values is not None else labels[i] is None:
                yield {"path": path, "unreadable": self.unreadable.get(i, "")}
                continue
            if self.values is not None:
                said: dict[str, Any] = {"value": float(self.values[i])}
            else:
                p = zip(self.classes, self.probabilities[i].tolist(), strict=True)
                said = {"class": labels[i], "probabilities": dict(p)}
            yield {
                "path": path,
                **said,
                "distance": float(self.distances[i]),
                "quantile": float(self.quantiles[i]),
                "far": bool(self.far[i]),
            }

    @property
    def labels(self) -> list[str | None]:
        """The class of every image; None where it could not be read, and of a number."""
        if self.values is not None:
            return [None] * len(self)
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
        if self.values is not None:
            shares, more = _spread(self.values), ""
        else:
            labels = self.labels
            shares = ", ".join(f"{name} {labels.count(name)}" for name in self.classes[:6])
            more = ", ..." if len(self.classes) > 6 else ""
        bad = f", {len(self.unreadable)} unreadable" if self.unreadable else ""
        return f"<{count(len(self), 'image')}: {shares}{more}{bad}, {int(self.far.sum())} far>"

    def _repr_html_(self) -> str:
        """How many images are of each class, or the spread of a number, for a notebook."""
        labels = self.labels
        told = {name: count(labels.count(name), "image") for name in self.classes}
        told |= {"values": _spread(self.values)} if self.values is not None else {}
        told |= {"unreadable": count(len(self.unreadable), "image")} if self.unreadable else {}
        return html_table({**told, "far": count(int(self.far.sum()), "image")})


def _spread(values: Doubles) -> str:
    """The median of some values, and between which they lie."""
    read = values[~np.isnan(values)]
    if not len(read):
        return "no value"
    return f"median {np.median(read):.4g}, {read.min():.4g} to {read.max():.4g}"


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
        values=None
        if parts[0].values is None
        else np.concatenate([part.values for part in parts if part.values is not None]),
        distances=np.concatenate([part.distances for part in parts]),
        quantiles=np.concatenate([part.quantiles for part in parts]),
        unreadable=unreadable,
    )
