"""A fine-tune trained once more, on all rows of its folds, to be used on other images."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from features.arrays import Floats
from features.machine.locks import locked
from probe.finetuning.fold import begin_training, ready_network
from probe.finetuning.job import FineTuneJob, FineTuneRun
from probe.finetuning.progress import inner_rows
from probe.training.head import Network
from probe.training.recipes import epochs_of
from probe.training.setup import TrainingProgress
from probe.training.train import head_features, train


@dataclass(frozen=True)
class TrainedOnAll:
    """A network that was trained on all rows."""

    network: Network
    rows: np.ndarray[tuple[int], np.dtype[np.int64]]
    """The rows that it was trained on, `(n,)`."""
    features: Floats
    """What its head reads of them, `(n, dim)`."""


def train_on_all(run: FineTuneRun, job: FineTuneJob, epochs: int) -> TrainedOnAll:
    """Train on the rows of all folds, for a number of epochs that the folds chose.

    Where training stops early, the schedule is as long as in the folds and ends after `epochs`. A run that
    was killed goes on after its last finished epoch.

    Args:
        run: What the results of the fine-tune share.
        job: The result.
        epochs: After how many to end.

    Raises:
        InputError: The network cannot be trained.
        Diverged: The loss became NaN or infinite.
    """
    rows = job.splits.training_rows(frozenset())
    stops_early = run.recipe.patience > 0
    length = epochs_of(run.recipe, len(inner_rows(job.splits, 0)[0])) if stops_early else epochs
    done, total = [0], epochs * len(rows)

    def watch(now: TrainingProgress) -> None:
        done[0] += now.images
        run.options.progress(min(done[0], total), total, f"epoch {now.epoch}/{epochs}")

    job.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = job.folder / "all-rows.pt"
    with locked(job.folder / ".lock", str(job.folder)), ExitStack() as kept:
        ready = ready_network(run, job, 0, kept)
        planned = replace(ready.job, recipe=run.recipe, epochs=max(length, epochs))
        part, _ = next(iter(job.splits.inner(0)))
        validating = job.splits.validating
        train_part = np.flatnonzero((validating >= 0) & (validating != part))
        inner = (train_part, np.flatnonzero(validating == part))
        begin_training(run, ready, planned, rows, inner, checkpoint)
        train(planned, rows, until=epochs, checkpoint=checkpoint, watch=watch)
        features = head_features(planned, rows).numpy()
        if ready.full is not planned.network:
            ready.full.load_state_dict(planned.network.state_dict(), strict=False)
        checkpoint.unlink(missing_ok=True)
    return TrainedOnAll(ready.full, rows, features)
