"""What scores of several labels an image are worth: metrics of such a task, and their values by image.

Average precision and the area under the ROC curve are of one label in one fold, whose images one probe has
scored: margins of different probes are on different scales (Forman and Scholz, SIGKDD Explorations 2010).
The number of a label is the mean over the folds in which it is known to be present and absent, and that of
a task the mean over its labels. F1 counts all folds together, as they advise.

The mean of a metric's values by image is the metric, and their spread between subjects is that of its
linearisation (its influence function), so that intervals of means over subjects are intervals of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import Bools, Doubles, Ints
from probe.probes.methods import ScoreKind

Scores = npt.NDArray[np.floating[Any]]

ByImage = Callable[[Doubles, Bools], Doubles]
"""From the scores of one label and whether images have it, both present: values by image, `(n,)`."""


@dataclass(frozen=True)
class LabelledImages:
    """The scores of images on several labels, which of these they have, and the fold that tested each."""

    scores: Scores
    """`(n, labels)`; NaN where a label takes no part."""
    y: Ints
    """`(n, labels)`: 1, 0, and -1 where it is not known."""
    fold: npt.NDArray[np.integer]
    """`(n,)`."""
    kind: ScoreKind = "margins"
    """What the scores are: a label is predicted above one half of shares, else above 0."""

    @cached_property
    def known(self) -> Bools:
        """Which labels are known and scored, `(n, labels)`."""
        return np.asarray((self.y >= 0) & ~np.isnan(self.scores))

    @cached_property
    def predicted(self) -> Bools:
        """Which labels are predicted, `(n, labels)`."""
        return np.asarray(self.scores > (0.5 if self.kind == "shares" else 0.0))


def mean_average_precision(images: LabelledImages) -> float | None:
    """The mean of the average precision over labels; None where no label occurs."""
    return _mean(by_image(images, precision_by_image))


def mean_average_precision_by_image(images: LabelledImages) -> Doubles:
    """Values whose mean is the mean average precision, `(n,)`; NaN where it is not defined."""
    return _over_labels(by_image(images, precision_by_image))


def macro_auc(images: LabelledImages) -> float | None:
    """The mean over labels of the area under the ROC curve; None where no label occurs."""
    return _mean(by_image(images, auc_by_image))


def macro_auc_by_image(images: LabelledImages) -> Doubles:
    """Values whose mean is the mean area under the ROC curve, `(n,)`."""
    return _over_labels(by_image(images, auc_by_image))


def macro_f1(images: LabelledImages) -> float | None:
    """The mean over labels of F1; None where no label occurs or is predicted."""
    return _mean(f1_by_image(images))


def macro_f1_by_image(images: LabelledImages) -> Doubles:
    """Values whose mean is the mean F1, `(n,)`."""
    return _over_labels(f1_by_image(images))


def log_loss(images: LabelledImages) -> float | None:
    """The mean of -log p over all labels that are known, in nats; None of margins."""
    if images.kind == "margins" or not images.known.any():
        return None
    known = images.known
    return float(losses(images.scores[known], images.y[known], images.kind).mean())


def losses(scores: Scores, y: Ints, kind: ScoreKind, smallest: float = 1e-15) -> Doubles:
    """-log p of what every label is, shaped as `scores`, in nats; a p counts as `smallest` at least."""
    s = np.asarray(scores, dtype=np.float64)
    if kind == "shares":
        return np.asarray(-np.log(np.clip(np.where(y == 1, s, 1 - s), smallest, 1)))
    lost = np.logaddexp(0, np.where(y == 1, -s, s))
    return np.asarray(np.minimum(lost, -np.log(smallest)))


def by_image(images: LabelledImages, of_label: ByImage) -> Doubles:
    """Values by image for every label, `(n, labels)`, whose mean is the label's; NaN for one that lacks.

    An image of which the label is not known, or in a fold where it does not occur, has the mean.
    """
    n, count = images.y.shape
    made = np.full((n, count), np.nan)
    for label in range(count):
        folds = []
        for number in np.unique(images.fold):
            here = np.flatnonzero((images.fold == number) & images.known[:, label])
            has = images.y[here, label] == 1
            if has.any() and not has.all():
                folds.append((here, of_label(images.scores[here, label].astype(np.float64), has)))
        if folds:
            means = [float(values.mean()) for _, values in folds]
            made[:, label] = np.mean(means)
            for (here, values), mean in zip(folds, means, strict=True):
                made[here, label] += (values - mean) * n / len(here) / len(folds)
    return made


def precision_by_image(scores: Doubles, has: Bools) -> Doubles:
    """Values whose mean is the average precision of one label, as scikit-learn has it, `(n,)`.

    With F(t) the share of images that score t or more, and p(t) the share of them that have the label, it
    is the mean of p over the images that have it. Beside its own term an image moves p at all scores below
    its own: by (its label - p) / F.
    """
    values, place = np.unique(-scores, return_inverse=True)  # the highest score first
    above = np.cumsum(np.bincount(place, minlength=len(values)))
    hits = np.bincount(place, weights=has, minlength=len(values))
    precision = np.cumsum(hits) / above
    share = has.mean()
    mean = float((hits * precision).sum() / has.sum())
    # Sums over the images with the label whose score is no higher: of 1 / F and of p / F.
    one = np.cumsum((hits / above)[::-1])[::-1]
    own = np.cumsum((hits * precision / above)[::-1])[::-1]
    moved = (has * one[place] - own[place]) / share
    return np.asarray(mean + has * (precision[place] - mean) / share + moved)


def auc_by_image(scores: Doubles, has: Bools) -> Doubles:
    """Values whose mean is the area under the ROC curve of one label, `(n,)` (DeLong et al., 1988)."""
    from scipy import stats  # slow to import

    ones, zeros = int(has.sum()), int((~has).sum())
    rank = stats.rankdata(scores)
    within = np.empty_like(rank)
    within[has], within[~has] = stats.rankdata(scores[has]), stats.rankdata(scores[~has])
    other = rank - within  # of the images of the other side, those that score lower
    beaten = np.where(has, other / zeros, 1 - other / ones)
    mean = float(beaten[has].mean())
    weight = np.where(has, len(has) / ones, len(has) / zeros)
    return np.asarray(mean + (beaten - mean) * weight)


def f1_by_image(images: LabelledImages) -> Doubles:
    """Values by image for every label, `(n, labels)`, whose mean is its F1; NaN where it does not occur."""
    known = images.known
    has, told = (images.y == 1) & known, images.predicted & known
    hits, both = 2.0 * (has & told), has.astype(np.float64) + told
    made = np.full(images.y.shape, np.nan)
    total = both.sum(0)
    for label in np.flatnonzero(total > 0):
        mean = hits[:, label].sum() / total[label]
        off = hits[:, label] - mean * both[:, label]
        made[:, label] = mean + len(off) * off / total[label]
    return made


def _over_labels(values: Doubles) -> Doubles:
    """The mean over the labels that have values, `(n,)`; NaN where none has."""
    some = values[:, ~np.isnan(values).any(0)]
    return np.asarray(some.mean(1)) if some.shape[1] else np.full(len(values), np.nan)


def _mean(values: Doubles) -> float | None:
    over = _over_labels(values)
    return None if not len(over) or np.isnan(over).any() else float(over.mean())
