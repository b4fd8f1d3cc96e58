"""What a fine-tune would do, and nothing is written: results kept, results to make, bytes, seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from features.arrays import Bools
from features.backbone import choose, describe
from features.cards.reading import find
from features.errors import InputError
from features.extraction.foreseen import ForeseenFeatures
from features.study.named_tasks import named_tasks
from features.study.study import Study, has_study
from features.weights import here
from probe.finetuning.commit import results_of
from probe.finetuning.effort import TrainingKind, kind_of, most_work, seconds_per_image
from probe.finetuning.first_batch import measure
from probe.finetuning.job import FineTuneJob, FineTuneRun
from probe.finetuning.options import FineTuneOptions
from probe.finetuning.plan import loaded, prepare, run_and_jobs
from probe.finetuning.rows import extracted_rows
from probe.fitting.foreseen import ForeseenResults, score_bytes
from probe.results.ledger import Ledger
from probe.training.setup import Diverged


def foresee(
    study: Study,
    options: FineTuneOptions,
    coming: Mapping[str, ForeseenFeatures],
    *,
    exactly: bool,
) -> ForeseenResults | None:
    """What `finetune` would do after features of some backbones are extracted.

    Args:
        study: The study, or a draft of it.
        options: Those of the fine-tune.
        coming: The backbones whose features will have changed by then, and with them perhaps the images
            that take part.
        exactly: Whether to load the network and read the images, as it takes to tell what is kept, and to
            train on a batch where nothing tells how long that takes; else only the options are checked,
            and None is returned.

    Raises:
        InputError: The backbone, a layer or task is not there, or an option cannot be used.
    """
    architecture = describe(options.backbone)
    for layers in (options.freeze_through, options.copy_through):
        if layers:
            choose(architecture, tuple(layers))
    named_tasks(study, options.tasks)
    if not exactly:
        return None
    quiet = replace(options, announce=lambda _: None)
    copies_known = study.copies is not None and study.copies.turned
    if not coming and has_study(study.folder) and copies_known:
        plan = prepare(quiet)
        return _foreseen(plan.run, plan.jobs, options)
    is_here = options.weights is not None or here(find(options.backbone))
    backbone = loaded(quiet, options.weights if is_here else "random")
    there = _taking_part(study, coming.values())
    try:
        run, jobs = run_and_jobs(study, quiet, backbone, lambda _feed: there)
    except InputError:  # perhaps of images, whose training tells whether rates are searched
        run, jobs = run_and_jobs(
            study, replace(quiet, search=bool(options.search)), backbone, lambda _feed: there
        )
    return _foreseen(run, jobs, options)


def _foreseen(
    run: FineTuneRun, jobs: Sequence[FineTuneJob], options: FineTuneOptions
) -> ForeseenResults:
    ledger = Ledger(run.study.folder)
    kept = todo = stale = size = 0
    seconds: float | None = 0.0
    measured: dict[TrainingKind, float | None] = {}  # of an image, which no task changes
    for job in jobs:
        made = results_of(run, job)
        whole = all(ledger.holds(key, under, job.splits.folds) for key, under in made.items())
        if whole and not options.redo:
            kept += len(made)
            continue
        todo += len(made)
        stale += sum(bool(ledger.rows_of(key)) for key in made)
        of_tasks = (score_bytes(run.study, task, options.folds, inner=False) for task in job.tasks)
        size += len(run.views) * sum(of_tasks)
        if seconds is not None:
            work = _work(run, job)
            kind = kind_of(run, job)
            if kind not in measured:
                measured[kind] = seconds_per_image(kind) or _measured(run, job, work)
            rate = measured[kind]
            seconds = None if rate is None else seconds + rate * work
    return ForeseenResults(kept, todo, stale, size, seconds)


def _measured(run: FineTuneRun, job: FineTuneJob, work: float) -> float | None:
    """The seconds of a trained image by a few batches.

    None of a frozen part, whose features are kept, of networks trained before, and where the images of the
    batches cannot be trained on.
    """
    if job.variant.method == "frozen" or run.options.base:
        return None
    try:
        return measure(run, job, work)
    except (InputError, Diverged):
        return None


def _work(run: FineTuneRun, job: FineTuneJob) -> float:
    """The most images that all folds train on."""
    return sum(
        most_work(run.recipe, run.rates, job.splits, fold, run.views) for fold in job.splits.folds
    )


def _taking_part(study: Study, coming: Iterable[ForeseenFeatures]) -> Bools:
    """About the rows that will take part: those of the backbone that will have most."""
    masks = [extracted_rows(study)] if has_study(study.folder) and study.backbones() else []
    for features in coming:
        masks.append(np.zeros(len(study), dtype=bool))
        masks[-1][features.taking_part] = True
    return max(masks, key=np.count_nonzero, default=np.ones(len(study), dtype=bool))
