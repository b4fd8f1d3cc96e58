"""The run that all results of a fine-tune share, one result of it, and what results are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from features.arrays import Bools
from features.backbone import Backbone
from features.data.tasks import Task
from features.machine.files import file_name
from features.study.study import Study
from probe.finetuning.options import FineTuneOptions
from probe.finetuning.saved_network import made_under, trained_name
from probe.folds.splits import Splits
from probe.results.protocol import mark
from probe.training.feed import ImageFeed
from probe.training.recipes import DEFAULT, Recipe
from probe.training.setup import Epoch, Goal
from probe.training.variants import Variant


@dataclass(frozen=True)
class FineTuneRun:
    """What all results of a run share."""

    options: FineTuneOptions
    study: Study
    backbone: Backbone
    recipe: Recipe
    """The one that the options name or hold."""
    views: tuple[str, ...]
    feed: ImageFeed
    readable: Bools
    """Rows of images.csv that take part and decode, `(n,)`."""
    precision: str
    """`float32` or `amp`: what `auto` means on this device."""
    rates: tuple[float, ...]
    """Learning rates to choose from on the inner part; a single rate is not chosen."""
    note: Callable[[str, Epoch], None]
    """Called after every epoch, with the name of the training."""


@dataclass(frozen=True)
class FineTuneJob:
    """One result: a variant for a task, or for several tasks that share the network."""

    variant: Variant
    tasks: tuple[Task, ...]
    splits: Splits
    """The folds of the tasks together."""
    goal: Goal
    protocols: dict[str, str]
    """The protocol by task, as JSON."""
    folder: Path
    """Where checkpoints and finished folds lie until all folds are there."""


def identity(run: FineTuneRun, variant: Variant) -> tuple[str, str]:
    """The backbone and domain that the rows name: from scratch a card has no pretraining."""
    card = run.backbone.architecture.card
    base = run.options.base
    if variant.method == "scratch":
        return card.name, "task"
    if base:
        anew = base.partition("+")[0] == "scratch"
        return f"{card.name if anew else run.backbone.name}@{base}", "task"
    return run.backbone.name, run.backbone.domain


def base_network(run: FineTuneRun, tasks: tuple[Task, ...], fold: int) -> str:
    """The name of the network that `--from` begins a fold with."""
    base, origin = run.options.base, run.backbone.name
    if base.partition("+")[0] == "scratch":
        origin = run.backbone.architecture.card.name
    return trained_name(origin, tuple(task.name for task in tasks), base, "", fold)


def network_name(run: FineTuneRun, job: FineTuneJob, fold: int) -> str:
    """The name of the network that is trained on a fold."""
    origin, _ = identity(run, job.variant)
    names = tuple(task.name for task in job.tasks)
    return trained_name(origin, names, method_of(run, job), job.variant.cut, fold)


def is_saved(run: FineTuneRun, job: FineTuneJob, fold: int) -> bool:
    """Whether the trained network of a fold is kept, and was trained under this protocol."""
    return made_under(run.study.folder, network_name(run, job, fold)) == marks(job)


def marks(job: FineTuneJob) -> dict[str, str]:
    """The protocol's hash by task."""
    return {task: mark(protocol) for task, protocol in job.protocols.items()}


def training_name(run: FineTuneRun, job: FineTuneJob, fold: int, stage: str) -> str:
    """The name of one stage of a fold's training, fit for a folder."""
    return f"{file_name(network_name(run, job, fold))}-{stage}"


def method_of(run: FineTuneRun, job: FineTuneJob) -> str:
    """The method as the rows name it: every choice after a `+` makes it a result of its own."""
    recipe = run.recipe
    choices = [
        (recipe.name, recipe.name != DEFAULT),
        ("keep-above", job.variant.keep_above),
        ("probe-first", run.options.probe_first),
        ("class-weights", recipe.class_weights),
        ("search", bool(run.options.search)),
        ("together", len(job.tasks) > 1),
    ]
    return "+".join([job.variant.method, *(name for name, chosen in choices if chosen)])
