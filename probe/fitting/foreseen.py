"""What a fit would do, and nothing is written: results that are there, results to make, bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from features.arrays import Bools
from features.data.tasks import Task
from features.errors import InputError, nearest
from features.extraction.foreseen import ForeseenFeatures
from features.study.named_tasks import named_tasks
from features.study.study import Study, has_study
from probe.fitting.fit_seconds import FitSize, estimate, read_fit_seconds
from probe.fitting.forecast import size_of
from probe.fitting.job import ProbeJob
from probe.fitting.options import FitOptions
from probe.fitting.plan import prepare, probes_of, variants_of
from probe.fitting.probe_job import features_of
from probe.folds.make_splits import make_splits
from probe.folds.splits import Splits
from probe.results.ledger import Ledger
from probe.results.protocol import protocol

_FILE_BYTES = {True: 4_900, False: 7_600}
"""Names, protocol and headers of a file of scores: of a probe, and of a fine-tune; measured."""


@dataclass(frozen=True)
class ForeseenResults:
    """What a command that makes results would do."""

    kept: int
    todo: int
    """Results to make, those that replace others among them."""
    stale: int
    """Results that are there and were made in another way, or of what will have changed; made again."""
    bytes: int
    """Bytes of scores to write."""
    seconds: float | None = None
    """About how long it takes here; None where nothing was measured."""


def foresee(
    study: Study, options: FitOptions, coming: Mapping[str, ForeseenFeatures], *, exactly: bool
) -> ForeseenResults | None:
    """What `fit` would do after features of some backbones are extracted.

    Args:
        study: The study, or a draft of it.
        options: Those of the fit.
        coming: The backbones whose features will have changed by then.
        exactly: Whether to tell what is kept, which reads what is there; else only the options are
            checked, and None is returned.

    Raises:
        InputError: A backbone, layer or task is not there, or an option cannot be used.
    """
    study, tasks = named_tasks(study, options.tasks)
    dims = _dims(study, coming)
    keys = {name: tuple(of_backbone) for name, of_backbone in dims.items()}
    for name in options.backbones:
        if name not in keys:
            raise InputError(f"--backbone {name}: not extracted; {nearest(name, keys)}")
    layers = {key.partition(":")[0] for of_backbone in keys.values() for key in of_backbone}
    for layer in options.layers:
        if layer not in layers:
            raise InputError(f"--layer {layer}: not extracted; {nearest(layer, sorted(layers))}")
    if not exactly:
        return None
    chosen = [name for name in keys if not options.backbones or name in options.backbones]
    settled = [name for name in chosen if name not in coming]
    ledger = Ledger(study.folder)
    kept = todo = stale = size = 0
    sizes: list[FitSize] = []
    if settled and study.copies is not None and study.copies.turned:
        quiet = replace(options, backbones=settled, layers=(), announce=lambda _: None)
        run = prepare(quiet)
        for job in run.jobs:
            if options.layers and job.key.partition(":")[0] not in options.layers:
                continue
            with run.run.study.features(job.backbone) as file:
                dim = int(file.about(job.key)["dim"])
                splits = run.run.splits_of(job.task, file, job.repeat)
                under = protocol(
                    run.run.study, job.task, splits, run.run.settings(job.method), options.seed
                )
                features = features_of(job, file, splits)
            if not options.redo and ledger.holds(job.stored, under, splits.folds, features):
                kept += 1
                continue
            todo += 1
            stale += bool(ledger.rows_of(job.stored))
            size += score_bytes(study, job.task, options.folds)
            sizes.append(size_of(job, splits, dim))
    else:
        settled = []
    made: dict[tuple[str, bytes], Splits | None] = {}
    for name in chosen:
        if name in settled:
            continue
        there = _there(study, coming.get(name))
        for task in tasks:
            if (task.name, there.tobytes()) not in made:
                made[task.name, there.tobytes()] = _splits(study, task, there, options)
        folded = {task.name: made[task.name, there.tobytes()] for task in tasks}
        for key, task in product(keys[name], tasks):
            if options.layers and key.partition(":")[0] not in options.layers:
                continue
            for method in probes_of(task, options.all_probes()):
                job = ProbeJob(task, name, key, method)
                each = variants_of(job, options)
                if options.project is not None:
                    each.append(replace(job, project=options.project))
                todo += len(each)
                stale += bool(ledger.rows_of(job.stored))
                size += len(each) * score_bytes(study, task, options.folds)
                splits_ = folded[task.name]
                if splits_ is not None:
                    sizes += [size_of(job, splits_, dims[name][key]) for job in each]
    for task in tasks:  # the row of the best layer of each, and that of guessing
        rows = len(chosen) * len(probes_of(task, options.probes)) + 1
        size += rows * score_bytes(study, task, options.folds)
    return ForeseenResults(kept, todo, stale, size if todo else 0, _seconds(sizes))


def _dims(study: Study, coming: Mapping[str, ForeseenFeatures]) -> dict[str, Mapping[str, int]]:
    """The data sets by backbone with the numbers of a row: those that are there, and those to come."""
    dims: dict[str, Mapping[str, int]] = {}
    for name in study.backbones() if has_study(study.folder) else ():
        with study.features(name) as file:
            dims[name] = {key: int(file.about(key)["dim"]) for key in file.keys}
    return dims | {name: features.dims for name, features in coming.items()}


def _there(study: Study, features: ForeseenFeatures | None) -> Bools:
    """About the rows that will have features: images that do not decode are not known yet."""
    if features is None:
        return np.ones(len(study), dtype=np.bool_)
    there = np.zeros(len(study), dtype=np.bool_)
    there[features.taking_part] = True
    return there


def _splits(study: Study, task: Task, there: Bools, options: FitOptions) -> Splits | None:
    """About the folds that a task will have, copies not being known yet.

    None where they cannot be made, which the fit will say.
    """
    try:
        return make_splits(study, task, there, options.folds, options.seed)
    except InputError:
        return None


def _seconds(sizes: Sequence[FitSize]) -> float | None:
    """About how long the fits take; None where no fit of one of the methods was measured here."""
    known = read_fit_seconds()
    each = [estimate(size, known) for size in sizes]
    return None if None in each else sum(s for s in each if s is not None)


def score_bytes(study: Study, task: Task, folds: int | None, *, inner: bool = True) -> int:
    """The bytes of one result's scores on the disk, about."""
    n = len(study)
    of_folds = len({f for f in study.columns.get("fold", ()) if f}) or folds or 5
    width = 1 if task.is_number else len(task.classes)
    return 4 * n * width + 2 * n + (2 * n * of_folds if inner else 0) + _FILE_BYTES[inner]
