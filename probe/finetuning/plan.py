"""What a fine-tune is going to train: the options checked, rows that decode, folds and protocols."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from features.arrays import Bools
from features.backbone import Backbone, load
from features.cards.reading import find
from features.data.tasks import Task
from features.errors import InputError
from features.extraction.provenance import network_of
from features.machine.device import computes, several, usable_precision
from features.machine.files import file_name
from features.study.drafting import open_or_draft
from features.study.named_tasks import named_tasks
from features.study.study import Study
from probe.checking.find_copies import checked
from probe.finetuning.job import FineTuneJob, FineTuneRun, base_network
from probe.finetuning.joint_splits import joint_splits
from probe.finetuning.options import FineTuneOptions
from probe.finetuning.rate_search import rates_of, searches
from probe.finetuning.rows import extracted_rows, readable_rows
from probe.finetuning.saved_network import digest
from probe.finetuning.tensorboard import Board
from probe.folds.left_out import left_out_sentences
from probe.folds.make_splits import make_splits
from probe.folds.splits import Splits, Unfit
from probe.results.protocol import protocol
from probe.training.cut import EMPTY, prefix_of, refuse_unread
from probe.training.feed import ImageFeed
from probe.training.head import classifier
from probe.training.recipes import DEFAULT, RECIPES, Recipe
from probe.training.recipes import recipe as recipe_of
from probe.training.setup import Epoch, Goal, check_norms
from probe.training.variants import Variant, variants


@dataclass(frozen=True)
class FineTunePlan:
    """What is going to be trained, and where."""

    run: FineTuneRun
    jobs: list[FineTuneJob]
    devices: list[torch.device]
    is_new: bool
    """Whether the study is not on disk yet."""
    notes: list[str]
    """What a person should know of the data."""
    opened: Study
    """The study as it is on disk."""


@dataclass(frozen=True)
class FineTuneSettings:
    """What decides the numbers of a fine-tune besides network, folds and seed; part of the protocol."""

    recipe: Recipe
    tasks: tuple[str, ...]
    keep_above: bool
    accumulate: int
    precision: str
    base: str
    probe_first: bool
    rates: tuple[float, ...]
    readable: str
    """Hash of which rows decode."""
    start: str
    """Hash of what training begins with: network, input, weights, and the networks of `--from`."""


def prepare(options: FineTuneOptions) -> FineTunePlan:
    """Load what the options name and make folds and protocols; nothing is trained or written.

    Raises:
        InputError: An option, the data or the backbone cannot be used.
    """
    _how(options)  # before what takes time
    study, manifest = open_or_draft(Path(options.study), options.data)
    for sentence in () if manifest is None else (*manifest.notes, *study.no_tasks.values()):
        options.announce(sentence)
    opened = checked(study, options.announce)
    extracted = extracted_rows(opened)
    if not extracted.all():
        options.announce(
            f"{extracted.sum():,} of {len(study):,} images take part, those that are extracted"
        )
    backbone = loaded(options, options.weights)
    run, jobs = run_and_jobs(
        opened, options, backbone, lambda feed: readable_rows(opened, feed, extracted)
    )
    return FineTunePlan(
        run,
        jobs,
        several(options.device),
        manifest is not None,
        _unreadable(opened, run.readable | ~extracted),
        opened,
    )


def run_and_jobs(
    study: Study,
    options: FineTuneOptions,
    backbone: Backbone,
    taking_part: Callable[[ImageFeed], Bools],
) -> tuple[FineTuneRun, list[FineTuneJob]]:
    """What is going to be trained of a study, or of a draft of it.

    Args:
        study: The study, whose copies are known where folds are to heed them.
        options: The options.
        backbone: The one that they name.
        taking_part: The rows that take part and decode, `(n,)`.

    Raises:
        InputError: An option, the data or the backbone cannot be used.
    """
    recipe, device, precision = _how(options)
    chosen = variants(
        backbone,
        from_scratch=options.from_scratch,
        freeze_through=options.freeze_through,
        copy_through=options.copy_through,
        keep_above=options.keep_above,
    )
    study, tasks = named_tasks(study, options.tasks)
    with_labels = [task.name for task in tasks if task.has_labels]
    if with_labels and (options.tasks or len(with_labels) == len(tasks)):
        raise InputError(
            f"--task {with_labels[0]}: several labels an image, on which no network is trained yet; "
            "name other tasks, such as one of its labels that has a column of its own."
        )
    if with_labels:
        options.announce(f"not fine-tuned: {', '.join(with_labels)}, of several labels an image")
        tasks = [task for task in tasks if not task.has_labels]
    for task in tasks:
        if task.is_number and options.probe_first:
            raise InputError(
                f"--probe-first: the head starts as a logistic probe, and {task.name} is a number; leave "
                "it out."
            )
    groups = [tuple(tasks)] if options.tasks else [(task,) for task in tasks]
    feed = ImageFeed(study, backbone.architecture.input, recipe, device, options.workers)
    run = FineTuneRun(
        options=options,
        study=study,
        backbone=backbone,
        recipe=recipe,
        views=tuple(options.views),
        feed=feed,
        readable=taking_part(feed),
        precision=precision,
        rates=rates_of(recipe) if options.search else (recipe.rate,),
        note=_told_of_epochs(options),
    )
    for variant in chosen:
        if variant.layer is not None:
            refuse_unread(backbone, prefix_of(backbone.architecture, variant.layer))
        _check_norms(run, variant)
    jobs = _jobs(run, chosen, groups)
    if options.search is None and recipe == RECIPES[DEFAULT]:
        quiet = replace(run, options=replace(options, announce=lambda _: None))
        searched = _jobs(replace(quiet, rates=rates_of(recipe)), chosen, groups)
        if searches(run, jobs, searched, len(several(options.device))):
            run, jobs = replace(run, rates=rates_of(recipe)), searched
    return run, jobs


def _jobs(
    run: FineTuneRun, chosen: Sequence[Variant], groups: Sequence[tuple[Task, ...]]
) -> list[FineTuneJob]:
    """The jobs of every group of tasks that can be cross-validated; the others are announced.

    Raises:
        InputError: None can.
    """
    jobs, unfit = [], []
    for group in groups:
        try:
            jobs += plan(run, chosen, group)
        except Unfit as reason:
            unfit.append(reason)
    if not jobs and unfit:
        raise unfit[0]
    for each in unfit:
        run.options.announce(f"not fine-tuned: {each}")
    return jobs


def _how(options: FineTuneOptions) -> tuple[Recipe, torch.device, str]:
    """The recipe, the device that trains first, and what the network computes in.

    Raises:
        InputError: One cannot be used.
    """
    recipe = recipe_of(options.recipe) if isinstance(options.recipe, str) else options.recipe
    device = several(options.device)[0]
    return recipe, device, _precision(options, device)


def _precision(options: FineTuneOptions, device: torch.device) -> str:
    """What the network computes in; `auto` is the GPU's own kind of mixed precision."""
    precision = options.precision
    if precision == "amp" and device.type == "cpu":
        raise InputError("--precision amp: mixed precision is for a GPU; use float32 here.")
    if precision == "auto" and device.type not in ("cuda", "xpu"):
        return "float32"
    if precision in ("auto", "amp"):
        precision = "bf16"
        if device.type == "cuda" and not computes(device, torch.bfloat16):
            return "fp16"
    return usable_precision(precision, device, options.announce)


def loaded(options: FineTuneOptions, weights: str | None) -> Backbone:
    """The backbone with these weights, which are random where nothing else is trained."""
    if find(options.backbone).network.startswith("onnx:"):
        raise InputError(
            f"{options.backbone}: an ONNX file is frozen and cannot be fine-tuned; fit probes on its "
            "layers, or bring the network as PyTorch."
        )
    only_scratch = options.from_scratch and not options.freeze_through and not options.copy_through
    backbone = load(
        options.backbone,
        "random" if only_scratch else weights,
        options.seed,
        announce=options.announce,
        spare=lambda architecture: classifier(architecture.card, architecture.traced),
    )
    for note in backbone.notes:
        options.announce(note)
    if not backbone.architecture.parameters:
        raise InputError(f"{backbone.name}: has no weights that could be trained.")
    return backbone


def _told_of_epochs(options: FineTuneOptions) -> Callable[[str, Epoch], None]:
    """The callback after every epoch: TensorBoard's writer where a folder is given."""
    if options.tensorboard is None:
        return lambda _training, _epoch: None
    return Board(options.tensorboard).note


def _check_norms(run: FineTuneRun, variant: Variant) -> None:
    """Refuse batches that are too small for a batch norm which the variant trains."""
    frozen = variant.layer if variant.method == "frozen" else None
    prefix = prefix_of(run.backbone.architecture, frozen) if frozen else EMPTY
    check_norms(
        run.backbone.model, prefix, run.recipe, run.options.accumulate, int(run.readable.sum())
    )


def _unreadable(study: Study, readable: Bools) -> list[str]:
    bad = np.flatnonzero(~readable)
    if not len(bad):
        return []
    first = study.paths[int(bad[0])]
    if len(bad) == 1:
        return [f"1 image cannot be read ({first}); left out"]
    return [f"{len(bad)} images cannot be read (first: {first}); left out"]


def plan(
    run: FineTuneRun, variants: Sequence[Variant], tasks: tuple[Task, ...]
) -> list[FineTuneJob]:
    """The results to be trained, one a variant: folds, protocol and the folder of the checkpoints.

    Raises:
        InputError: The folds of the tasks differ or cannot be made, or a network to begin with is
            not there.
    """
    study, options = run.study, run.options
    each = [make_splits(study, task, run.readable, options.folds, options.seed) for task in tasks]
    splits = joint_splits(study, tasks, each, options.folds)
    for task, own in zip(tasks, each, strict=True):
        for sentence in left_out_sentences(study, task, own):
            options.announce(sentence)
    goal = _goal(study, tasks, each)
    bases = [
        digest(study.folder, base_network(run, tasks, fold))
        for fold in splits.folds
        if options.base
    ]
    jobs = []
    for variant in variants:
        settings = _settings(run, variant, tasks, bases)
        protocols = {
            task.name: protocol(study, task, own, settings, options.seed)
            for task, own in zip(tasks, each, strict=True)
        }
        folder = _folder(run, variant, protocols)
        jobs.append(FineTuneJob(variant, tasks, splits, goal, protocols, folder))
    return jobs


def _goal(study: Study, tasks: Sequence[Task], each: Sequence[Splits]) -> Goal:
    """The labels of all tasks, without classes that are too small for their folds, and the numbers."""
    labels, numbers = [], []
    for task, own in zip(tasks, each, strict=True):
        numbers.append(study.numbers(task.name) if task.is_number else np.full(len(study), np.nan))
        if task.is_number:
            labels.append(np.where(study.labelled(task.name), 0, -1))
        else:
            y = study.labels(task.name)
            labels.append(np.where(np.isin(y, own.too_small), -1, y))
    return Goal(
        np.stack(labels, axis=1),
        tuple(1 if task.is_number else len(task.classes) for task in tasks),
        np.stack(numbers, axis=1) if any(task.is_number for task in tasks) else None,
        tuple(column for column, task in enumerate(tasks) if task.is_number),
    )


def _settings(
    run: FineTuneRun, variant: Variant, tasks: tuple[Task, ...], bases: Sequence[str]
) -> FineTuneSettings:
    start = {**network_of(run.backbone), "bases": bases}
    if variant.layer:
        start["cut"] = variant.layer.module
    if variant.method == "scratch":
        del start["weights"]
    return FineTuneSettings(
        recipe=run.recipe,
        tasks=tuple(task.name for task in tasks),
        keep_above=variant.keep_above,
        accumulate=run.options.accumulate,
        precision=run.precision,
        base=run.options.base,
        probe_first=run.options.probe_first,
        rates=run.rates,
        readable=hashlib.sha256(run.readable.tobytes()).hexdigest(),
        start=hashlib.sha256(json.dumps(start, sort_keys=True).encode()).hexdigest(),
    )


def _folder(run: FineTuneRun, variant: Variant, protocols: dict[str, str]) -> Path:
    """The folder of a result's checkpoints; another protocol has another one."""
    name = run.backbone.name
    whole = json.dumps([protocols, name, str(variant)])
    return (
        run.study.folder
        / "training"
        / file_name(name)
        / f"{file_name('+'.join(protocols))}-{variant.method}-{file_name(variant.cut or 'whole')}-"
        f"{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    )
