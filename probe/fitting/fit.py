"""Probes on every extracted layer of a study, cross-validated, into results.csv and predictions/."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from features.data.tasks import Task
from features.extraction.provenance import made_by
from features.keywords import quiet, taken_from
from features.machine.on_ray import make_on_ray
from features.machine.pieces import Piece
from features.machine.shares import Share, share_of
from features.machine.spent import Spent, Stopwatch
from features.machine.tally import Tally
from features.store.featurefile import FeatureFile
from features.study.named_tasks import remember
from features.study.study import Study
from probe.analysis import floor
from probe.counts import count
from probe.fitting.best_rows import best_rows
from probe.fitting.crossval import Outcome
from probe.fitting.fit_seconds import FitSize, note_fit_seconds
from probe.fitting.forecast import foretell, size_of
from probe.fitting.job import ProbeJob
from probe.fitting.options import FitOptions
from probe.fitting.parts import FitPart, check_places, discard, part_of, read_part, write_part
from probe.fitting.plan import FitPlan, prepare
from probe.fitting.probe_job import Asked, ProbeRun, features_of, fit_together
from probe.probes.methods import METHODS
from probe.probes.settings import ProbeSettings
from probe.results import predictions
from probe.results.ledger import Ledger, open_ledger
from probe.results.predictions import Prediction
from probe.results.protocol import mark, protocol
from probe.results.rows import BEST, Row

_COMMIT_SECONDS = 20.0
_AT_ONCE = 2e10
"""The work (`FitSize.work`) of jobs that are fitted side by side: some twenty seconds."""


@dataclass
class Fitted:
    """What a run has done."""

    study: Study
    fitted: int = 0
    """Layers fitted in this run, counting each probe and task."""
    kept: int = 0
    """Those that were there already under the same protocol."""
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    """All rows of the study's results.csv."""
    notes: list[str] = field(default_factory=list)


@taken_from(FitOptions)
def fit(options: FitOptions) -> Fitted:
    """Fit probes on extracted layers and score every image once, in the fold that tests it.

    Rows that are there under the same protocol are kept. Repeats, draws and views of a result that
    other settings or another seed left go when it is made anew, whether they are asked for or not.
    Work is committed every twenty seconds, so that an interrupted run goes on where it was.

    Raises:
        InputError: There is nothing to fit, or an option cannot be used.
    """
    plan = prepare(options)
    check_places(plan.run.study.folder)
    started = time.perf_counter()
    done = Fitted(plan.run.study)
    if options.share is not None:
        _fit_share(plan, share_of(options.share), done)
        done.seconds = time.perf_counter() - started
        return done
    if options.on is not None:
        silent = replace(quiet(options), study=plan.run.study.folder.absolute(), on=None)
        fitting = max(1, torch.get_num_threads())
        make_on_ray(
            options.on,
            fit_pieces,
            silent,
            alike=made_by,
            threads=fitting,
            device=plan.run.device.type,
            tally=Tally(plan.run.study.folder, "fit", options.announce),
        )
    with open_ledger(plan.run.study.folder) as ledger:
        for sentence in foretell(plan, ledger, options.clock):
            options.announce(sentence)
        _check_compared(plan, ledger)
        remember(plan.run.study, plan.opened)
        _fit_jobs(plan, ledger, done)
    done.seconds = time.perf_counter() - started
    return done


def _check_compared(plan: FitPlan, ledger: Ledger) -> None:
    """Refuse, before anything is made, where a layer that *best* may choose has lost its scores.

    Those that this run fits itself are made again.
    """
    made = {job.stored for job in plan.jobs}
    best_of = {replace(job, key=BEST).stored for job in plan.jobs}
    stored = {row.stored for row in ledger.rows if replace(row, layer=BEST).stored in best_of}
    predictions.read_all(ledger.store, sorted(stored - made - best_of))


def _fit_share(plan: FitPlan, share: Share, done: Fitted) -> None:
    """Fit the layers of a share; nothing is locked, and each result goes into a file of its own."""
    run, ledger = plan.run, Ledger(plan.run.study.folder)
    mine = [job for jobs in share.taken(list(_by_layer(plan).values())) for job in jobs]
    number = 0
    for group in _side_by_side(run, mine):
        run.options.progress(number, len(mine), group[0])
        number += len(group)
        fitted = _fit_apart(run, ledger, group)
        done.fitted, done.kept = done.fitted + fitted, done.kept + len(group) - fitted
    run.options.progress(len(mine), len(mine), None)


def fit_pieces(options: FitOptions) -> list[Piece]:
    """The layers of a fit as pieces of work, whose results are files (see parts.py)."""
    plan = prepare(options)
    ledger = Ledger(plan.run.study.folder)

    def is_made(jobs: Sequence[ProbeJob]) -> bool:
        return all(not _part_to_make(plan.run, ledger, job) for job in jobs)

    def make(jobs: Sequence[ProbeJob]) -> None:
        for group in _side_by_side(plan.run, jobs):
            _fit_apart(plan.run, ledger, group)

    return [
        Piece(f"the probes on {backbone}/{key}", partial(is_made, jobs), partial(make, jobs))
        for (backbone, key), jobs in _by_layer(plan).items()
    ]


def _by_layer(plan: FitPlan) -> dict[tuple[str, str], list[ProbeJob]]:
    layers: dict[tuple[str, str], list[ProbeJob]] = {}
    for job in plan.jobs:
        layers.setdefault((job.backbone, job.key), []).append(job)
    return layers


def _part_to_make(run: ProbeRun, ledger: Ledger, job: ProbeJob) -> Path | None:
    """The file that the job's result is to go into; None where that, or the result, is there."""
    with run.study.features(job.backbone) as file:
        asked = _asked(run, job, file)
    part = part_of(run.study.folder, job.stored, asked.protocol, asked.features)
    return None if _is_there(ledger, asked) or part.is_file() else part


def _is_there(ledger: Ledger, asked: Asked) -> bool:
    folds = asked.splits.folds
    return ledger.holds(asked.job.stored, asked.protocol, folds, asked.features)


def _fit_apart(run: ProbeRun, ledger: Ledger, group: Sequence[ProbeJob]) -> int:
    """Fit jobs into files of their own; how many were to be done.

    Of a group of which a kill left some those are made again, and kept as they are.
    """
    with run.study.features(group[0].backbone) as file:
        asked = [_asked(run, job, file) for job in group]
        todo = [each for each in asked if not _is_there(ledger, each)]
        folder = run.study.folder
        paths = [part_of(folder, a.job.stored, a.protocol, a.features) for a in todo]
        missing = [not path.is_file() for path in paths]
        if any(missing):
            for part, path, is_missing in zip(_made(run, todo, file), paths, missing, strict=True):
                if is_missing:
                    write_part(path, part)
    return sum(missing)


def _asked(run: ProbeRun, job: ProbeJob, file: FeatureFile) -> Asked:
    splits = run.splits_of(job.task, file, job.repeat)
    settings = run.settings(job.method)
    under = protocol(run.study, job.task, splits, settings, run.options.seed)
    return Asked(job, splits, settings, under, features_of(job, file, splits))


def _made(run: ProbeRun, asked: Sequence[Asked], file: FeatureFile) -> list[FitPart]:
    parts = []
    for each, (rows, outcome) in zip(asked, fit_together(run, asked, file), strict=True):
        prediction = Prediction(
            outcome.scores, each.splits.fold, each.protocol, each.features, outcome.inner
        )
        parts.append(FitPart(prediction, rows, _notes(each.job, outcome)))
    return parts


def _fit_jobs(plan: FitPlan, ledger: Ledger, done: Fitted) -> None:
    run, jobs = plan.run, plan.jobs
    progress = run.options.progress
    best_of = {job.stored: replace(job, key=BEST).stored for job in jobs}
    ledger.expect({*best_of, *best_of.values()})
    floors = [floor.stored(task) for task in plan.tasks]
    predictions.check_places(ledger.store, [*best_of, *best_of.values(), *floors])
    chosen_from: dict[predictions.Key, tuple[ProbeJob, str]] = {}
    spent: dict[FitSize, list[Spent]] = {}
    there: set[Path] = set()
    number = 0
    try:
        for group in _side_by_side(run, jobs):
            progress(number, len(jobs), group[0])
            number += len(group)
            with run.study.features(group[0].backbone) as file:
                todo: list[tuple[Asked, Path]] = []
                for job in group:
                    asked = _asked(run, job, file)
                    under = asked.protocol
                    chosen_from[best_of[job.stored]] = (job, under)
                    of_share = part_of(run.study.folder, job.stored, under, asked.features)
                    if _is_there(ledger, asked) and not run.options.redo:
                        ledger.claim(job.stored, under)
                        there.add(of_share)
                        done.kept += 1
                    else:
                        todo.append((asked, of_share))
                parts = [None if run.options.redo else read_part(path) for _, path in todo]
                if not all(parts):
                    watch = Stopwatch()
                    made = _made(run, [asked for asked, _ in todo], file)
                    took = watch.spent()
                    parts = [old or new for old, new in zip(parts, made, strict=True)]
                    sizes = [
                        size_of(a.job, a.splits, file.about(a.job.key)["dim"]) for a, _ in todo
                    ]
                    for size in sizes:
                        share = size.work / sum(each.work for each in sizes)
                        spent.setdefault(size, []).append(took.times(share))
            for (asked, of_share), part in zip(todo, parts, strict=True):
                assert part is not None
                ledger.put(asked.job.stored, part.prediction, part.rows)
                there.add(of_share)
                done.fitted += 1
                done.notes += part.notes
            ledger.commit(after=_COMMIT_SECONDS)
        progress(len(jobs), len(jobs), None)
    finally:
        ledger.commit()
        if others := discard(run.study.folder, there):
            done.notes.append(
                f"{count(others, 'result')} that shares made under other settings or of other features "
                "are removed: the study has those of this command"
            )
        note_fit_seconds({size: _mean(each) for size, each in spent.items()})
    for key, (job, own) in chosen_from.items():
        under = ledger.of_most_layers(job.stored, own)
        ledger.claim(key, under)
        best = best_rows(ledger.rows, ledger.store, job.stored, mark(under))
        if best is not None:
            ledger.put(key, *best)
    for task in plan.tasks:
        ledger.put(floor.stored(task), *_floor(run, task))
    ledger.commit()
    done.rows = ledger.rows


def _side_by_side(run: ProbeRun, jobs: Sequence[ProbeJob]) -> Iterator[list[ProbeJob]]:
    """The jobs, those on one layer that share training sets together, as far as that takes seconds.

    Which are together hangs on what is asked for; those that are there already are left out then, with
    which the last digits of the others may differ.
    """

    def layer(job: ProbeJob) -> tuple[object, ...]:
        return job.backbone, job.key, job.project, job.view, job.repeat

    def joins(job: ProbeJob) -> bool:
        is_searched = METHODS[job.method].joins and run.options.solver == "grid"
        return is_searched and job.draw is None and not job.task.is_number

    layers: dict[tuple[object, ...], list[ProbeJob]] = {}  # repeats and views stand in turn
    for job in jobs:
        layers.setdefault(layer(job), []).append(job)
    for of_layer in layers.values():
        group: list[ProbeJob] = []
        total = 0.0
        for job in filter(joins, of_layer):
            work = _work(run, job)
            if group and total + work > _AT_ONCE:
                yield group
                group, total = [], 0.0
            group.append(job)
            total += work
        if group:
            yield group
        yield from ([job] for job in of_layer if not joins(job))


def _work(run: ProbeRun, job: ProbeJob) -> float:
    with run.study.features(job.backbone) as file:
        splits = run.splits_of(job.task, file, job.repeat)
        return size_of(job, splits, file.about(job.key)["dim"]).work


def _floor(run: ProbeRun, task: Task) -> tuple[Prediction, list[Row]]:
    """The rows of the majority class, the median or the prevalences, in the folds of the first backbone."""
    splits = run.first_splits(task)
    settings = ProbeSettings(floor.METHODS[task.kind], "none", (), False, "")
    seed = run.options.seed
    under = protocol(run.study, task, splits, settings, seed)
    left_out = splits.too_small if task.has_labels else ()
    scores, rows = floor.floor_rows(
        run.study, task, splits.fold, splits.part >= 0, mark(under), seed, left_out
    )
    return Prediction(scores, splits.fold, under), rows


def _mean(each: list[Spent]) -> Spent:
    """What one fit took of several that are of one size."""
    return sum(each[1:], each[0]).times(1 / len(each))


def _notes(job: ProbeJob, outcome: Outcome) -> list[str]:
    name = f"{job.task.name}: {'/'.join(job.stored[1:])}"
    failed = sum(not fold.converged for fold in outcome.folds)
    return [f"{name}: {count(failed, 'fold')} did not converge"] if failed else []
