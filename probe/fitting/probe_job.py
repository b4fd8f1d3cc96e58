"""One probe on one layer for one task: its features, in memory or in blocks, and its rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rich.filesize import decimal

from features.arrays import Floats, Ints
from features.data.tasks import Task
from features.errors import InputError
from features.images.views import VIEWS
from features.machine.device import cores, reusing_memory
from features.store.featurefile import DONE, FeatureFile, at_view
from features.study.study import Study
from probe.counts import count
from probe.fitting.crossval import Outcome, Search, search, together
from probe.fitting.crossval_numbers import cross_validate_numbers
from probe.fitting.few_shot import Draw, few_shot
from probe.fitting.job import ProbeJob
from probe.fitting.options import FitOptions
from probe.fitting.projection import projected
from probe.folds.make_splits import make_splits
from probe.folds.splits import Splits
from probe.probes.grid_fit import column_bytes, margin_bytes
from probe.probes.layer import COLUMNS, ROWS_BYTES, Source, in_blocks
from probe.probes.methods import METHODS
from probe.probes.scorer import Shared
from probe.probes.settings import ProbeSettings
from probe.results.metrics import kind_of, measure_task
from probe.results.protocol import mark
from probe.results.rows import Row

_LARGE = 32 << 20
"""Bytes of an array from which the system takes it back at once and clears it anew: with 1,000 classes
that took half of the processor's time."""


@dataclass
class _Layer:
    """The layer at work: its features and what its probes and tasks share."""

    backbone: str
    key: str
    project: int | None
    source: Source
    shared: Shared


@dataclass
class ProbeRun:
    """What all jobs of a fit share, and the layer that is in memory."""

    study: Study
    options: FitOptions
    memory: int
    """Bytes that may be used."""
    device: torch.device
    splits: dict[tuple[str, bytes, int], Splits] = field(default_factory=dict)
    now: _Layer | None = None

    def settings(self, method: str) -> ProbeSettings:
        """How a probe is fitted and its parameter chosen."""
        options, probe = self.options, METHODS[method]
        scale = options.scale if options.scale in probe.scales else probe.scales[0]
        if probe.own_solver is not None:
            return ProbeSettings(
                method, scale, probe.grid, False, probe.own_solver(self.device.type)
            )
        grid = probe.grid if options.c is None else tuple(sorted(options.c))
        return ProbeSettings(method, scale, grid, options.c is None, options.solver, options.tol)

    def layer(self, job: ProbeJob, file: FeatureFile) -> _Layer:
        """The layer of a job, kept until another one is asked for."""
        wanted = (job.backbone, job.key, job.project)
        now = self.now
        if now is not None and (now.backbone, now.key, now.project) == wanted:
            return now
        self.now = None  # let go of the last layer before reading the next
        if job.project is not None and file.about(job.key)["dim"] > job.project:
            narrow = projected(file, job.key, job.project, self.options.seed)
            source = Source.of(narrow, self.device)
        else:
            source = self.source(file, job.key)
        room = self.memory - _needs(_done(file), source.dim) - self._at_work(_done(file), job)
        shared = Shared(room if source.held else self.memory // 2)
        self.now = _Layer(*wanted, source, shared)
        return self.now

    def _at_work(self, n: int, job: ProbeJob) -> int:
        """About what the solver holds of `n` rows for the fit's task of most classes, on all cores."""
        names = {name for name, *_ in self.splits}
        others = [task for name, task in self.study.tasks.items() if name in names]
        classes = max(len(task.classes) for task in [job.task, *others])
        grids = [self.settings(p).grid for p in self.options.all_probes() if METHODS[p].is_path]
        points = max((len(grid) for grid in grids), default=0)
        at_once = cores() if self.device.type == "cpu" else 1
        return at_once * column_bytes(n, max(classes, 1), points)

    def source(self, file: FeatureFile, key: str) -> Source:
        """A layer in memory, or in blocks where `memory` does not hold it."""
        n, dim = len(file), file.about(key)["dim"]
        needs = _needs(_done(file), dim)
        if needs <= self.memory:
            return Source.of(_read(file, key), self.device)
        least = _least(_done(file), dim)
        more = f", which takes {decimal(least)} even so" if least > self.memory else ""
        self.options.announce(
            f"{file.backbone}/{key}: {decimal(needs)} would be needed to work on it in memory "
            f"and --memory is {decimal(self.memory)}, so it is read in blocks{more}"
        )
        return in_blocks(file.path, key, n, dim, self.memory, self.device)

    def splits_of(self, task: Task, file: FeatureFile, repeat: int = 0) -> Splits:
        """The folds of a task over the rows that a feature file has; InputError where there are none."""
        readable = file.status == DONE
        key = (task.name, readable.tobytes(), repeat)
        if key not in self.splits:
            seed = self.options.seed + repeat
            self.splits[key] = make_splits(self.study, task, readable, self.options.folds, seed)
        return self.splits[key]

    def first_splits(self, task: Task) -> Splits:
        """The splits that were made first for a task."""
        return next(s for (name, *_), s in self.splits.items() if name == task.name)


def memory_bytes(memory: float | None) -> int:
    """Bytes that may be used: the gigabytes asked for, or half of the machine's."""
    if memory is not None:
        return int(memory * 1e9)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _done(file: FeatureFile) -> int:
    return int((file.status == DONE).sum())


def _read(file: FeatureFile, key: str) -> Floats:
    """A layer, of which rows that are not done take no memory: they are no row of any set."""
    done = np.flatnonzero(file.status == DONE)
    if len(done) == len(file):
        return file.read(key)
    x = np.zeros((len(file), file.about(key)["dim"]), dtype=np.float32)
    x[done] = file.read(key, done)
    return x


def _needs(n: int, dim: int) -> int:
    """Bytes that a layer in memory takes, with one training set per core at work on it."""
    at_work = 16 * n * dim + 32 * dim * dim if dim < n else 60 * n * n + 12 * n * COLUMNS
    return 4 * n * dim + (20 * dim * dim if dim < n else 0) + cores() * at_work


def _least(n: int, dim: int) -> int:
    """Bytes that a layer in blocks takes: the products of five parts and of one set, or one set turned."""
    return (52 * dim * dim if dim < n else 60 * n * n) + 2 * ROWS_BYTES


def features_of(job: ProbeJob, file: FeatureFile, splits: Splits) -> str:
    """Digest of the features that the job reads, of the rows that take part."""
    used = np.flatnonzero(splits.part >= 0)
    keys = [job.key] if job.view == "center" else [job.key, at_view(job.key, job.view)]
    return " ".join(file.digest(key, used) for key in keys)


@dataclass(frozen=True)
class Asked:
    """A job, and what decides its result."""

    job: ProbeJob
    splits: Splits
    settings: ProbeSettings
    protocol: str
    features: str


def fit_together(
    run: ProbeRun, asked: Sequence[Asked], file: FeatureFile
) -> list[tuple[list[Row], Outcome]]:
    """The rows of results.csv of jobs on one layer and view, one per fold, and the scores behind them.

    Raises:
        InputError: Features that they read are NaN or infinite.
    """
    layer = run.layer(asked[0].job, file)
    outcomes: dict[int, Outcome] = {}
    searches: dict[int, Search] = {}
    first = asked[0].job
    other = None if first.view == "center" else run.source(file, at_view(first.key, first.view))
    for number, each in enumerate(asked):
        job, used = each.job, np.flatnonzero(each.splits.part >= 0)
        _check_finite(run, file, job.key, layer.source, used)
        if other is not None:
            _check_finite(run, file, at_view(job.key, job.view), other, used)
        made = _cross_validated(run, each, layer, other)
        if isinstance(made, Outcome):
            outcomes[number] = made
        else:
            searches[number] = made
    largest = max(margin_bytes(*_size(each)) for each in asked)
    with reusing_memory(largest) if largest > _LARGE else nullcontext():
        outcomes |= zip(searches, together(list(searches.values())), strict=True)
    return [_rows(run, each, file, layer, outcomes[number]) for number, each in enumerate(asked)]


def _size(asked: Asked) -> tuple[int, int, int]:
    """Rows, columns of weights and points of the grid of a job."""
    columns = 1 if asked.job.task.is_number else len(asked.job.task.classes)
    return int((asked.splits.part >= 0).sum()), columns, len(asked.settings.grid)


def _rows(
    run: ProbeRun, asked: Asked, file: FeatureFile, layer: _Layer, outcome: Outcome
) -> tuple[list[Row], Outcome]:
    """The rows of a job, one per fold, and its scores: of labels without those of too few images."""
    job, splits, settings = asked.job, asked.splits, asked.settings
    if job.task.has_labels:
        outcome.scores[:, list(splits.too_small)] = np.nan
    about = file.about(job.key)
    rows = []
    for fold in outcome.folds:
        tested = np.flatnonzero(splits.fold == fold.fold)
        rows.append(
            Row(
                backbone=job.backbone,
                domain=file.domain,
                layer=about["layer"],
                pool=about["pool"],
                depth=about["depth"],
                method=job.method,
                task=job.task.name,
                fold=fold.fold,
                **_measured(run, job, outcome.scores[tested], tested),
                n_test=fold.n_test,
                n_train=fold.n_train,
                dim=layer.source.dim,
                scale=fold.scale,
                solver=settings.solver,
                C=fold.value,
                at_edge=int(fold.at_edge),
                selection=None if np.isnan(fold.selection) else fold.selection,
                seed=run.options.seed,
                repeat=job.repeat,
                views=job.view,
                crops=VIEWS[job.view],
                shots=job.shots,
                draw=job.draw,
                fraction=job.fraction,
                project=job.project,
                converged=int(fold.converged),
                error=fold.error,
                protocol=mark(asked.protocol),
            )
        )
    return rows, outcome


def _cross_validated(
    run: ProbeRun, asked: Asked, layer: _Layer, other: Source | None
) -> Outcome | Search:
    """The scores of a job, or the search for them, which others may join.

    Args:
        run: What all jobs share.
        asked: The job.
        layer: Its layer.
        other: The features of the view that the test images are seen under.
    """
    study, task, job = run.study, asked.job.task, asked.job
    source, splits, settings = layer.source, asked.splits, asked.settings
    if task.is_number:
        return cross_validate_numbers(source, study.numbers(task.name), splits, settings, other)
    if task.has_labels:
        y = study.targets(task.name)
        return search(source, y, y.shape[1], splits, settings, layer.shared, other)
    y, classes = study.labels(task.name), len(task.classes)
    if job.draw is None:
        return search(source, y, classes, splits, settings, layer.shared, other)
    draw = Draw(job.shots, job.draw, run.options.seed, job.fraction)
    return few_shot(source, y, study.subjects, classes, splits, settings, draw)


def _measured(run: ProbeRun, job: ProbeJob, scores: Floats, tested: Ints) -> dict[str, Any]:
    """Every metric of the scores `(rows, K)` of the rows `tested`."""
    y = run.study.truth(job.task.name)[tested]
    return measure_task(job.task, scores, y, kind_of(job.method))


def _check_finite(run: ProbeRun, file: FeatureFile, key: str, source: Source, used: Ints) -> None:
    bad = used[source.broken(used)]
    if len(bad):
        raise InputError(
            f"{file.path}: layer {key} has NaN or infinite features in "
            f"{count(len(bad), 'row')}, first in row {bad[0]} ({run.study.paths[int(bad[0])]}); "
            "extract or import it again."
        )
