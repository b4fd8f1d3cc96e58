"""Whole networks trained on a study's folds, into results.csv and predictions.h5 beside the probes."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features import device as devices
from features import study as studies
from features.backbone import load
from features.card import nearest
from features.errors import InputError
from features.featurefile import DONE, PENDING
from features.files import file_name, locked
from features.study import Study, open_or_draft
from features.tasks import Task, choose
from probe import history, predictions, results
from probe.augment import VIEWS, check_views
from probe.board import Board
from probe.copies import checked
from probe.cut import EMPTY, prefix_of
from probe.feed import ImageFeed
from probe.folds import Splits, make_splits
from probe.job import Goal, check_norms
from probe.metrics import kind_of, measure
from probe.onefold import (
    Asked,
    Counter,
    Fold,
    Run,
    chooses,
    identity,
    images_of,
    method_of,
    train_folds,
)
from probe.protocol import mark, protocol
from probe.recipes import DEFAULT, Recipe
from probe.recipes import recipe as recipe_of
from probe.results import Row
from probe.variants import Variant, variants

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
SEARCH = (1 / 3, 1.0, 3.0)
"""What the rate is multiplied with to be chosen from."""
BASES = ("finetune", "scratch")


@dataclass
class Finetuned:
    """What a run has done."""

    study: Study
    trained: int = 0
    """Networks in this run, one per fold."""
    kept: int = 0
    """Results that were there already under the same protocol."""
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    """Those of this run and those kept."""
    notes: list[str] = field(default_factory=list)

    def summary(self) -> list[Summary]:
        """The rows, folds put together: accuracy is over all tested images."""
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
    accuracy: float
    n: int


def _summary(rows: list[Row]) -> Summary:
    first = rows[0]
    n = sum(row.n_test for row in rows)
    epochs = sorted({row.epochs or 0 for row in rows})
    return Summary(
        first.task,
        first.backbone,
        first.method,
        first.layer,
        first.views,
        str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}",
        sum(row.accuracy * row.n_test for row in rows) / n,
        n,
    )


@dataclass(frozen=True)
class Settings:
    """What decides the numbers of a fine-tune besides network, folds and seed."""

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


def finetune(
    study: Path | str,
    backbone: str,
    *,
    data: str | None = None,
    weights: str | None = None,
    tasks: Sequence[str] = (),
    from_scratch: bool = False,
    freeze_through: Sequence[str] = (),
    copy_through: Sequence[str] = (),
    keep_above: bool = False,
    recipe: Recipe | str = DEFAULT,
    views: Sequence[str] = ("center", "10crop"),
    folds: int | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: int | None = None,
    accumulate: int = 1,
    precision: str = "auto",
    base: str = "",
    probe_first: bool = False,
    search: bool = False,
    save: bool = False,
    redo: bool = False,
    tensorboard: Path | None = None,
    announce: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int, str], None] = lambda _done, _all, _now: None,
) -> Finetuned:
    """Train a backbone on every training set of the study's folds and score each test fold once.

    With early stopping, each fold first trains without one inner part (grouped as the folds are),
    which chooses the number of epochs; then a fresh copy is trained on all training rows for so many
    epochs. A test fold is seen by nothing but its one score. Rows that are there under the same
    protocol are kept; a run that was killed goes on at its last epoch.

    Args:
        study: The study's folder; made if `data` (or the built-in sample) begins one.
        backbone: A card's name, a card file, `torchvision:NAME` or `timm:NAME`.
        data: What `--data` takes; needed once.
        weights: A file, `random`, or None for the card's own; not looked at from scratch.
        tasks: One task, or several that share a network, each with a head; by default every task of
            the study by itself.
        from_scratch: Train from random weights.
        freeze_through: Layers; one run each, frozen through the layer. `all`: every layer.
        copy_through: The same, copied through the layer and tuned.
        keep_above: Copy the layers above such a cut too, instead of drawing them anew.
        recipe: One of probe/recipes.py, or its name.
        views: What of a test image is scored: `center`, `flip`, `10crop`; a row each.
        folds: How many to make where the data set has none of its own; five by default.
        seed: Of folds, new weights, batches, crops and dropout.
        device: `auto`, `cpu`, `cuda` or `cuda:I`.
        workers: Threads that decode.
        accumulate: Parts that a batch is computed in.
        precision: `float32`, `amp` (GPU only), or `auto`: amp on a GPU.
        base: `finetune` or `scratch`, or as its rows name it (`scratch+gilnet`): begin with that
            network, trained here on the same fold and kept with `save`, in the place of the
            backbone's weights: Yosinski's BnB.
        probe_first: The head starts as the logistic probe (LP-FT).
        search: Choose the rate too, among a third, once and three times the recipe's.
        save: Keep every trained network as a backbone of its own, in STUDY/networks.
        redo: Train again what is there.
        tensorboard: A folder for TensorBoard's files, which are of no use to the study itself.
        announce: Is told of downloads and the like.
        progress: Is called with images trained on, images in all, and where training is.

    Raises:
        InputError: Something given cannot be used.
        Diverged: A loss became NaN; the last checkpoint is kept.
    """
    started = time.perf_counter()
    chosen = recipe_of(recipe) if isinstance(recipe, str) else recipe
    seen = check_views(tuple(views))
    on = devices.resolve(device)
    if accumulate < 1:
        raise InputError(f"--accumulate {accumulate}: a batch is computed in one part or more.")
    if base and base.partition("+")[0] not in BASES:
        raise InputError(f"--from {base}: not what could be trained here; {nearest(base, BASES)}")
    if base and from_scratch:
        raise InputError("--from: says where copied layers come from; leave --from-scratch out.")
    if precision not in ("auto", "float32", "amp"):
        raise InputError(f"--precision {precision}: use auto, float32 or amp.")
    if precision == "amp" and on.type != "cuda":
        raise InputError("--precision amp: mixed precision is for a GPU; use float32 here.")
    if precision == "auto":
        precision = "amp" if on.type == "cuda" else "float32"
    opened, manifest = open_or_draft(Path(study), data)
    opened = checked(opened, announce)
    only_scratch = from_scratch and not freeze_through and not copy_through
    loaded = load(backbone, "random" if only_scratch else weights, seed, announce)
    if not loaded.architecture.parameters:
        raise InputError(f"{loaded.name}: has no weights that could be trained.")
    asked = variants(
        loaded,
        from_scratch=from_scratch,
        freeze_through=freeze_through,
        copy_through=copy_through,
        keep_above=keep_above,
    )
    known = [choose(opened.tasks, opened.columns, name) for name in tasks or opened.tasks]
    groups = [tuple(known)] if tasks else [(task,) for task in known]
    feed = ImageFeed(opened, loaded.architecture.input, chosen, on, workers)
    readable = _readable(opened, feed)
    run = Run(
        opened,
        loaded,
        loaded.name,
        loaded.domain,
        chosen,
        seen,
        seed,
        feed,
        readable,
        accumulate,
        precision,
        base,
        probe_first,
        tuple(chosen.rate * times for times in SEARCH) if search else (chosen.rate,),
        save,
        (lambda _run, _epoch: None) if tensorboard is None else Board(tensorboard).note,
        progress,
    )
    for one in asked:
        frozen = one.layer if one.method == "frozen" else None
        prefix = prefix_of(loaded.architecture, frozen) if frozen else EMPTY
        check_norms(loaded.model, prefix, chosen, accumulate, int(readable.sum()))
    jobs = [_asked(run, one, group, folds) for group in groups for one in asked]
    if manifest is not None:
        studies.save(opened)
    done = Finetuned(opened)
    done.notes += _unreadable(opened, readable)
    _train_all(run, jobs, redo, done)
    done.seconds = time.perf_counter() - started
    return done


def _readable(study: Study, feed: ImageFeed) -> npt.NDArray[np.bool_]:
    """Rows that decode, `(n,)`: as an extraction found them, else tried now."""
    if feed.pictures.kept is None:
        for name in study.backbones():
            with study.features(name) as file:
                status = file.status
            if (status != PENDING).all():
                return np.asarray(status == DONE)
    found = feed.pictures.readable(np.arange(len(study)))
    if not found.any():
        raise InputError(
            f"{study.source}: none of its {len(study)} images can be read; check the paths."
        )
    return found


def _unreadable(study: Study, readable: npt.NDArray[np.bool_]) -> list[str]:
    bad = np.flatnonzero(~readable)
    if not len(bad):
        return []
    return [f"{len(bad)} images cannot be read (first: {study.paths[int(bad[0])]}); left out"]


def _asked(run: Run, variant: Variant, tasks: tuple[Task, ...], folds: int | None) -> Asked:
    each = [make_splits(run.study, task, run.readable, folds, run.seed) for task in tasks]
    splits = _together(tasks, each)
    labels = np.stack([run.study.labels(task.name) for task in tasks], axis=1)
    goal = Goal(labels, tuple(len(task.classes) for task in tasks))
    names = tuple(task.name for task in tasks)
    digest = hashlib.sha256(run.readable.tobytes()).hexdigest()
    settings = Settings(
        run.recipe,
        names,
        variant.keep_above,
        run.accumulate,
        run.precision,
        run.base,
        run.probe_first,
        run.rates,
        digest,
    )
    said = {
        task.name: protocol(run.study, task, own, settings, run.seed)
        for task, own in zip(tasks, each, strict=True)
    }
    file = run.backbone.weights
    whole = json.dumps(
        [said, run.name, str(variant), file.sha256 if file and variant.method != "scratch" else ""]
    )
    folder = (
        run.study.folder
        / "training"
        / file_name(run.backbone.name)
        / f"{file_name('+'.join(names))}-{variant.method}-{file_name(variant.cut or 'whole')}-"
        f"{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    )
    return Asked(variant, tasks, splits, goal, said, folder)


def _together(tasks: tuple[Task, ...], each: list[Splits]) -> Splits:
    """The splits of tasks that share a network: an image is in the same part for all of them."""
    part = each[0].part.copy()
    for task, other in zip(tasks[1:], each[1:], strict=True):
        both = (part >= 0) & (other.part >= 0)
        if (part[both] != other.part[both]).any() or len(other.folds) != len(each[0].folds):
            raise InputError(
                f"tasks {tasks[0].name} and {task.name}: their folds differ, so that one network "
                "would be tested on what it was trained on; fine-tune them one by one, or give the "
                "data a column fold."
            )
        part = np.where(part < 0, other.part, part)
    return Splits(part, each[0].fold_of_part, each[0].choosing)


def _train_all(run: Run, jobs: list[Asked], redo: bool, done: Finetuned) -> None:
    table = run.study.folder / "results.csv"
    there = {row.key: row for row in results.read(table)}
    todo = []
    for job in jobs:
        kept = [there.get(row) for row in _keys(run, job)]
        marks = {mark(said) for said in job.said.values()}
        if not redo and all(row is not None and row.protocol in marks for row in kept):
            done.kept += 1
            done.rows += [row for row in kept if row is not None]
        else:
            todo.append(job)
    counter = Counter(run, sum(images_of(run, job) for job in todo))
    for job in todo:
        job.folder.mkdir(parents=True, exist_ok=True)
        with locked(job.folder / ".lock", str(job.folder)):
            if redo:
                for file in job.folder.glob("fold-*"):
                    file.unlink()
            found = train_folds(run, job, counter)
            done.trained += len(found)
            done.rows += _commit(run, job, found)
            done.notes += _notes(run, job, found)
        shutil.rmtree(job.folder)
    counter.end()


def _keys(run: Run, job: Asked) -> list[tuple[str, ...]]:
    """The keys of the rows that a job makes."""
    name, domain = identity(run, job.variant)
    blank = {"accuracy": 0.0, "balanced_accuracy": 0.0, "macro_f1": 0.0, "n_test": 0, "n_train": 0}
    return [
        Row(
            backbone=name,
            domain=domain,
            layer=job.variant.cut,
            method=method_of(run, job),
            task=task.name,
            fold=fold,
            views=view,
            crops=VIEWS[view],
            protocol="",
            **blank,  # type: ignore[arg-type]
        ).key
        for task in job.tasks
        for fold in job.splits.folds
        for view in run.views
    ]


def _commit(run: Run, job: Asked, found: list[Fold]) -> list[Row]:
    """Put a finished result into results.csv, predictions.h5 and training.csv."""
    name, _ = identity(run, job.variant)
    rows: list[Row] = []
    made: dict[predictions.Key, predictions.Prediction] = {}
    for task, where in zip(job.tasks, job.goal.parts(), strict=True):
        y = run.study.labels(task.name)
        for view in run.views:
            scores = np.full((len(y), len(task.classes)), np.nan, dtype=np.float32)
            fold_of = np.full(len(y), -1, dtype=np.int8)
            for one in found:
                tested = job.splits.held_out_rows(job.splits.tested(one.fold))
                own = y[tested] >= 0
                scores[tested[own]] = one.scores[view][own, where]
                fold_of[tested[own]] = one.fold
                rows.append(_row(run, job, task, one, view, scores[tested[own]], y[tested[own]]))
            made[rows[-1].stored] = predictions.Prediction(scores, fold_of, job.said[task.name])
    folder = run.study.folder
    with locked(folder / ".results.lock", str(folder / "results.csv")):
        predictions.add(folder / "predictions.h5", made)
        table = folder / "results.csv"
        results.write(table, results.replace(results.read(table), rows))
        history.add(
            folder / "training.csv",
            [
                history.Line(
                    name, job.variant.cut, method_of(run, job), task.name, f.fold, stage, rate, e
                )
                for task in job.tasks
                for f in found
                for stage, epochs in (
                    ("inner", f.inner),
                    ("whole", [(f.rate, e) for e in f.whole]),
                )
                for rate, e in epochs
            ],
        )
    return rows


def _row(run: Run, job: Asked, task: Task, one: Fold, view: str, scores: Floats, y: Rows) -> Row:
    name, domain = identity(run, job.variant)
    variant = job.variant
    at_edge = chooses(run) and not one.stopped_early
    return Row(
        backbone=name,
        domain=domain,
        layer=variant.cut,
        pool="",
        depth=variant.layer.depth if variant.layer else None,
        method=method_of(run, job),
        task=task.name,
        fold=one.fold,
        **measure(scores, y, task.ordered, kind_of(variant.method)),
        n_test=len(y),
        n_train=one.n_train,
        solver=run.recipe.optimiser,
        at_edge=int(at_edge),
        selection=one.selection,
        epochs=one.epochs,
        recipe=_recipe_in_words(run, job, one),
        seed=run.seed,
        views=view,
        crops=VIEWS[view],
        converged=int(not at_edge),
        protocol=mark(job.said[task.name]),
    )


def _recipe_in_words(run: Run, job: Asked, one: Fold) -> str:
    said = [run.recipe.name]
    if job.variant.keep_above:
        said.append("above the cut kept")
    if job.variant.method == "frozen":
        said.append("prefix kept as features" if one.kept_prefix else "prefix recomputed")
    if run.probe_first:
        said.append("head from the probe")
    if len(run.rates) > 1:
        said.append(f"rate {one.rate:g} chosen")
    if len(job.tasks) > 1:
        said.append("one network for " + "+".join(task.name for task in job.tasks))
    return "; ".join(said)


def _notes(run: Run, job: Asked, found: list[Fold]) -> list[str]:
    edge = sum(not one.stopped_early for one in found) if chooses(run) else 0
    if not edge:
        return []
    return [
        f"{'+'.join(t.name for t in job.tasks)}: {job.variant} was still getting better after "
        f"{run.recipe.epochs} epochs in {edge} of {len(found)} folds; give it more --epochs"
    ]
