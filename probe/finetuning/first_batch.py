"""How long training takes, by a few batches that are trained and thrown away."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from features.machine.spent import Stopwatch
from probe.finetuning.effort import alone_per_image
from probe.finetuning.fold import ready_network
from probe.finetuning.job import FineTuneJob, FineTuneRun
from probe.training.train import standardise, train

_LONG = 14_400.0  # seconds, from which on it does not matter how many more
_FEW = 8  # images of the first batch on a processor, for networks that take seconds an image
_BATCHES = 3  # timed after the first, which is slower
_STANDARDISED = 64  # images; so many that the loss is finite


def measure(run: FineTuneRun, job: FineTuneJob, images: float) -> float:
    """The seconds of a trained image where nothing else runs, by the batches after the first.

    On a processor the first batch is small, and the only one where `images` take far too long by it.
    """
    fold = job.splits.folds[0]
    rows = job.splits.training_rows(job.splits.tested(fold))
    size = run.recipe.batch_size
    with ExitStack() as kept:
        ready = ready_network(run, job, fold, kept)
        if run.recipe.standardise and not ready.full.new_below_head:
            standardise(ready.job, rows[:_STANDARDISED])
        goal = job.goal.scaled_by(rows)

        def seconds(images: int, batch_size: int) -> float:
            planned = replace(run.recipe, batch_size=batch_size)
            watch = Stopwatch()
            train(replace(ready.job, recipe=planned, epochs=1, goal=goal), rows[:images])
            return alone_per_image(watch.spent(), len(rows[:images]))

        first = min(_FEW if run.feed.device.type == "cpu" else size, len(rows))
        each = seconds(first, first)
        if each * images > _LONG:
            return each
        return seconds(max(len(rows[: _BATCHES * size]) // size * size, first), size)
