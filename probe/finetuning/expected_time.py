"""How much a fine-tune is about to do, and about how long that takes, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from features.store.seconds import read_seconds
from probe.counts import count
from probe.finetuning.effort import kind_of, most_work, seconds_per_image
from probe.finetuning.job import FineTuneJob, FineTuneRun
from probe.finetuning.progress import images_of

_STEPS = (2, 7)
"""How many times an image's extraction its training took, where it was measured: 1.6 (the sample's network
from scratch), 5.2 (the same, tuned) and 6.9 (MobileFaceNet, tuned), on two cores."""


def expected_time(run: FineTuneRun, jobs: Sequence[FineTuneJob]) -> str:
    """The networks and images to train, and the seconds by what was measured of the same network.

    That is what trained of it on this machine before, else its extraction here; where the two tell
    nothing, the first epoch will.
    """
    networks = sum(len(job.splits.folds) for job in jobs)
    images = sum(images_of(run, job) for job in jobs)
    most = "at most " if run.recipe.patience else ""
    what = f"{count(networks, 'network')} to train on {most}{images:,} images, every epoch counted"
    seconds = _as_before(run, jobs)
    if seconds is not None:
        return f"{what}: about {_clock(seconds)}, as it took on this machine before"
    name = run.backbone.name
    path = run.study.feature_path(name)
    timing = next(iter(read_seconds(path).values()), None)
    if timing is None:
        return f"{what}: how long that takes is known after the first epoch"
    least, longest = (times * images * timing.seconds / timing.images for times in _STEPS)
    return f"{what}: about {_clock(least)} to {_clock(longest)}, by the time that extracting it took here"


def _as_before(run: FineTuneRun, jobs: Sequence[FineTuneJob]) -> float | None:
    total = 0.0
    for job in jobs:
        rate = seconds_per_image(kind_of(run, job))
        if rate is None:
            return None
        folds = job.splits.folds
        work = (most_work(run.recipe, run.rates, job.splits, fold, run.views) for fold in folds)
        total += rate * sum(work)
    return total


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
