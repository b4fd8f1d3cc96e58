"""Whole networks trained on a study's folds, into results.csv and predictions.h5 beside the probes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.backbone import load
from features.data.tasks import choose
from features.errors import InputError, nearest
from features.images.views import check_views
from features.machine import device as devices
from features.machine.files import locked
from features.study import study as studies
from features.study.study import Study, open_or_draft
from probe.checking.find_copies import checked
from probe.finetuning.commit import commit, keys, notes
from probe.finetuning.devices import Share, train_beside, train_share
from probe.finetuning.fold import train_folds
from probe.finetuning.job import Asked, Run, saved
from probe.finetuning.plan import extracted_rows, plan, readable_rows
from probe.finetuning.progress import Counter, images_of
from probe.finetuning.tensorboard import Board
from probe.results import rows as results
from probe.results.protocol import mark
from probe.results.rows import Row
from probe.training.cut import EMPTY, prefix_of
from probe.training.feed import ImageFeed
from probe.training.recipes import DEFAULT, Recipe
from probe.training.recipes import recipe as recipe_of
from probe.training.setup import check_norms
from probe.training.variants import variants

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
SEARCH = (1 / 3, 1.0, 3.0)
"""What the rate is multiplied with to be chosen from."""
BASES = ("finetune", "scratch")
_TOLD = ("announce", "progress")


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
    share: Share | None = None,
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
        recipe: One of probe/training/recipes.py, or its name.
        views: What of a test image is scored: `center`, `flip`, `10crop`; a row each.
        folds: How many to make where the data set has none of its own; five by default.
        seed: Of folds, new weights, batches, crops and dropout.
        device: `auto`, `cpu`, `cuda` or `cuda:I,J`: with several, folds beside each other.
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
        share: Of several processes: train only these folds, and leave it to another one to put them
            into the study's results.
        announce: Is told of downloads and the like.
        progress: Is called with images trained on, images in all, and where training is.

    Raises:
        InputError: Something given cannot be used.
        Diverged: A loss became NaN; the last checkpoint is kept.
    """
    given = {k: v for k, v in locals().items() if k not in ("device", "share", *_TOLD)}
    started = time.perf_counter()
    chosen = recipe_of(recipe) if isinstance(recipe, str) else recipe
    seen = check_views(tuple(views))
    on, *others = devices.several(device)
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
    extracted = extracted_rows(opened)
    if not extracted.all():
        announce(
            f"{extracted.sum():,} of {len(opened):,} images take part, those that are extracted"
        )
    readable = readable_rows(opened, feed, extracted)
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
    jobs = [job for group in groups for job in plan(run, asked, group, folds)]
    done = Finetuned(opened)
    if share is not None:
        train_share(run, jobs, share)
        return done
    if manifest is not None:
        studies.save(opened)
    done.notes += _unreadable(opened, readable | ~extracted)
    all_on = [str(one) for one in (on, *others)]
    beside = partial(train_beside, given, all_on, progress=progress) if others else None
    _train_all(run, jobs, redo, beside, done)
    done.seconds = time.perf_counter() - started
    return done


def _unreadable(study: Study, readable: npt.NDArray[np.bool_]) -> list[str]:
    bad = np.flatnonzero(~readable)
    if not len(bad):
        return []
    return [f"{len(bad)} images cannot be read (first: {study.paths[int(bad[0])]}); left out"]


def _train_all(
    run: Run,
    jobs: list[Asked],
    redo: bool,
    beside: Callable[[set[str]], None] | None,
    done: Finetuned,
) -> None:
    table = run.study.folder / "results.csv"
    there = {row.key: row for row in results.read(table)}
    todo = []
    for job in jobs:
        kept = [there.get(row) for row in keys(run, job)]
        marks = {mark(said) for said in job.said.values()}
        whole = all(row is not None and row.protocol in marks for row in kept)
        if run.save:
            whole = whole and all(saved(run, job, fold) for fold in job.splits.folds)
        if whole and not redo:
            done.kept += 1
            done.rows += [row for row in kept if row is not None]
        else:
            todo.append(job)
    with ExitStack() as held:
        for job in todo:
            job.folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(job.folder / ".lock", str(job.folder)))
            if redo:
                for file in job.folder.glob("fold-*"):
                    file.unlink()
        if beside is not None and todo:
            beside({str(job.folder) for job in todo})
        counter = Counter(run, sum(images_of(run, job) for job in todo))
        for job in todo:
            found = train_folds(run, job, counter)
            done.trained += len(found)
            done.rows += commit(run, job, found)
            done.notes += notes(run, job, found)
            shutil.rmtree(job.folder)
        counter.end()
