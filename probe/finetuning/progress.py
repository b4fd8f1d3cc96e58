"""The images that a fine-tune trains on: how many there will be, how many are done."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from features.arrays import Ints
from probe.finetuning.job import FineTuneJob, FineTuneRun
from probe.folds.splits import Splits
from probe.training.recipes import epochs_of
from probe.training.setup import TrainingProgress


def chooses(run: FineTuneRun) -> bool:
    """Whether an inner part chooses epochs or rate."""
    return run.recipe.patience > 0 or len(run.rates) > 1


def inner_rows(splits: Splits, fold: int) -> tuple[Ints, Ints]:
    """The rows of a fold that train and those that choose the epochs, which are one of its inner parts."""
    choices = list(splits.inner(fold))
    part, left_out = choices[fold % len(choices)]
    return splits.training_rows(left_out), np.flatnonzero(splits.validating == part)


def images_of(run: FineTuneRun, job: FineTuneJob, folds: Sequence[int] | None = None) -> int:
    """The most images that are trained on, every epoch counted, over all folds or over `folds`."""
    wanted = job.splits.folds if folds is None else folds
    return sum(images_of_fold(run, job, fold) for fold in wanted)


def images_of_fold(run: FineTuneRun, job: FineTuneJob, fold: int) -> int:
    """The most images that are trained on in a fold, every epoch counted."""
    rows = len(job.splits.training_rows(job.splits.tested(fold)))
    if not chooses(run):
        return epochs_of(run.recipe, rows) * rows
    inner = len(inner_rows(job.splits, fold)[0])
    length = epochs_of(run.recipe, inner if run.recipe.patience else rows)
    return len(run.rates) * epochs_of(run.recipe, inner) * inner + length * rows


class ImageCounter:
    """Counts images over the whole run and reports them."""

    def __init__(self, run: FineTuneRun, total: int) -> None:
        """`total` is the number of images to train on."""
        self.run, self.total, self.done = run, total, 0
        self.now = self.stage = ""

    def watch(self, now: TrainingProgress) -> None:
        """Report how far training has come."""
        self.done += now.images
        self.run.options.progress(
            self.done,
            self.total,
            f"{self.now}, {self.stage}, epoch {now.epoch + 1}/{now.epochs}: loss {now.loss:.3f}"
            + (f", accuracy {now.accuracy:.3f}" if isfinite(now.accuracy) else ""),
        )

    def skip(self, images: int) -> None:
        """Take `images` that need not be trained on from the total."""
        self.total -= images

    def end(self) -> None:
        """Report that all is done."""
        self.run.options.progress(self.done, self.done, "")
