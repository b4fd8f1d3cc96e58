"""What a fine-tune is: the run that all its results share, one result of it, their names and marks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.backbone import Backbone
from features.data.tasks import Task
from features.machine.files import file_name
from features.study.study import Study
from probe.finetuning.saved_network import made_under, name_of
from probe.folds import Splits
from probe.results.protocol import mark
from probe.training.feed import ImageFeed
from probe.training.recipes import DEFAULT, Recipe
from probe.training.setup import Epoch, Goal
from probe.training.variants import Variant

Rows = npt.NDArray[np.int64]


Floats = npt.NDArray[np.float32]


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
    base: str
    """`finetune` or `scratch`, with what its rows have after it: what starts is that network, trained
    here on the same fold."""
    probe_first: bool
    """The head starts as the logistic probe."""
    rates: tuple[float, ...]
    """Learning rates to choose from on the inner part; one is no choice."""
    save: bool
    note: Callable[[str, Epoch], None]
    """Is told every epoch, under the name of its fold and stage."""
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


def identity(run: Run, variant: Variant) -> tuple[str, str]:
    """Backbone and domain as the rows name them: from scratch there is a card but no pretraining."""
    card = run.backbone.architecture.card
    if variant.method == "scratch":
        return card.name, "task"
    if run.base:
        anew = run.base.partition("+")[0] == "scratch"
        return f"{card.name if anew else run.backbone.name}@{run.base}", "task"
    return run.backbone.name, run.backbone.domain


def base_of(run: Run, tasks: tuple[Task, ...], fold: int) -> str:
    """The network of a fold that `--from` begins with."""
    origin = run.backbone.name
    if run.base.partition("+")[0] == "scratch":
        origin = run.backbone.architecture.card.name
    return name_of(origin, tuple(task.name for task in tasks), run.base, "", fold)


def _network(run: Run, job: Asked, fold: int) -> str:
    """What the trained network of a fold is called."""
    origin, _ = identity(run, job.variant)
    names = tuple(task.name for task in job.tasks)
    return name_of(origin, names, method_of(run, job), job.variant.cut, fold)


def saved(run: Run, job: Asked, fold: int) -> bool:
    """Whether the network of a fold is kept that this result comes from."""
    return made_under(run.study.folder, _network(run, job, fold)) == _marks(job)


def _marks(job: Asked) -> dict[str, str]:
    return {task: mark(said) for task, said in job.said.items()}


def _name(run: Run, job: Asked, fold: int, stage: str) -> str:
    """What a training is called for whoever is told of its epochs."""
    return f"{file_name(_network(run, job, fold))}-{stage}"


def method_of(run: Run, job: Asked) -> str:
    """The method as the rows name it: after every `+` a choice that makes it a result of its own."""
    recipe = run.recipe
    told = [
        (recipe.name, recipe.name != DEFAULT),
        ("keep-above", job.variant.keep_above),
        ("probe-first", run.probe_first),
        ("class-weights", recipe.class_weights),
        ("search", len(run.rates) > 1),
        ("together", len(job.tasks) > 1),
    ]
    return "+".join([job.variant.method, *(name for name, there in told if there)])
