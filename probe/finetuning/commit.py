"""A finished fine-tune as rows of results.csv, scores in predictions/ and epochs in training.csv."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.arrays import Floats, Ints
from features.data.tasks import Task
from features.images.views import VIEWS
from probe.finetuning import history
from probe.finetuning.fold_file import FoldResult
from probe.finetuning.job import FineTuneJob, FineTuneRun, identity, method_of
from probe.results import rows as results
from probe.results.ledger import open_ledger
from probe.results.metrics import kind_of, measure_task
from probe.results.predictions import Key, Prediction
from probe.results.protocol import mark
from probe.results.rows import Row

_PATIENCE = 600.0  # seconds: hours of training should not end because probes are being fitted


def results_of(run: FineTuneRun, job: FineTuneJob) -> dict[Key, str]:
    """The protocol of every result that a job makes, one for each task and view."""
    name, _ = identity(run, job.variant)
    method = method_of(run, job)
    variants = [results.variant(views=view, crops=VIEWS[view]) for view in run.views]
    return {
        (task.name, name, job.variant.cut, method + variant): job.protocols[task.name]
        for task in job.tasks
        for variant in variants
    }


def commit(run: FineTuneRun, job: FineTuneJob, folds: list[FoldResult]) -> list[Row]:
    """Put a finished result into results.csv, predictions/ and training.csv."""
    name, _ = identity(run, job.variant)
    made = [
        _scored(run, job, folds, task, where, view)
        for task, where in zip(job.tasks, job.goal.parts(), strict=True)
        for view in run.views
    ]
    with open_ledger(run.study.folder, wait=_PATIENCE) as ledger:
        # First: where rows are there, nothing of a result is made again.
        history.add(
            run.study.folder / "training.csv",
            [
                history.TrainingEpoch(
                    backbone=name,
                    layer=job.variant.cut,
                    method=method_of(run, job),
                    task=task.name,
                    fold=fold.fold,
                    stage=stage,
                    rate=rate,
                    epoch=epoch,
                )
                for task in job.tasks
                for fold in folds
                for stage, epochs in (
                    ("inner", fold.inner),
                    ("whole", [(fold.rate, epoch) for epoch in fold.whole]),
                )
                for rate, epoch in epochs
            ],
        )
        for prediction, rows in made:
            ledger.put(rows[0].stored, prediction, rows)
        ledger.commit()
    return [row for _, rows in made for row in rows]


def _scored(
    run: FineTuneRun, job: FineTuneJob, folds: list[FoldResult], task: Task, where: slice, view: str
) -> tuple[Prediction, list[Row]]:
    """The scores of all images under a view, and a row for every fold."""
    y = job.goal.labels[:, job.tasks.index(task)]
    scores = np.full((len(y), where.stop - where.start), np.nan, dtype=np.float32)
    fold_of = np.full(len(y), -1)
    rows = []
    for fold in folds:
        tested = job.splits.held_out_rows(job.splits.tested(fold.fold))
        own = y[tested] >= 0
        scores[tested[own]] = fold.scores[view][own, where]
        fold_of[tested[own]] = fold.fold
        rows.append(_row(run, job, task, fold, view, scores[tested[own]], tested[own]))
    return Prediction(scores, fold_of, job.protocols[task.name]), rows


def _row(
    run: FineTuneRun,
    job: FineTuneJob,
    task: Task,
    fold: FoldResult,
    view: str,
    scores: Floats,
    tested: Ints,
) -> Row:
    name, domain = identity(run, job.variant)
    variant = job.variant
    at_edge = run.recipe.patience > 0 and not fold.stopped_early
    return Row(
        backbone=name,
        domain=domain,
        layer=variant.cut,
        pool="",
        depth=variant.layer.depth if variant.layer else None,
        method=method_of(run, job),
        task=task.name,
        fold=fold.fold,
        **_measured(run, job, task, scores, tested),
        n_test=len(tested),
        n_train=fold.n_train,
        solver=run.recipe.optimiser,
        at_edge=int(at_edge),
        selection=fold.selection,
        epochs=fold.epochs,
        recipe=_recipe_in_words(run, job, fold),
        seed=run.options.seed,
        views=view,
        crops=VIEWS[view],
        converged=int(not at_edge),
        protocol=mark(job.protocols[task.name]),
    )


def _recipe_in_words(run: FineTuneRun, job: FineTuneJob, fold: FoldResult) -> str:
    words = [run.recipe.name]
    if job.variant.keep_above:
        words.append("above the cut kept")
    if job.variant.method == "frozen":
        words.append("prefix kept as features" if fold.kept_prefix else "prefix recomputed")
    if run.options.probe_first:
        words.append("head from the probe")
    if len(run.rates) > 1:
        words.append(f"rate {fold.rate:g} chosen")
    if len(job.tasks) > 1:
        words.append("one network for " + "+".join(task.name for task in job.tasks))
    return "; ".join(words)


def notes(run: FineTuneRun, job: FineTuneJob, folds: list[FoldResult]) -> list[str]:
    """What a person should know about a result."""
    edge = sum(not fold.stopped_early for fold in folds) if run.recipe.patience else 0
    if not edge:
        return []
    return [
        f"{'+'.join(t.name for t in job.tasks)}: {job.variant} was still getting better after "
        f"{run.recipe.epochs} epochs in {edge} of {len(folds)} folds; give it more --epochs"
    ]


def _measured(
    run: FineTuneRun, job: FineTuneJob, task: Task, scores: Floats, tested: Ints
) -> dict[str, Any]:
    """Every metric of the scores of the rows `tested`."""
    labels = job.goal.labels[:, job.tasks.index(task)]
    y = run.study.numbers(task.name) if task.is_number else labels
    return measure_task(task, scores, y[tested], kind_of(job.variant.method))
