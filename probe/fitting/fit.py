"""Probes on every extracted layer of a study, cross-validated, into results.csv and predictions.h5."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np

from features.data.tasks import Task, choose
from features.errors import InputError, nearest
from features.images.views import check_views
from features.machine.device import resolve
from features.study.alike import unlike_rows
from features.study.study import Study, open_study
from probe.analysis import majority
from probe.analysis.statistics import detectable, retraining
from probe.checking.find_copies import checked
from probe.fitting.best_rows import best_rows
from probe.fitting.crossval import Outcome
from probe.fitting.probe_job import Job, Run, features_of, fit_one, memory_bytes
from probe.fitting.scorers import Settings
from probe.folds import has_split, own_folds
from probe.probes.linear import METHODS, SOLVERS, TOL
from probe.probes.scaling import SCALES
from probe.results import predictions
from probe.results.ledger import Ledger, open_ledger
from probe.results.predictions import Prediction
from probe.results.protocol import mark, protocol
from probe.results.rows import BEST, Row

DEFAULT_PROBES = ("logistic", "svm")
_COMMIT_SECONDS = 20.0


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


def fit(
    study: Path | str,
    *,
    backbones: Sequence[str] = (),
    layers: Sequence[str] = (),
    tasks: Sequence[str] = (),
    probes: Sequence[str] = DEFAULT_PROBES,
    folds: int | None = None,
    c: Sequence[float] | None = None,
    scale: str = "standard",
    solver: str = "grid",
    tol: float = TOL,
    memory: float | None = None,
    device: str = "cpu",
    seed: int = 0,
    views: Sequence[str] = (),
    shots: Sequence[int] = (),
    draws: int = 5,
    repeats: int = 1,
    redo: bool = False,
    announce: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int, Job | None], None] = lambda _done, _all, _job: None,
) -> Fitted:
    """Fit probes on extracted layers and score every image once, in the fold that tests it.

    Rows that are there under the same protocol are kept. Repeats, draws and views of a result that
    other settings or another seed left go when it is made anew, whether they are asked for or not.
    Work is committed every twenty seconds, so that an interrupted run goes on where it was.

    Args:
        study: The study's folder.
        backbones: Names; all that are extracted by default.
        layers: Names; all by default.
        tasks: Names, or `NAME:ordered`; all by default.
        probes: Of `logistic`, `svm`, `ridge` and `knn`.
        folds: How many to make where the data set has none of its own; five by default.
        c: Values of C as scikit-learn means it; by default thirteen over a range that suits the
            layer.
        scale: `standard`, `l2` or `none`, or `auto`: standard or l2, chosen like C inside the training
            folds; knn uses lengths of one (cosine), but with `none` Euclidean distances.
        solver: `grid`, this project's own, or `sklearn`, for logistic, svm and ridge.
        tol: Relative error of the objective at which `grid` stops.
        memory: Gigabytes for features and what is made of them; a layer that needs more is read in
            blocks. Half of the machine's by default.
        device: Where `grid` computes: `auto`, `cpu`, `cuda` or `cuda:I`.
        seed: Of the folds that are made, and of draws.
        views: Score the test images also under `flip` or `10crop`, extracted before: the probe reads
            the mean of a layer over the crops, which gives a linear one the mean of their scores. It
            is fitted on the centre all the same.
        shots: Fit also on so many training images of every class.
        draws: How often they are drawn.
        repeats: How many times to cross-validate, each on folds of its own: those of `seed`, of `seed` + 1
            and so on. What is compared and drawn is the first; `repeats_table` has the mean of all.
        redo: Fit again what is there.
        announce: Is told of what takes time before the first fit.
        progress: Is called with layers done, layers in all, and the one that is next.

    Raises:
        InputError: There is nothing to fit, or something given cannot be used.
    """
    opened = open_study(study)
    for probe in probes:
        if probe not in METHODS:
            raise InputError(f"--probe {probe}: not a probe; {nearest(probe, METHODS)}")
    if scale not in (*SCALES, "auto"):
        raise InputError(f"--scale {scale}: not a scaling; {nearest(scale, [*SCALES, 'auto'])}")
    if not 0 < tol < 1:
        raise InputError(f"--tol {tol}: give a number between 0 and 1, such as {TOL:g}.")
    if memory is not None and not 0 < memory < np.inf:
        raise InputError(f"--memory {memory}: give gigabytes, such as 2.")
    if tol != TOL and solver != "grid":
        raise InputError("--tol: this is of --solver grid; leave it out for sklearn.")
    if solver not in SOLVERS:
        raise InputError(f"--solver {solver}: not a solver; {nearest(solver, SOLVERS)}")
    if c is not None and not (c and all(0 < value < np.inf for value in c)):
        raise InputError("--C: give positive numbers, such as 0.01,0.1,1.")
    if any(one < 1 for one in shots):
        raise InputError("--shots: give numbers of images per class from 1 up, such as 1,5,10.")
    if draws < 1:
        raise InputError(f"--draws {draws}: give 1 or more.")
    if repeats < 1:
        raise InputError(f"--repeats {repeats}: give 1 or more.")
    if repeats > 1 and (own_folds(opened) is not None or (folds is None and has_split(opened))):
        raise InputError(
            f"--repeats {repeats}: {opened.source} comes with folds or a split of its own, which are the "
            "same every time; leave it out."
        )
    seen = dict.fromkeys(("center", *check_views(tuple(views))))
    opened = checked(opened, announce)
    chosen_tasks = [choose(opened.tasks, opened.columns, t) for t in tasks or opened.tasks]
    chosen_backbones = _backbones(opened, backbones)
    if (unlike := unlike_rows(opened, chosen_backbones)) is not None:
        raise InputError(f"{opened.folder}: {unlike}")
    started = time.perf_counter()
    with open_ledger(opened.folder) as ledger:
        run = Run(
            opened,
            scale,
            None if c is None else tuple(sorted(c)),
            solver,
            tol,
            memory_bytes(memory),
            resolve(device),
            announce,
            folds,
            seed,
        )
        small = list(product(sorted(set(shots)), range(draws)))
        jobs = [
            one
            for job in _jobs(run, chosen_backbones, layers, chosen_tasks, probes, list(seen))
            for one in (
                *(replace(job, repeat=r, view=view) for r in range(repeats) for view in seen),
                *(replace(job, shots=few, draw=draw) for few, draw in small),
            )
        ]
        if any(opened.columns.get("split", ())):
            announce(
                "the column split is kept to: its test images alone are tested"
                if folds is None and has_split(opened)
                else "the column split is not used: every image is tested once, in folds"
            )
        for task in chosen_tasks:
            announce(_scope(run, task))
        done = Fitted(opened)
        _fit_all(run, jobs, redo, progress, ledger, done)
    done.seconds = time.perf_counter() - started
    return done


def _backbones(study: Study, asked: Sequence[str]) -> list[str]:
    there = study.backbones()
    if not there:
        unfinished = list((study.folder / "features").glob("*.partial"))
        how = (
            "run `probe extract` again to finish it" if unfinished else "run `probe extract` first"
        )
        raise InputError(f"{study.folder}: no features are extracted yet; {how}.")
    for name in asked:
        if name not in there:
            raise InputError(f"--backbone {name}: not extracted here; {nearest(name, there)}")
    return [name for name in there if not asked or name in asked]


def _jobs(
    run: Run,
    backbones: list[str],
    layers: Sequence[str],
    tasks: list[Task],
    probes: Sequence[str],
    views: Sequence[str],
) -> list[Job]:
    jobs = []
    known = set()
    for backbone in backbones:
        with run.study.features(backbone) as file:
            names = {key: file.about(key)["layer"] for key in file.keys}
            known |= set(names.values())
            lacking = [
                (key, view)
                for key, layer in names.items()
                for view in views
                if (not layers or layer in layers) and not file.has(key, view)
            ]
            for task in tasks:
                run.splits_of(task, file)  # so that bad folds stop a run before its first fit
        if lacking:
            key, view = lacking[0]
            raise InputError(
                f"--view {view}: layer {key} of {backbone} is not extracted under it; run "
                f"`probe extract --backbone {backbone} --view {view}` first."
            )
        for key, layer in names.items():
            if not layers or layer in layers:
                jobs += [Job(t, backbone, key, p) for t in tasks for p in probes]
    for layer in layers:
        if layer not in known:
            raise InputError(
                f"--layer {layer}: not extracted here; {nearest(layer, sorted(known))}"
            )
    return jobs


def _fit_all(
    run: Run,
    jobs: list[Job],
    redo: bool,
    progress: Callable[[int, int, Job | None], None],
    ledger: Ledger,
    done: Fitted,
) -> None:
    best_of = {job.stored: replace(job, key=BEST).stored for job in jobs}
    ledger.expect({*best_of, *best_of.values()})
    chosen_from: dict[predictions.Key, tuple[Job, str]] = {}
    try:
        for number, job in enumerate(jobs):
            progress(number, len(jobs), job)
            with run.study.features(job.backbone) as file:
                splits = run.splits_of(job.task, file, job.repeat)
                settings = run.settings(job.method)
                under = protocol(run.study, job.task, splits, settings, run.seed)
                chosen_from[best_of[job.stored]] = (job, under)
                features = features_of(job, file, splits)
                if not redo and ledger.holds(job.stored, under, splits.folds, features):
                    ledger.claim(job.stored, under)
                    done.kept += 1
                    continue
                rows, outcome = fit_one(run, job, file, splits, settings, mark(under))
            fold = splits.fold.astype(np.int16)
            ledger.put(job.stored, Prediction(outcome.scores, fold, under, features), rows)
            done.fitted += 1
            done.notes += _notes(job, outcome)
            ledger.commit(after=_COMMIT_SECONDS)
        progress(len(jobs), len(jobs), None)
    finally:
        ledger.commit()
    for key, (job, under) in chosen_from.items():
        ledger.claim(key, under)
        best = best_rows(ledger.rows, ledger.store, job.stored, mark(under))
        if best is not None:
            ledger.put(key, *best)
    for task in dict.fromkeys(job.task for job in jobs):
        ledger.put(majority.stored(task.name), *_majority(run, task))
    ledger.commit()
    done.rows = ledger.rows


def _majority(run: Run, task: Task) -> tuple[Prediction, list[Row]]:
    """The rows of the majority class, in the folds of the first backbone."""
    splits = run.first_splits(task)
    settings = Settings(majority.METHOD, "none", (), False, "")
    said = protocol(run.study, task, splits, settings, run.seed)
    scores, rows = majority.majority_rows(
        run.study, task.name, splits.fold, splits.part >= 0, task.ordered, mark(said), run.seed
    )
    return Prediction(scores, splits.fold.astype(np.int16), said), rows


def _scope(run: Run, task: Task) -> str:
    """What a study of this size can tell, said before anything is fitted."""
    splits = run.first_splits(task)
    subjects = run.study.subjects[splits.fold >= 0]
    trained = [len(splits.training_rows(splits.tested(fold))) for fold in splits.folds]
    apart = detectable(subjects, retraining(len(subjects), float(np.mean(trained))))
    return (
        f"{task.name}: {len(subjects)} images of {len(np.unique(subjects))} subjects are enough to find "
        f"differences of about {100 * apart:.1f} points between two methods four times in five, and "
        "smaller ones less often"
    )


def _notes(job: Job, outcome: Outcome) -> list[str]:
    name = f"{job.task.name}: {'/'.join(job.stored[1:])}"
    failed = sum(not fold.converged for fold in outcome.folds)
    return [f"{name}: {failed} folds did not converge"] if failed else []
