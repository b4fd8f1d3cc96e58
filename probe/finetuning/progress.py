"""How many images a fine-tune will train on, and how many it has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.arrays import Ints
from probe.finetuning.job import FineTuneJob, FineTuneRun
from probe.folds import Splits
from probe.training.recipes import epochs_of
from probe.training.setup import Now


def chooses(run: FineTuneRun) -> bool:
    """Whether an inner part chooses epochs or rate."""
    return run.recipe.patience > 0 or len(run.rates) > 1


def inner_rows(splits: Splits, fold: int) -> tuple[Ints, Ints]:
    """The rows that train and those that choose the epochs of a fold: one of its inner parts."""
    choices = list(splits.inner(fold))
    part, left_out = choices[fold % len(choices)]
    return splits.training_rows(left_out), np.flatnonzero(splits.part == part)


def images_of(run: FineTuneRun, job: FineTuneJob, folds: Sequence[int] | None = None) -> int:
    """How many images training sees at most, every epoch counted; of all folds, or of `folds`."""
    asked = job.splits.folds if folds is None else folds
    return sum(images_of_fold(run, job, fold) for fold in asked)


def images_of_fold(run: FineTuneRun, job: FineTuneJob, fold: int) -> int:
    """How many images training a fold sees at most."""
    rows = len(job.splits.training_rows(job.splits.tested(fold)))
    if not chooses(run):
        return epochs_of(run.recipe, rows) * rows
    inner = len(inner_rows(job.splits, fold)[0])
    length = epochs_of(run.recipe, inner if run.recipe.patience else rows)
    return len(run.rates) * epochs_of(run.recipe, inner) * inner + length * rows


class Counter:
    """Counts images over the whole run, for whoever watches."""

    def __init__(self, run: FineTuneRun, total: int) -> None:
        """`total` images are to be trained on."""
        self.run, self.total, self.done = run, total, 0
        self.now = self.stage = ""

    def watch(self, now: Now) -> None:
        """Say where training is."""
        self.done += now.images
        self.run.options.progress(
            self.done,
            self.total,
            f"{self.now}, {self.stage}, epoch {now.epoch + 1}/{now.epochs}: loss {now.loss:.3f}, "
            f"accuracy {now.accuracy:.3f}",
        )

    def skip(self, images: int) -> None:
        """So many images need not be trained on."""
        self.total -= images

    def end(self) -> None:
        """Say that all is done."""
        self.run.options.progress(self.done, self.done, "")
