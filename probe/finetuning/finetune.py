"""Whole networks trained on a study's folds, into results.csv and predictions/ beside the probes."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

import torch

from features.errors import InputError, OptionError
from features.extraction.provenance import made_by
from features.keywords import quiet, taken_from
from features.machine.locks import locked
from features.machine.on_ray import make_on_ray
from features.machine.shares import Share, share_of
from features.machine.tally import Tally
from features.study import saving
from features.study.beginning import begun_once
from features.study.named_tasks import remember
from features.study.study import Study
from probe.finetuning import history
from probe.finetuning.commit import commit, notes, results_of
from probe.finetuning.devices import fold_pieces, train_beside, train_share
from probe.finetuning.expected_time import expected_time
from probe.finetuning.fold import train_folds
from probe.finetuning.job import FineTuneJob, is_saved, network_name
from probe.finetuning.options import FineTuneOptions
from probe.finetuning.plan import FineTunePlan, prepare
from probe.finetuning.progress import ImageCounter, images_of
from probe.finetuning.saved_network import path_of
from probe.results import predictions
from probe.results.ledger import Ledger
from probe.results.rows import Row


@dataclass
class Finetuned:
    """What a run has done."""

    study: Study
    trained: int = 0
    """Networks trained in this run, one per fold."""
    kept: int = 0
    """Results that were there already under the same protocol."""
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    """The rows of this run and those kept."""
    notes: list[str] = field(default_factory=list)

    def summary(self) -> list[Summary]:
        """One line per result, its folds together: accuracy is over all tested images."""
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.result, []).append(row)
        return [_summary(rows) for rows in groups.values()]


@dataclass(frozen=True)
class Summary:
    """One result, its folds together."""

    task: str
    backbone: str
    method: str
    cut: str
    views: str
    epochs: str
    """Chosen fold by fold: one number, or the smallest and largest."""
    accuracy: float | None
    mae: float | None
    """Of a number."""
    n: int


def _summary(rows: list[Row]) -> Summary:
    first = rows[0]
    n = sum(row.n_test for row in rows)
    epochs = sorted({row.epochs or 0 for row in rows})
    return Summary(
        task=first.task,
        backbone=first.backbone,
        method=first.method,
        cut=first.layer,
        views=first.views,
        epochs=str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}",
        accuracy=_mean([row.accuracy for row in rows], rows),
        mae=_mean([row.mae for row in rows], rows) if first.accuracy is None else None,
        n=n,
    )


def _mean(values: list[float | None], rows: list[Row]) -> float | None:
    """The mean over all images of the folds' values; None where they have none."""
    known = [
        value * row.n_test for value, row in zip(values, rows, strict=True) if value is not None
    ]
    return sum(known) / sum(row.n_test for row in rows) if known else None


@taken_from(FineTuneOptions)
def finetune(options: FineTuneOptions) -> Finetuned:
    """Train a backbone on every training set of the study's folds and score each test fold once.

    With early stopping, each fold first trains without one inner part (grouped as the folds are),
    which chooses the number of epochs; then a fresh copy is trained on all training rows for so many
    epochs. A test fold is used for nothing but its one score. Rows that are there under the same
    protocol are kept; a run that was killed goes on after its last finished epoch.

    Raises:
        InputError: An option, the data or the backbone cannot be used.
        Diverged: A loss became NaN or infinite; the last checkpoint is kept.
    """
    started = time.perf_counter()
    plan = prepare(options)
    if plan.is_new and options.share is not None:
        begun_once(plan.run.study, options.data)
    elif plan.is_new:
        saving.begin(plan.run.study)
    else:
        remember(plan.run.study, plan.opened)
    done = Finetuned(plan.run.study, notes=plan.notes)
    jobs = _jobs_to_train(plan, done)
    _check_places(plan, jobs)
    if options.share is not None:
        done.trained = _train_share(plan, jobs, share_of(options.share))
        done.seconds = time.perf_counter() - started
        return done
    if jobs:
        options.announce(expected_time(plan.run, jobs))
    if options.on is not None and len(plan.devices) > 1:
        raise OptionError(f"--on {options.on}: a task trains on one device; name one.")
    with ExitStack() as locks:
        for job in jobs:
            job.folder.mkdir(parents=True, exist_ok=True)
            locks.enter_context(locked(job.folder / ".lock", str(job.folder)))
            if options.redo:
                for file in job.folder.glob("fold-*"):
                    file.unlink()
        if jobs and options.on is not None:
            _train_on(plan, options.on)
        elif jobs and len(plan.devices) > 1:
            train_beside(options, plan.devices, {str(job.folder) for job in jobs})
        _train(plan, jobs, done)
    done.seconds = time.perf_counter() - started
    return done


def _jobs_to_train(plan: FineTunePlan, done: Finetuned) -> list[FineTuneJob]:
    """The results that are not there yet, or all with `redo`; rows that are kept go into `done`."""
    run = plan.run
    ledger = Ledger(run.study.folder)
    todo = []
    for job in plan.jobs:
        made = results_of(run, job)
        whole = all(ledger.holds(key, under, job.splits.folds) for key, under in made.items())
        if run.options.save:
            whole = whole and all(is_saved(run, job, fold) for fold in job.splits.folds)
        if whole and not run.options.redo:
            _clear(job)
            done.kept += 1
            done.rows += [row for key in made for row in ledger.rows_of(key)]
        else:
            todo.append(job)
    return todo


def _check_places(plan: FineTunePlan, jobs: list[FineTuneJob]) -> None:
    """Refuse files that results could not be put into, before hours are spent on them.

    Raises:
        InputError: training.csv does not read, or a folder stands where a fold, a network or scores would
            be kept.
    """
    run = plan.run
    history.read(run.study.folder / "training.csv")
    for job in jobs:
        predictions.check_places(run.study.folder / predictions.STORE, results_of(run, job))
        places = list(job.folder.glob("fold-*"))
        for fold in job.splits.folds if run.options.save else ():
            file = path_of(run.study.folder, network_name(run, job, fold))
            places += [file, file.with_suffix(".toml")]
        for place in places:
            if place.is_dir():
                raise InputError(f"{place}: a folder where a file belongs; remove it.")


def _train_share(plan: FineTunePlan, jobs: list[FineTuneJob], share: Share) -> int:
    """Train a share of the folds; nothing is locked and no row is written. Returns how many folds it is."""
    if len(plan.devices) > 1:
        raise OptionError(f"--share {share}: trains on one device; start a share for each.")
    for job in jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
    return train_share(plan, share, {str(job.folder) for job in jobs})


def _train_on(plan: FineTunePlan, on: str) -> None:
    """Train the folds as tasks of an engine; they are left where an interrupted run would leave them."""
    options = plan.run.options
    make_on_ray(
        on,
        fold_pieces,
        replace(quiet(options), study=plan.run.study.folder.absolute(), data=None, on=None),
        alike=made_by,
        threads=max(1, torch.get_num_threads()),
        device=plan.devices[0].type,
        tally=Tally(plan.run.study.folder, "finetune", options.announce),
    )


def _clear(job: FineTuneJob) -> None:
    """Remove what a process that was killed after its commit left of a result's checkpoints."""
    if job.folder.is_dir():
        with suppress(InputError), locked(job.folder / ".lock", str(job.folder)):
            shutil.rmtree(job.folder)


def _train(plan: FineTunePlan, jobs: list[FineTuneJob], done: Finetuned) -> None:
    """Train what is not finished yet, one result after the other, and commit each."""
    run = plan.run
    counter = ImageCounter(run, sum(images_of(run, job) for job in jobs))
    for job in jobs:
        folds = train_folds(run, job, counter)
        done.trained += len(folds)
        done.rows += commit(run, job, folds)
        done.notes += notes(run, job, folds)
        shutil.rmtree(job.folder, ignore_errors=True)  # a share may be writing there
    counter.end()
