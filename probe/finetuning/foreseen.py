"""What a fine-tune would do, and nothing is written: results kept, results to make, bytes, seconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from features.backbone import choose, describe
from features.study.named_tasks import named_tasks
from features.study.study import Study, has_study
from probe.finetuning import history
from probe.finetuning.commit import results_of
from probe.finetuning.job import FineTuneJob, FineTuneRun, identity, method_of
from probe.finetuning.options import FineTuneOptions
from probe.finetuning.plan import prepare
from probe.finetuning.progress import images_of
from probe.fitting.foreseen import ForeseenResults, score_bytes
from probe.results.ledger import Ledger
from probe.results.rows import Row


def foresee(
    study: Study, options: FineTuneOptions, coming: Collection[str], *, exactly: bool
) -> ForeseenResults | None:
    """What `finetune` would do after features of some backbones are extracted.

    Args:
        study: The study, or a draft of it.
        options: Those of the fine-tune.
        coming: The backbones whose features will have changed by then, and with them perhaps the images
            that take part.
        exactly: Whether to load the network and read the images, as it takes to tell what is kept; else
            only the options are checked, and None is returned.

    Raises:
        InputError: The backbone, a layer or task is not there, or an option cannot be used.
    """
    architecture = describe(options.backbone)
    for layers in (options.freeze_through, options.copy_through):
        if layers:
            choose(architecture, tuple(layers))
    _, tasks = named_tasks(study, options.tasks)
    if not exactly:
        return None
    copies_known = study.copies is not None and study.copies.turned
    if coming or not has_study(study.folder) or not copies_known:
        cuts = [
            len(choose(architecture, tuple(layers)))
            for layers in (options.freeze_through, options.copy_through)
            if layers
        ]
        each = (sum(cuts) + options.from_scratch or 1) * len(options.views)
        size = sum(score_bytes(study, task, options.folds, inner=False) for task in tasks)
        return ForeseenResults(0, each * len(tasks), 0, each * size)
    plan = prepare(replace(options, announce=lambda _: None))
    ledger = Ledger(plan.run.study.folder)
    rates = history.read(plan.run.study.folder / "training.csv")
    kept = todo = stale = size = 0
    seconds: float | None = 0.0
    for job in plan.jobs:
        made = results_of(plan.run, job)
        whole = all(ledger.holds(key, under, job.splits.folds) for key, under in made.items())
        if whole and not options.redo:
            kept += len(made)
            continue
        todo += len(made)
        stale += sum(bool(ledger.rows_of(key)) for key in made)
        size += sum(
            score_bytes(study, task, options.folds, inner=False) * len(plan.run.views)
            for task in job.tasks
        )
        rate = _seconds_per_image(plan.run, job, rates, ledger.rows)
        seconds = (
            None if rate is None or seconds is None else seconds + rate * images_of(plan.run, job)
        )
    return ForeseenResults(kept, todo, stale, size, seconds)


def _seconds_per_image(
    run: FineTuneRun, job: FineTuneJob, epochs: list[history.TrainingEpoch], rows: list[Row]
) -> float | None:
    """By the epochs that were trained in this study of the same network and method; None for none."""
    name, _ = identity(run, job.variant)
    kind = (name, job.variant.cut, method_of(run, job))
    sizes = {
        (row.task, row.fold): row.n_train
        for row in rows
        if (row.backbone, row.layer, row.method) == kind
    }
    trained = [
        (epoch.epoch.seconds, sizes[epoch.task, epoch.fold])
        for epoch in epochs
        if (epoch.backbone, epoch.layer, epoch.method) == kind
        and epoch.stage == "whole"
        and (epoch.task, epoch.fold) in sizes
    ]
    images = sum(n for _, n in trained)
    return sum(s for s, _ in trained) / images if images else None
