"""The folds of one fine-tune: epochs chosen on an inner part, training on all rows, one score."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from features.backbone import Backbone
from features.errors import InputError
from features.files import replacing
from features.study import Study
from features.tasks import Task
from probe.feed import ImageFeed, KeptFeed
from probe.folds import Splits
from probe.prefix import Suffix, kept_features, suffix_of
from probe.recipes import Recipe, epochs_of
from probe.training import Epoch, Goal, Job, Now, best_epoch, predict, standardise, train
from probe.variants import Variant, head_times, start

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_SMALLEST = 1e-15


@dataclass(frozen=True)
class Run:
    """What all results of a run share."""

    study: Study
    backbone: Backbone
    name: str
    domain: str
    recipe: Recipe
    views: tuple[str, ...]
    seed: int
    feed: ImageFeed
    readable: npt.NDArray[np.bool_]
    accumulate: int
    precision: str
    progress: Callable[[int, int, str], None]


@dataclass(frozen=True)
class Asked:
    """One result: a variant for a task, or for several that share the network."""

    variant: Variant
    tasks: tuple[Task, ...]
    splits: Splits
    """Of the tasks together."""
    goal: Goal
    said: dict[str, str]
    """The protocol by task."""
    folder: Path
    """Where checkpoints lie."""


@dataclass(frozen=True)
class Fold:
    """What one fold came to."""

    fold: int
    epochs: int
    stopped_early: bool
    selection: float | None
    n_train: int
    kept_prefix: bool
    scores: dict[str, Floats]
    """By view, `(rows of the fold, classes of all tasks)`: log probabilities."""
    inner: list[Epoch]
    whole: list[Epoch]


def train_folds(run: Run, job: Asked, counter: Counter) -> list[Fold]:
    """Train and test every fold; those that a run before this one finished are read."""
    found = {}
    for fold in job.splits.folds:
        file = job.folder / f"fold-{fold}.npz"
        if file.is_file():
            found[fold] = _read_fold(file)
            counter.skip(_images_of_fold(run, job, fold))
    left = [fold for fold in job.splits.folds if fold not in found]
    if not left:
        return list(found.values())
    network, prefix = start(run.backbone, job.variant, sum(job.goal.sizes), run.seed)
    network.to(run.feed.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with ExitStack() as held:
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
                if kept is None:
                    suffix = None
                else:
                    feed = KeptFeed(kept, run.feed.device)
        whole = Job(
            network=network if suffix is None else suffix,
            prefix=prefix,
            recipe=run.recipe,
            head_times=head_times(run.recipe, job.variant),
            goal=job.goal,
            feed=feed,
            epochs=0,
            seed=run.seed,
            accumulate=run.accumulate,
            precision=run.precision,
        )
        first = {name: tensor.clone() for name, tensor in whole.network.state_dict().items()}
        for fold in left:
            counter.now = f"{job.variant}, fold {fold + 1}/{len(job.splits.folds)}"
            full = None if suffix is None else network
            one = _one_fold(run, job, whole, first, full, fold, counter)
            _write_fold(job.folder / f"fold-{fold}.npz", one)
            for checkpoint in job.folder.glob(f"fold-{fold}-*.pt"):
                checkpoint.unlink()
            found[fold] = one
    return [found[fold] for fold in job.splits.folds]


def _one_fold(
    run: Run,
    job: Asked,
    training: Job,
    first: dict[str, torch.Tensor],
    full: torch.nn.Module | None,
    fold: int,
    counter: Counter,
) -> Fold:
    rows = job.splits.training_rows(job.splits.tested(fold))
    tested = job.splits.held_out_rows(job.splits.tested(fold))
    until, inner_history, stopped, selection = None, [], False, None
    recipe = run.recipe
    if recipe.patience:
        inner_rows, validation = _inner(job.splits, fold)
        planned = replace(training, epochs=epochs_of(recipe, len(inner_rows)))
        training.network.load_state_dict(first)
        checkpoint = job.folder / f"fold-{fold}-inner.pt"
        if recipe.standardise and not checkpoint.is_file():
            standardise(planned, inner_rows)
        counter.stage = "choosing epochs"
        made = train(
            planned, inner_rows, inner=validation, checkpoint=checkpoint, watch=counter.watch
        )
        counter.skip((planned.epochs - len(made.history)) * len(inner_rows))
        until, inner_history, stopped = made.epochs, made.history, made.stopped_early
        chosen = made.history[best_epoch(made.history) - 1].inner_loss
        selection = None if chosen is None else -chosen
    planned = replace(
        training, epochs=epochs_of(recipe, len(rows)) if until is None else planned.epochs
    )
    training.network.load_state_dict(first)
    checkpoint = job.folder / f"fold-{fold}-whole.pt"
    if recipe.standardise and not checkpoint.is_file():
        standardise(planned, rows)
    counter.stage = "training"
    made = train(planned, rows, until=until, checkpoint=checkpoint, watch=counter.watch)
    counter.skip((planned.epochs - made.epochs) * len(rows))
    counter.stage = "testing"
    scores = _scores(run, planned, full, tested)
    return Fold(
        fold,
        made.epochs,
        stopped,
        selection,
        len(rows),
        full is not None,
        scores,
        inner_history,
        made.history,
    )


def _scores(
    run: Run, trained: Job, full: torch.nn.Module | None, tested: Rows
) -> dict[str, Floats]:
    """Log probabilities of the test rows under every view."""
    found = {}
    whole = trained
    if full is not None:  # the network above the cut has learnt; the whole one sees other crops
        full.load_state_dict(trained.network.state_dict(), strict=False)
        whole = replace(trained, network=full, feed=run.feed)  # type: ignore[arg-type]
    for view in run.views:
        p = predict(trained if view == "center" else whole, tested, view)
        found[view] = np.log(np.maximum(p, _SMALLEST)).astype(np.float32)
    return found


def _inner(splits: Splits, fold: int) -> tuple[Rows, Rows]:
    """The rows that train and those that choose the epochs of a fold: one of its inner parts."""
    choices = list(splits.inner(fold))
    part, left_out = choices[fold % len(choices)]
    return splits.training_rows(left_out), np.flatnonzero(splits.part == part)


def images_of(run: Run, job: Asked) -> int:
    """How many images training sees at most, every epoch counted."""
    return sum(_images_of_fold(run, job, fold) for fold in job.splits.folds)


def _images_of_fold(run: Run, job: Asked, fold: int) -> int:
    """How many images training a fold sees at most."""
    rows = len(job.splits.training_rows(job.splits.tested(fold)))
    if not run.recipe.patience:
        return epochs_of(run.recipe, rows) * rows
    inner = len(_inner(job.splits, fold)[0])
    return epochs_of(run.recipe, inner) * (inner + rows)


class Counter:
    """Counts images over the whole run, for whoever watches."""

    def __init__(self, run: Run, total: int) -> None:
        """`total` images are to be trained on."""
        self.run, self.total, self.done = run, total, 0
        self.now = self.stage = ""

    def watch(self, now: Now) -> None:
        """Say where training is."""
        self.done += now.images
        self.run.progress(
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
        self.run.progress(self.done, self.done, "")


def _write_fold(file: Path, one: Fold) -> None:
    about = asdict(replace(one, scores={}))
    with replacing(file) as written:
        np.savez(written, about=np.array(json.dumps(about)), **one.scores)  # type: ignore[arg-type]


def _read_fold(file: Path) -> Fold:
    try:
        with np.load(file, allow_pickle=False) as opened:
            about = json.loads(str(opened["about"]))
            scores = {name: opened[name] for name in opened.files if name != "about"}
        about |= {
            "scores": scores,
            "inner": [Epoch(**epoch) for epoch in about["inner"]],
            "whole": [Epoch(**epoch) for epoch in about["whole"]],
        }
        return Fold(**about)
    except Exception as error:  # a damaged archive raises what it likes
        raise InputError(f"{file}: damaged; delete it to train this fold again.") from error
