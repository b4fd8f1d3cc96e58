"""The folds of one fine-tune: epochs chosen on an inner part, training on all rows, one score."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from features.arrays import Floats, Ints
from probe.finetuning.fold_file import Fold, read_fold, write_fold
from probe.finetuning.job import (
    FineTuneJob,
    FineTuneRun,
    base_network,
    is_saved,
    marks,
    network_name,
    training_name,
)
from probe.finetuning.progress import Counter, chooses, images_of_fold, inner_rows
from probe.finetuning.saved_network import read as read_trained
from probe.finetuning.saved_network import write as write_trained
from probe.training.feed import ImageFeed, KeptFeed
from probe.training.head import Network
from probe.training.kept_prefix import Suffix, kept_features, suffix_of
from probe.training.probe_first import start_from_probe
from probe.training.recipes import Recipe, epochs_of
from probe.training.setup import Diverged, Epoch, Job, Trained
from probe.training.train import best_epoch, predict, standardise, train
from probe.training.variants import head_times, start

_SMALLEST = 1e-15


def train_folds(
    run: FineTuneRun, job: FineTuneJob, counter: Counter, folds: Sequence[int] | None = None
) -> list[Fold]:
    """Train and test every fold, or `folds`; those that a run before this one finished are read."""
    asked = job.splits.folds if folds is None else folds
    found = {}
    for fold in asked:
        one = _finished(run, job, fold)
        if one is not None:
            found[fold] = one
            counter.skip(images_of_fold(run, job, fold))
    left = [fold for fold in asked if fold not in found]
    if not left:
        return list(found.values())
    ready: _Ready | None = None
    with ExitStack() as held:
        for fold in left:
            if ready is None or run.options.base:  # every fold starts from a network of its own
                held.close()
                ready = _ready(run, job, fold, held)
            counter.now = f"{job.variant}, fold {fold + 1}/{len(job.splits.folds)}"
            one = _one_fold(run, job, ready, fold, counter)
            write_fold(job.folder / f"fold-{fold}.npz", one)
            for checkpoint in job.folder.glob(f"fold-{fold}-*.pt"):
                checkpoint.unlink()
            found[fold] = one
    return [found[fold] for fold in asked]


def _finished(run: FineTuneRun, job: FineTuneJob, fold: int) -> Fold | None:
    """What a run before this one left of a fold, if it holds all that is asked for now."""
    file = job.folder / f"fold-{fold}.npz"
    if not file.is_file():
        return None
    one = read_fold(file)
    whole = one.scores.keys() >= set(run.views) and (
        not run.options.save or is_saved(run, job, fold)
    )
    return one if whole else None


@dataclass(frozen=True)
class _Ready:
    """A network about to be trained."""

    job: Job
    first: dict[str, torch.Tensor]
    """Its state, to begin every stage with."""
    full: Network
    """The whole network; the job's own, unless features of its prefix are kept."""


def _ready(run: FineTuneRun, job: FineTuneJob, fold: int, held: ExitStack) -> _Ready:
    """Build the network, and keep the features of its frozen prefix where that can be done."""
    trained = None
    if run.options.base:
        name = base_network(run, job.tasks, fold)
        seen = job.splits.training_rows(job.splits.tested(fold))
        trained = read_trained(run.study.folder, name, seen)
    network, prefix = start(
        run.backbone, job.variant, sum(job.goal.sizes), run.options.seed, trained
    )
    network.to(run.feed.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    suffix: Suffix | None = None
    feed: ImageFeed | KeptFeed = run.feed
    if prefix.parameters and not (run.recipe.crop or run.recipe.mirror or run.recipe.colour):
        used = np.flatnonzero(job.splits.part >= 0)
        for x in run.feed.views(used[:2], "center"):
            suffix = suffix_of(network, run.backbone.architecture, prefix, x)
        if suffix is not None:
            kept = held.enter_context(
                kept_features(
                    network, run.backbone.architecture, prefix, run.feed, used, job.folder
                )
            )
            feed = run.feed if kept is None else KeptFeed(kept, run.feed.device)
            suffix = None if kept is None else suffix
    made = Job(
        network=network if suffix is None else suffix,
        prefix=prefix,
        recipe=run.recipe,
        head_times=head_times(run.recipe, job.variant),
        goal=job.goal,
        feed=feed,
        epochs=0,
        seed=run.options.seed,
        accumulate=run.options.accumulate,
        precision=run.precision,
    )
    first = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
    return _Ready(made, first, network)


def _one_fold(
    run: FineTuneRun, job: FineTuneJob, ready: _Ready, fold: int, counter: Counter
) -> Fold:
    rows = job.splits.training_rows(job.splits.tested(fold))
    tested = job.splits.held_out_rows(job.splits.tested(fold))
    recipe, epochs, until, selection, stopped = (
        run.recipe,
        epochs_of(run.recipe, len(rows)),
        None,
        None,
        False,
    )
    tried: list[tuple[float, Epoch]] = []
    inner = inner_rows(job.splits, fold)
    if chooses(run):
        counter.stage = "choosing"
        length = epochs_of(recipe, len(inner[0]))
        best = np.inf
        for rate in run.rates:
            made = _inner_stage(run, job, ready, fold, replace(recipe, rate=rate), length, counter)
            tried += [(rate, epoch) for epoch in made.history]
            loss = _inner_loss(made.history, run.recipe)
            if loss is not None and loss < best:
                best, selection = loss, -loss
                recipe = replace(run.recipe, rate=rate)
                if recipe.patience:
                    epochs, until, stopped = length, made.epochs, made.stopped_early
    planned = replace(ready.job, recipe=recipe, epochs=epochs)
    checkpoint = job.folder / f"fold-{fold}-whole.pt"
    _begin(run, ready, planned, rows, inner, checkpoint)
    counter.stage = "training"
    made = train(
        planned,
        rows,
        until=until,
        checkpoint=checkpoint,
        watch=counter.watch,
        note=lambda epoch: run.note(training_name(run, job, fold, "whole"), epoch),
    )
    counter.skip((epochs - made.epochs) * len(rows))
    counter.stage = "testing"
    scores = _scores(run, planned, ready, tested)
    if run.options.save:
        _save(run, job, ready.full, fold, rows, recipe, made.epochs)
    return Fold(
        fold,
        made.epochs,
        stopped,
        selection,
        len(rows),
        ready.full is not ready.job.network,
        recipe.rate,
        scores,
        tried,
        made.history,
    )


def _inner_stage(
    run: FineTuneRun,
    job: FineTuneJob,
    ready: _Ready,
    fold: int,
    recipe: Recipe,
    epochs: int,
    counter: Counter,
) -> Trained:
    """Train without an inner part and score it after every epoch."""
    inner = inner_rows(job.splits, fold)
    planned = replace(ready.job, recipe=recipe, epochs=epochs)
    checkpoint = job.folder / f"fold-{fold}-inner-{recipe.rate:g}.pt"
    _begin(run, ready, planned, inner[0], inner, checkpoint)
    try:
        made = train(
            planned,
            inner[0],
            inner=inner[1],
            checkpoint=checkpoint,
            watch=counter.watch,
            note=lambda epoch: run.note(
                training_name(run, job, fold, f"inner-{recipe.rate:g}"), epoch
            ),
        )
    except Diverged:
        if len(run.rates) == 1:
            raise
        made = Trained(0)  # a rate that is too high loses the search
    counter.skip((epochs - len(made.history)) * len(inner[0]))
    return made


def _inner_loss(history: Sequence[Epoch], recipe: Recipe) -> float | None:
    """What a rate is chosen by: the loss after the epochs that it would train for."""
    if not history:
        return None
    return history[(best_epoch(history) if recipe.patience else len(history)) - 1].inner_loss


def _begin(
    run: FineTuneRun,
    ready: _Ready,
    job: Job,
    rows: Ints,
    inner: tuple[Ints, Ints],
    checkpoint: Path,
) -> None:
    """Bring the network back to its start; what a checkpoint holds need not be made again."""
    job.network.load_state_dict(ready.first)
    if checkpoint.is_file():
        return
    if run.options.probe_first:
        start_from_probe(job, rows, inner)
    elif job.recipe.standardise and not ready.full.new_below_head:
        # The SDs of random layers tell nothing, and dropout would blow up what is divided by them.
        standardise(job, rows)


def _save(
    run: FineTuneRun,
    job: FineTuneJob,
    network: Network,
    fold: int,
    rows: Ints,
    recipe: Recipe,
    epochs: int,
) -> None:
    """Keep the trained network as a backbone of its own."""
    about = {
        "by": "probe finetune",
        "method": str(job.variant),
        "tasks": tuple(task.name for task in job.tasks),
        "fold": fold,
        "data": run.study.source,
        "recipe": asdict(recipe),
        "epochs": epochs,
        "seed": run.options.seed,
        "protocol": marks(job),
    }
    name = network_name(run, job, fold)
    write_trained(run.study.folder, name, network, run.backbone, seen=rows, about=about)


def _scores(run: FineTuneRun, trained: Job, ready: _Ready, tested: Ints) -> dict[str, Floats]:
    """Log probabilities of the test rows under every view."""
    found = {}
    whole = trained
    if ready.full is not trained.network:  # which has learnt above the cut; the whole sees crops
        ready.full.load_state_dict(trained.network.state_dict(), strict=False)
        whole = replace(trained, network=ready.full, feed=run.feed)
    for view in run.views:
        p = predict(trained if view == "center" else whole, tested, view)
        found[view] = np.log(np.maximum(p, _SMALLEST)).astype(np.float32)
    return found
