"""Few-shot probes: nested draws of a few training images per class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Ints
from probe.fitting.crossval import Outcome, cross_validate
from probe.folds.splits import Splits
from probe.probes.layer import Source
from probe.probes.scorer import Shared
from probe.probes.settings import ProbeSettings

_INNER_PARTS = 3  # of a draw, or as many as there are images of a class
_STAYS = -1


@dataclass(frozen=True)
class Draw:
    """Which training images are drawn in every fold."""

    shots: int | None
    """Images per class; None where a fraction is drawn."""
    number: int
    """Which of several draws it is."""
    seed: int
    fraction: float | None = None
    """Share of the images of each class; one at least is drawn."""

    def of(self, images: int) -> int:
        """How many of the images of a class are drawn."""
        if self.fraction is None:
            return min(self.shots or 0, images)
        return min(images, max(1, round(self.fraction * images)))


def drawn(splits: Splits, y: Ints, subjects: Ints, fold: int, draw: Draw) -> Splits:
    """The splits of one fold with so many images of every class to train on, or all that it has.

    Images are drawn from the training rows of the fold alone, and the first of a draw are those of the
    same draw with fewer shots. C is chosen between as many parts of them as a class has images, three
    at most, and a subject is in one part. What alone shows a class, one image or all images of one
    subject, always trains; where that leaves less than two classes nothing validates.
    """
    random = np.random.default_rng([draw.seed, draw.number, fold])
    order = random.permutation(splits.training_rows(splits.tested(fold)))
    by_class = [order[y[order] == label] for label in np.unique(y[order])]
    each = [rows[: draw.of(len(rows))] for rows in by_class]
    rows = np.concatenate(each)
    most = draw.shots or max(map(len, each))
    dealt = _dealt(y[rows], subjects[rows], min(_INNER_PARTS, most))
    parts = int(dealt.max()) + 1
    part = np.full(len(y), -1, dtype=np.int64)
    part[rows] = np.where(dealt == _STAYS, parts, dealt)
    part[splits.held_out_rows(splits.tested(fold))] = parts + 1
    of_part = np.array([-1] * (parts + 1) + [0])
    return Splits(part, of_part, tuple(range(parts)), validates=parts > 0)


def _dealt(y: Ints, subjects: Ints, parts: int) -> Ints:
    """The inner part of every image, `(n,)`: whole subjects, each class as evenly as they allow.

    -1 for images that always train: those of a subject that alone shows a class.
    """
    _, first, group = np.unique(subjects, return_index=True, return_inverse=True)
    counts = np.zeros((len(first), int(y.max()) + 1))
    np.add.at(counts, (group, y), 1)
    stays = np.asarray(counts[:, (counts > 0).sum(0) == 1].any(axis=1))
    part_of = np.full(len(first), _STAYS)
    if (counts[~stays].sum(0) > 0).sum() < 2:
        return part_of[group]
    share = counts / np.maximum(counts.sum(0), 1)  # so that a rare class counts as much
    held = np.zeros((parts, counts.shape[1]))
    for subject in np.lexsort((first, -counts.sum(1))):  # large ones first, else as drawn
        if not stays[subject]:
            part_of[subject] = np.argmin(held @ share[subject])
            held[part_of[subject]] += share[subject]
    return part_of[group]


def few_shot(
    x: Source,
    y: Ints,
    subjects: Ints,
    classes: int,
    splits: Splits,
    settings: ProbeSettings,
    draw: Draw,
) -> Outcome:
    """Choose C, train and test with one draw in every fold; as `cross_validate`."""
    scores = np.full((len(y), classes), np.nan, dtype=np.float32)
    folds = []
    for fold in splits.folds:
        own = drawn(splits, y, subjects, fold, draw)
        outcome = cross_validate(x, y, classes, own, settings, Shared(0))
        tested = own.fold == 0
        scores[tested] = outcome.scores[tested]
        folds.append(replace(outcome.folds[0], fold=fold))
    return Outcome(scores, tuple(folds))
