"""The folds of one fine-tune: epochs chosen on an inner part, training on all rows, one test."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from features.arrays import Floats, Ints
from features.machine.device import placed
from features.machine.spent import Spent, Stopwatch
from probe.finetuning.effort import kind_of, note, work_done
from probe.finetuning.fold_file import FoldResult, read_fold, write_fold
from probe.finetuning.job import (
    FineTuneJob,
    FineTuneRun,
    base_network,
    is_saved,
    marks,
    network_name,
    training_name,
)
from probe.finetuning.progress import ImageCounter, chooses, images_of_fold, inner_rows
from probe.finetuning.saved_network import read as read_trained
from probe.finetuning.saved_network import write as write_trained
from probe.training.feed import ImageFeed, KeptFeed
from probe.training.head import Network
from probe.training.kept_prefix import Suffix, kept_features, suffix_of
from probe.training.probe_first import start_from_probe
from probe.training.recipes import Recipe, epochs_of
from probe.training.setup import Diverged, Epoch, Trained, TrainingJob
from probe.training.train import best_epoch, predict, standardise, train
from probe.training.variants import head_times, start

_SMALLEST = 1e-15  # probability, so that its logarithm is finite


def train_folds(
    run: FineTuneRun, job: FineTuneJob, counter: ImageCounter, folds: Sequence[int] | None = None
) -> list[FoldResult]:
    """Train and test every fold, or `folds`; folds that an earlier run finished are read from its files."""
    wanted = job.splits.folds if folds is None else folds
    done = {}
    for fold in wanted:
        result = _finished(run, job, fold)
        if result is not None:
            done[fold] = result
            counter.skip(images_of_fold(run, job, fold))
    left = [fold for fold in wanted if fold not in done]
    if not left:
        return list(done.values())
    ready: ReadyNetwork | None = None
    spent, work = Spent(0.0), 0.0
    with ExitStack() as kept:
        for fold in left:
            resumed = any(job.folder.glob(f"fold-{fold}-*.pt"))
            watch = Stopwatch()
            if ready is None or run.options.base:  # every fold starts from a network of its own
                kept.close()
                ready = ready_network(run, job, fold, kept)
            counter.now = f"{job.variant}, fold {fold + 1}/{len(job.splits.folds)}"
            result = _train_fold(run, job, ready, fold, counter)
            write_fold(job.folder / f"fold-{fold}.npz", result)
            for checkpoint in job.folder.glob(f"fold-{fold}-*.pt"):
                checkpoint.unlink(missing_ok=True)  # a share may train the same fold
            done[fold] = result
            if not resumed:
                spent, work = spent + watch.spent(), work + work_done(result, job.splits, run.views)
                note(kind_of(run, job), spent, work)
    return [done[fold] for fold in wanted]


def is_trained(run: FineTuneRun, job: FineTuneJob, fold: int) -> bool:
    """Whether a fold is finished, with all that is asked for now."""
    return _finished(run, job, fold) is not None


def _finished(run: FineTuneRun, job: FineTuneJob, fold: int) -> FoldResult | None:
    """The result of a fold that an earlier run finished, if it has all that is asked for now."""
    result = read_fold(job.folder / f"fold-{fold}.npz")
    if result is None:
        return None
    whole = result.scores.keys() >= set(run.views) and (
        not run.options.save or is_saved(run, job, fold)
    )
    return result if whole else None


@dataclass(frozen=True)
class ReadyNetwork:
    """A network about to be trained."""

    job: TrainingJob
    first: dict[str, torch.Tensor]
    """The state of `job`'s network, which every stage begins with."""
    full: Network
    """The whole network; it is `job`'s, unless features of the frozen prefix are kept."""


def ready_network(run: FineTuneRun, job: FineTuneJob, fold: int, kept: ExitStack) -> ReadyNetwork:
    """Build the network, and keep the features of its frozen prefix where that can be done."""
    trained = None
    if run.options.base:
        name = base_network(run, job.tasks, fold)
        seen = job.splits.training_rows(job.splits.tested(fold))
        trained = read_trained(run.study.folder, name, seen)
    network, prefix = start(
        run.backbone, job.variant, sum(job.goal.sizes), run.options.seed, trained
    )
    placed(network, run.feed.device)
    suffix: Suffix | None = None
    feed: ImageFeed | KeptFeed = run.feed
    if prefix.parameters and not (run.recipe.crop or run.recipe.mirror or run.recipe.colour):
        used = np.flatnonzero(job.splits.part >= 0)
        for x in run.feed.views(used[:2], "center"):
            suffix = suffix_of(network, run.backbone.architecture, prefix, x)
        if suffix is not None:
            features = kept.enter_context(
                kept_features(
                    network, run.backbone.architecture, prefix, run.feed, used, job.folder
                )
            )
            feed = run.feed if features is None else KeptFeed(features, run.feed.device)
            suffix = None if features is None else suffix
    training = TrainingJob(
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
    first = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    return ReadyNetwork(training, first, network)


@dataclass(frozen=True)
class _InnerChoice:
    """What the inner part chose for a fold, or the recipe's own values where it chooses nothing."""

    recipe: Recipe
    """With the rate that was chosen."""
    epochs: int
    """The length of the schedule."""
    until: int | None = None
    """The epoch to stop after; None: at the schedule's end."""
    loss: float | None = None
    """The inner loss of the choice."""
    stopped_early: bool = False
    tried: tuple[tuple[float, Epoch], ...] = ()
    """Every epoch trained without the inner part, with its rate."""


def _train_fold(
    run: FineTuneRun, job: FineTuneJob, ready: ReadyNetwork, fold: int, counter: ImageCounter
) -> FoldResult:
    """Choose epochs and rate on the inner part, train on all training rows, and test."""
    rows = job.splits.training_rows(job.splits.tested(fold))
    choice = _choose(run, job, ready, fold, counter)
    planned = replace(
        ready.job, recipe=choice.recipe, epochs=choice.epochs, goal=job.goal.scaled_by(rows)
    )
    checkpoint = job.folder / f"fold-{fold}-whole.pt"
    begin_training(run, ready, planned, rows, inner_rows(job.splits, fold), checkpoint)
    counter.stage = "training"
    trained = train(
        planned,
        rows,
        until=choice.until,
        checkpoint=checkpoint,
        watch=counter.watch,
        note=lambda epoch: run.note(training_name(run, job, fold, "whole"), epoch),
    )
    counter.skip((choice.epochs - trained.epochs) * len(rows))
    counter.stage = "testing"
    scores = _scores(run, planned, ready, job.splits.held_out_rows(job.splits.tested(fold)))
    if run.options.save:
        _save(run, job, ready.full, fold, rows, choice.recipe, trained.epochs)
    return FoldResult(
        fold=fold,
        epochs=trained.epochs,
        stopped_early=choice.stopped_early,
        selection=None if choice.loss is None else -choice.loss,
        n_train=len(rows),
        kept_prefix=ready.full is not ready.job.network,
        rate=choice.recipe.rate,
        scores=scores,
        inner=list(choice.tried),
        whole=trained.history,
    )


def _choose(
    run: FineTuneRun, job: FineTuneJob, ready: ReadyNetwork, fold: int, counter: ImageCounter
) -> _InnerChoice:
    """Train without an inner part at every rate; the smallest inner loss chooses rate and epochs."""
    n_train = len(job.splits.training_rows(job.splits.tested(fold)))
    choice = _InnerChoice(run.recipe, epochs_of(run.recipe, n_train))
    if not chooses(run):
        return choice
    counter.stage = "choosing"
    length = epochs_of(run.recipe, len(inner_rows(job.splits, fold)[0]))
    tried: list[tuple[float, Epoch]] = []
    for rate in run.rates:
        recipe = replace(choice.recipe, rate=rate)
        trained = _inner_stage(run, job, ready, fold, recipe, length, counter)
        tried += [(rate, epoch) for epoch in trained.history]
        loss = _inner_loss(trained.history, run.recipe)
        if loss is not None and loss < (np.inf if choice.loss is None else choice.loss):
            choice = replace(choice, recipe=recipe, loss=loss)
            if recipe.patience:
                choice = replace(
                    choice,
                    epochs=length,
                    until=trained.epochs,
                    stopped_early=trained.stopped_early,
                )
    return replace(choice, tried=tuple(tried))


def _inner_stage(
    run: FineTuneRun,
    job: FineTuneJob,
    ready: ReadyNetwork,
    fold: int,
    recipe: Recipe,
    epochs: int,
    counter: ImageCounter,
) -> Trained:
    """Train without one inner part, which is scored after every epoch."""
    inner = inner_rows(job.splits, fold)
    goal = job.goal.scaled_by(inner[0])
    planned = replace(ready.job, recipe=recipe, epochs=epochs, goal=goal)
    checkpoint = job.folder / f"fold-{fold}-inner-{recipe.rate:g}.pt"
    begin_training(run, ready, planned, inner[0], inner, checkpoint)
    try:
        trained = train(
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
        trained = Trained(0)  # a rate that is too high is not chosen
    counter.skip((epochs - len(trained.history)) * len(inner[0]))
    return trained


def _inner_loss(history: Sequence[Epoch], recipe: Recipe) -> float | None:
    """The loss that a rate is chosen by: after as many epochs as it would train for."""
    if not history:
        return None
    return history[(best_epoch(history) if recipe.patience else len(history)) - 1].inner_loss


def begin_training(
    run: FineTuneRun,
    ready: ReadyNetwork,
    job: TrainingJob,
    rows: Ints,
    inner: tuple[Ints, Ints],
    checkpoint: Path,
) -> None:
    """Bring the network back to its start, unless a checkpoint is about to be loaded over it."""
    job.network.load_state_dict(ready.first)
    if checkpoint.is_file():
        return
    if run.options.probe_first:
        start_from_probe(job, rows, inner)
    elif job.recipe.standardise and not ready.full.new_below_head:
        # The SDs of random layers mean nothing, and dropout would blow up what is divided by them.
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


def _scores(
    run: FineTuneRun, training: TrainingJob, ready: ReadyNetwork, tested: Ints
) -> dict[str, Floats]:
    """Log probabilities of the test rows under every view; of a number the prediction."""
    scores = {}
    whole = training
    if ready.full is not training.network:  # crops need the whole network, below the cut too
        ready.full.load_state_dict(training.network.state_dict(), strict=False)
        whole = replace(training, network=ready.full, feed=run.feed)
    for view in run.views:
        p = predict(training if view == "center" else whole, tested, view)
        scores[view] = np.log(np.maximum(p, _SMALLEST)).astype(np.float32)
        goal = training.goal
        for column, part in enumerate(goal.parts()):
            if goal.is_number(column):
                made = goal.centre[column] + goal.spread[column] * p[:, part]
                scores[view][:, part] = made.astype(np.float32)
    return scores
