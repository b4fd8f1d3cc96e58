"""What a fit is going to do: the options checked against the study, folds, and a job for every result."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from rich.filesize import decimal

from features.cards.stages import stages
from features.data.tasks import Task
from features.errors import InputError, nearest
from features.machine.device import cores, for_probes, resolve
from features.store.featurefile import FeatureFile
from features.study.alike import unlike_rows
from features.study.named_tasks import named_tasks
from features.study.study import Study, open_study
from probe.analysis.detectable import detectable_sentence
from probe.checking.find_copies import checked
from probe.fitting.job import ProbeJob
from probe.fitting.options import FitOptions
from probe.fitting.probe_job import ProbeRun, memory_bytes
from probe.folds.given import has_split, own_folds
from probe.folds.left_out import left_out_sentences
from probe.folds.splits import Unfit
from probe.probes.grid_fit import column_bytes
from probe.probes.methods import FOR_LABELS, FOR_NUMBERS, METHODS

_MANY = 100
"""Classes, beyond which memory is stated before anything is fitted."""
_AT_WORK = 3
"""Copies of its scores that a training set holds while it is scored: one as float64."""


@dataclass(frozen=True)
class FitPlan:
    """What is going to be fitted, in this order."""

    run: ProbeRun
    tasks: list[Task]
    jobs: list[ProbeJob]
    opened: Study
    """The study as it is on disk."""


def prepare(options: FitOptions) -> FitPlan:
    """The plan of a fit; says what takes time and what the study can tell.

    Raises:
        InputError: There is nothing to fit, or an option cannot be used.
    """
    study = open_study(options.study)
    has_own = own_folds(study) is not None or (options.folds is None and has_split(study))
    if options.repeats > 1 and has_own:
        raise InputError(
            f"--repeats {options.repeats}: {study.source} comes with folds or a split of its own, which "
            "are the same every time; leave it out."
        )
    study = checked(study, options.announce)
    opened = study
    study, tasks = named_tasks(study, options.tasks)
    backbones = _backbones(study, options)
    if (unlike := unlike_rows(study, backbones)) is not None:
        raise InputError(f"{study.folder}: {unlike}")
    device = for_probes(resolve(options.device), options.announce)
    run = ProbeRun(study, options, memory_bytes(options.memory), device)
    if not options.tasks:
        for sentence in study.no_tasks.values():
            options.announce(sentence)
    plain = _jobs(run, backbones, tasks)
    jobs = [variant for job in plain for variant in variants_of(job, options)]
    if options.project is not None:  # after the others, so that a layer is read once for each
        jobs += [replace(job, project=options.project) for job in plain]
    fitted = {job.task.name for job in jobs}
    tasks = [task for task in tasks if task.name in fitted]
    if any(study.columns.get("split", ())):
        options.announce(
            "the column split is used: only its test images are tested"
            if options.folds is None and has_split(study)
            else "the column split is not used: every image is tested once, in folds"
        )
    for task in tasks:
        fitted_by = probes_of(task, options.all_probes())
        if not task.has_classes and list(fitted_by) != list(options.all_probes()):
            what = "a number" if task.is_number else "several labels an image"
            options.announce(f"{task.name}: {what}, fitted by {' and '.join(fitted_by)}")
        if not task.has_classes and (options.shots or options.fractions):
            options.announce(f"{task.name}: draws of few images are of classes only")
        for sentence in left_out_sentences(study, task, run.first_splits(task)):
            options.announce(sentence)
        if task.has_classes:
            options.announce(detectable_sentence(study, task, run.first_splits(task)))
        if len(task.classes) > _MANY:
            options.announce(_memory_sentence(run, task))
    return FitPlan(run, tasks, jobs, opened)


def _backbones(study: Study, options: FitOptions) -> list[str]:
    extracted = study.backbones()
    if not extracted:
        unfinished = list((study.folder / "features").glob("*.partial"))
        how = (
            "run `probe extract` again to finish it" if unfinished else "run `probe extract` first"
        )
        raise InputError(f"{study.folder}: no features are extracted yet; {how}.")
    for name in options.backbones:
        if name not in extracted:
            raise InputError(f"--backbone {name}: not extracted here; {nearest(name, extracted)}")
    return [name for name in extracted if not options.backbones or name in options.backbones]


def _jobs(run: ProbeRun, backbones: list[str], tasks: list[Task]) -> list[ProbeJob]:
    """A job for every layer, task and probe, all images training and the centre tested."""
    options = run.options
    jobs = []
    known: set[str] = set()
    unfit: dict[str, Unfit] = {}
    for backbone in backbones:
        with run.study.features(backbone) as file:
            layer_of = {key: file.about(key)["layer"] for key in file.keys}
            known |= set(layer_of.values())
            keys = [
                key
                for key, layer in layer_of.items()
                if not options.layers or layer in options.layers
            ]
            if options.quick:
                keys = _first_look(file, keys, all_layers=bool(options.layers))
            for key, view in product(keys, options.all_views()):
                if not file.has(key, view):
                    raise InputError(
                        f"--view {view}: layer {key} of {backbone} is not extracted under it; run "
                        f"`probe extract --backbone {backbone} --view {view}` first."
                    )
            # Before the first fit, so that bad folds stop a run; what only one task lacks stops none.
            fitted = [task for task in tasks if _has_splits(run, task, file, unfit)]
        jobs += [
            ProbeJob(t, backbone, key, p)
            for key in keys
            for t in fitted
            for p in probes_of(t, options.all_probes())
        ]
    for layer in options.layers:
        if layer not in known:
            raise InputError(
                f"--layer {layer}: not extracted here; {nearest(layer, sorted(known))}"
            )
    if not jobs and unfit:
        raise next(iter(unfit.values()))
    for reason in unfit.values():
        options.announce(f"not fitted: {reason}")
    return jobs


def _first_look(file: FeatureFile, keys: list[str], all_layers: bool) -> list[str]:
    """One array of each layer, the average where there is one; without `all_layers` of its stages alone."""
    about = {key: file.about(key) for key in keys}
    one = {about[key]["layer"]: key for key in keys}
    one |= {about[key]["layer"]: key for key in keys if about[key]["pool"] == "avg"}
    in_order = sorted(one.values(), key=lambda key: float(about[key]["depth"]))
    if all_layers:
        return in_order
    return [in_order[i] for i in stages([about[key]["shape"] for key in in_order])]


def probes_of(task: Task, probes: Sequence[str]) -> Sequence[str]:
    """Those of `probes` that a task can be fitted with; where there is none, ridge or logistic."""
    if task.has_classes:
        return probes
    able = FOR_NUMBERS if task.is_number else FOR_LABELS
    return [name for name in probes if name in able] or able[:1]


def _has_splits(
    run: ProbeRun, task: Task, file: FeatureFile, unfit: MutableMapping[str, Unfit]
) -> bool:
    """Whether a task has folds over the rows of a feature file; else `unfit` says why."""
    try:
        run.splits_of(task, file)
    except Unfit as reason:
        unfit.setdefault(task.name, reason)
        return False
    return True


def variants_of(job: ProbeJob, options: FitOptions) -> list[ProbeJob]:
    """The job in every repeat and view, and with every draw of few training images."""
    few: list[tuple[int | None, float | None]] = []
    if job.task.has_classes:
        few += [(shots, None) for shots in sorted(set(options.shots))]
        few += [(None, fraction) for fraction in sorted(set(options.fractions))]
    return [
        *(
            replace(job, repeat=repeat, view=view)
            for repeat in range(options.repeats)
            for view in options.all_views()
        ),
        *(
            replace(job, shots=shots, fraction=fraction, draw=draw)
            for shots, fraction in few
            for draw in range(options.draws)
        ),
    ]


def _memory_sentence(run: ProbeRun, task: Task) -> str:
    """What memory and disk a task of many classes takes, in a sentence."""
    splits, classes = run.first_splits(task), len(task.classes)
    n = max(len(splits.training_rows(splits.tested(fold))) for fold in splits.folds)
    sets = {left for fold in splits.folds for _, left in splits.inner(fold)}
    held = [len(splits.held_out_rows(left)) for left in sets] or [0]
    most = 0
    for probe in run.options.all_probes():
        points = len(run.settings(probe).grid)
        score = 4 * classes * points  # of one row, while the parameter is chosen
        solver = _AT_WORK * max(held) * score
        if METHODS[probe].is_path and not METHODS[probe].at_once:
            solver = column_bytes(n, classes, points)
        most = max(most, min(cores(), len(sets) or 1) * (max(held) * score + solver))
    stored = 4 * len(run.study) * classes
    return (
        f"{task.name}: {classes:,} classes take about {decimal(most)} of memory while they are fitted, "
        f"besides the features, and {decimal(stored)} on disk for the scores of every result"
    )
