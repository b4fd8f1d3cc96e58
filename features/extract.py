"""Images to a feature file: one forward pass for all layers, resumed where it was interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch

from features import device as devices
from features import pool as pooling
from features.backbone import Backbone, load
from features.errors import InputError
from features.featurefile import DONE, PENDING, UNREADABLE, FeatureFile
from features.files import locked
from features.making import FILTERS
from features.passes import (
    Round,
    Target,
    batch_size_of,
    check_room,
    end,
    grow,
    make_files,
    next_round,
    put_in_place,
)
from features.pipeline import (
    STAGES,
    Computed,
    Job,
    Rows,
    compute,
    default_batch_size,
    windows,
)
from features.provenance import seen_in_training
from features.study import Study, append, open_or_draft, save
from features.views import check_views
from features.workers import Report, work_together, written
from features.writer import Writer


@dataclass(frozen=True)
class Plan:
    """What a run is about to write, said before it writes it."""

    backbone: str
    file: Path
    rows: int
    layers: tuple[str, ...]
    bytes: int
    seconds: float
    """As the first batch predicts it."""
    licence: str | None


@dataclass
class Extraction:
    """What a run has done."""

    backbone: str
    file: Path
    layers: list[str]
    rows: int
    computed: int = 0
    """Rows computed in this run; the others were there already."""
    seconds: float = 0.0
    unreadable: dict[str, str] = field(default_factory=dict)
    """Reason by path, of every row of the file that is unreadable."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Reason by file, of what the data reader did not take as a row."""
    pending: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds that reading, decoding, computing (summed over the lanes) and writing took, for all the
    backbones of the run together."""
    bottleneck: str = ""
    """The stage that was busiest."""
    lanes: int = 1
    """Batches computed at the same time, in each worker."""
    workers: int = 1
    """Processes."""
    batch_size: int = 0
    precision: str = "float32"
    notes: list[str] = field(default_factory=list)


class Options(TypedDict, total=False):
    """What `extract` and `extract_together` take by name; see the latter."""

    data: str | None
    layers: Sequence[str]
    pool: Sequence[str]
    views: Sequence[str]
    dtype: str
    precision: str
    batch_size: int | None
    workers: int | None
    lanes: int | None
    limit: int | None
    strict: bool
    compress: str | None
    update: bool
    device: str
    seed: int
    announce: Callable[[str], None]
    said: Callable[[Plan], None]
    progress: Callable[[int, int, str], None]


@dataclass
class _Run:
    """What goes on for all backbones of a run together."""

    study: Study
    begun: bool
    """The study stands already."""
    targets: list[Target]
    results: list[Extraction]
    devices: list[torch.device]
    """One per worker."""
    said: Callable[[Plan], None]
    progress: Callable[[int, int, str], None]
    alone: Callable[[], None]
    """Locks the feature files until the run ends."""


def extract(
    study: Path | str, backbone: str, *, weights: str | None = None, **options: Unpack[Options]
) -> Extraction:
    """Write the features of one backbone into the study; `extract_together` tells the options."""
    [one] = extract_together(study, {backbone: weights}, **options)
    return one


def extract_together(
    study: Path | str,
    backbones: Mapping[str, str | None],
    *,
    data: str | None = None,
    layers: Sequence[str] = ("all",),
    pool: Sequence[str] = ("auto", "avg"),
    views: Sequence[str] = (),
    dtype: str = "float32",
    precision: str = "float32",
    batch_size: int | None = None,
    workers: int | None = None,
    lanes: int | None = None,
    limit: int | None = None,
    strict: bool = False,
    compress: str | None = None,
    update: bool = False,
    device: str = "auto",
    seed: int = 0,
    announce: Callable[[str], None] = lambda _: None,
    said: Callable[[Plan], None] = lambda _: None,
    progress: Callable[[int, int, str], None] = lambda _done, _all, _slowest: None,
) -> list[Extraction]:
    """Write the features of several backbones into the study, each image decoded once for all.

    What is there already is kept: an interrupted run goes on, further layers are added, rows that
    were left out by `limit` are filled in.

    Args:
        study: The study's folder; made if `data` (or the built-in sample) begins one.
        backbones: Cards' names, card files, `torchvision:NAME` or `timm:NAME`, each with its
            weights: a file, `random`, or None for the card's own.
        data: What `--data` takes; needed once, None afterwards.
        layers: Names of layers, or `all`.
        pool: Poolings of convolutional maps: `auto`, `none`, `avg`, `max`, `grid:K`.
        views: Besides the centre crop: `flip`, `10crop`; the mean over a view's crops is kept.
        dtype: Of the stored numbers, `float32` or `float16`.
        precision: Of computing: `float32`, `bf16`, and on a GPU `tf32` and `fp16`.
        batch_size: Images per forward pass; batches start at multiples of it. None: what the file has
            that is there, or else what the network computes fastest with.
        workers: Processes that share the work; by default one per device named, else one.
        lanes: Batches computed side by side in a worker; by default its share of the cores.
        limit: Only this many rows, spread over folds and classes by `seed`.
        strict: Stop at the first unreadable image.
        compress: `gzip`, `lzf` or `none`, done when a file is finished; None leaves it as it is.
        update: Append rows that the data gained since the study was made.
        device: `auto`, `cpu`, `cuda` or `cuda:I,J`.
        seed: Of random weights and of `limit`.
        announce: Is told of downloads and the like.
        said: Is told what will be written, before it is.
        progress: Is called with rows done, rows in all, and the busiest stage.

    Raises:
        InputError: Something given cannot be used; a study that was not there is not begun.
    """
    folder = Path(study)
    _check(dtype, batch_size, limit, workers, compress)
    on = devices.several(device)
    devices.check_precision(precision, on[0])
    seen = list(dict.fromkeys(("center", *check_views(tuple(views)))))
    opened, manifest = open_or_draft(folder, data)
    if update:
        opened, added = _updated(opened, manifest is None, data)
        announce(f"{folder}: {added} rows are new")
    processes = workers or len(on)
    side_by_side = lanes or max(1, devices.cores() // processes)
    threads = max(1, devices.cores() // (side_by_side * processes))
    rows = _target(opened, limit, seed)
    targets, results = [], []
    for name, file in backbones.items():
        loaded = load(name, file, seed, announce)
        size = batch_size or batch_size_of(opened, loaded.name, default_batch_size(loaded, on[0]))
        job = Job(opened, loaded, dtype, size, side_by_side, on[0], strict, precision, threads)
        wanted = pooling.plan(loaded.layers(tuple(layers)), tuple(pool), seen)
        targets.append(Target(job, wanted, rows, compress, (name, file, seed)))
        results.append(
            Extraction(
                loaded.name,
                targets[-1].path,
                [p.key for p in wanted],
                len(opened),
                left_out=dict(manifest.left_out) if manifest is not None else {},
                lanes=side_by_side,
                workers=processes,
                batch_size=size,
                precision=precision,
                notes=_notes(loaded, opened.source),
            )
        )
    _check_names(targets)
    started = time.perf_counter()
    with ExitStack() as held:

        def alone() -> None:
            for path in sorted(target.path for target in targets):
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(path.with_name(f".{path.name}.lock"), str(path)))

        places = [on[i % len(on)] for i in range(processes)]
        run = _Run(opened, manifest is None, targets, results, places, said, progress, alone)
        if run.begun:
            alone()
        else:
            _check_not_begun(opened)
        _bring_about(run)
    for target, result in zip(targets, results, strict=True):
        result.seconds = time.perf_counter() - started
        _summarise(target, result)
    return results


def _check(
    dtype: str,
    batch_size: int | None,
    limit: int | None,
    workers: int | None,
    compress: str | None,
) -> None:
    if dtype not in ("float32", "float16"):
        raise InputError(f"--dtype {dtype}: features are stored as float32 or float16.")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: a batch has at least one image.")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: give the number of rows, at least one.")
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: at least one process has to do the work.")
    if compress is not None and compress not in FILTERS:
        raise InputError(f"--compress {compress}: not a filter; use none, lzf or gzip.")


def _updated(study: Study, begun: bool, data: str | None) -> tuple[Study, int]:
    """The study with the rows that its data gained, in all its files; and how many they are."""
    if not begun:
        return study, 0
    with locked(study.folder / ".images.lock", str(study.folder / "images.csv")):
        more = append(study, data)
        for path in sorted((study.folder / "features").glob("*.h5*")):
            if path.suffix in (".h5", ".partial"):
                finished = path.with_name(path.name.removesuffix(".partial"))
                with locked(finished.with_name(f".{finished.name}.lock"), str(path)):
                    grow(more, path)
    return more, len(more) - len(study)


def _check_names(targets: Sequence[Target]) -> None:
    paths = [target.path for target in targets]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{path}: two of the backbones would be written there; ask for one.")


def _notes(loaded: Backbone, source: str) -> list[str]:
    notes = []
    if loaded.unused:
        notes.append(
            f"{len(loaded.unused)} tensors in the weights file are not used by the network "
            f"({', '.join(loaded.unused[:3])}{', ...' if len(loaded.unused) > 3 else ''})"
        )
    if loaded.weights is not None and not loaded.weights.verified:
        notes.append(
            f"weights {loaded.weights.source} are unverified: no checksum is published for "
            f"them; sha256 {loaded.weights.sha256[:12]}... is recorded"
        )
    for name in seen_in_training(loaded, source):
        notes.append(
            f"the weights of {loaded.name} were trained on {name}, which this study seems to be of: "
            "their frozen features have seen the test images, so that accuracy flatters them"
        )
    return notes


def _check_not_begun(study: Study) -> None:
    if (study.folder / "study.toml").is_file():
        raise InputError(
            f"{study.folder}: another process has just begun a study here; run the command again."
        )


def _bring_about(run: _Run) -> None:
    """Bring every file to what was asked, in as many passes as their present state needs."""
    for target in run.targets:
        for suffix in (".merging", ".new", ".partial.merging", ".partial.new"):
            target.path.with_name(target.path.name + suffix).unlink(missing_ok=True)
    while True:
        found = [next_round(target) for target in run.targets]
        rounds = [one for one in found if one is not None]
        if not rounds:
            return
        results = [r for r, one in zip(run.results, found, strict=True) if one is not None]
        _pass_over(run, rounds, results)


def _pass_over(run: _Run, rounds: list[Round], results: list[Extraction]) -> None:
    """Compute the first windows, say what will be written, make the files, and fill them."""
    todo = windows([one.todo for one in rounds])
    passes = [one.reader for one in rounds]
    many = len(run.devices) > 1
    new = {i for i, one in enumerate(rounds) if one.new}
    head: list[Computed] = []
    with ExitStack() as held:
        computed: Iterator[Computed] = iter(())
        if not many:
            computed = held.enter_context(closing(compute(passes, todo)))
        while new and todo[len(head) :]:
            head.append(next(compute(passes, [todo[len(head)]]) if many else computed))
            new -= {batch.number for batch in head[-1].batches if batch.rows.size}
        _begin(run, rounds, new, head, len(todo))
        writers = [held.enter_context(Writer(one.target.partial)) for one in rounds]
        total = sum(len(one.aim) for one in rounds)
        done = sum(len(one.aim) - sum(map(len, one.todo)) for one in rounds if not one.new)
        run.progress(done, total, "")
        reports = _reports(run, rounds, writers, head, computed, todo[len(head) :] if many else [])
        for report in reports:
            for number, (well, badly) in report.rows.items():
                results[number].computed += well
                done += well + badly
            for result in results:
                for stage, seconds in report.seconds.items():
                    result.stages[stage] = result.stages.get(stage, 0.0) + seconds
                result.bottleneck = _busiest(result, run.devices[0])
            run.progress(done, total, results[0].bottleneck)
        for one, writer in zip(rounds, writers, strict=True):
            end(one, writer)
    for one in rounds:
        put_in_place(one)
    run.progress(total, total, results[0].bottleneck)


def _begin(
    run: _Run, rounds: list[Round], unread: set[int], head: list[Computed], count: int
) -> None:
    """Say what will be written where nothing is yet, and make the files."""
    first = [one for one in rounds if one.new]
    if not first:
        return
    if unread:
        why = (r for c in head for batch in c.batches for r in batch.refused.values())
        raise InputError(
            f"{run.study.source}: none of its {len(first[0].aim)} images can be read (the first: "
            f"{next(why, 'there are no rows')}); check the paths."
        )
    lanes = rounds[0].target.job.lanes * len(run.devices)
    seconds = sum(head[-1].seconds.values()) / lanes * count
    for one in first:
        backbone = one.target.job.backbone
        run.said(
            Plan(
                backbone.name,
                one.target.path,
                len(one.aim),
                tuple(p.key for p in one.wanted),
                one.bytes,
                seconds,
                backbone.architecture.card.licence if backbone.weights else None,
            )
        )
    check_room(rounds, run.study.folder)
    if not run.begun:
        run.alone()
        _check_not_begun(run.study)
        save(run.study)
        run.begun = True
    make_files(rounds)


def _reports(
    run: _Run,
    rounds: list[Round],
    writers: list[Writer],
    head: list[Computed],
    computed: Iterator[Computed],
    rest: list[list[tuple[int, Rows]]],
) -> Iterator[Report]:
    for one in head:
        yield written(writers, one)
    for one in computed:
        yield written(writers, one)
    if rest:
        with closing(work_together(rounds, rest, run.devices)) as reports:
            yield from reports


def _busiest(result: Extraction, device: torch.device) -> str:
    """The stage that its threads were longest at, each for as many as can be at it at once."""
    most = dict.fromkeys(STAGES, result.lanes * result.workers)
    most["writing"] = result.workers
    if device.type != "cpu":
        most["computing"] = result.workers
    return max(STAGES, key=lambda stage: result.stages.get(stage, 0.0) / most[stage])


def _target(study: Study, limit: int | None, seed: int) -> Rows:
    """All rows, or `limit` of them spread evenly over folds and classes."""
    n = len(study)
    if limit is None or limit >= n:
        return np.arange(n)
    rng = np.random.default_rng(seed)
    first_task = next(iter(study.tasks))
    groups = list(zip(study.columns.get("fold", [""] * n), study.columns[first_task], strict=True))
    shuffled = rng.permutation(n)
    place: dict[tuple[str, str], int] = {}
    turn = np.empty(n)
    sizes = {group: groups.count(group) for group in set(groups)}
    for row in shuffled:
        group = groups[row]
        turn[row] = place.get(group, 0) / sizes[group]  # so that each group gives its share
        place[group] = place.get(group, 0) + 1
    return np.sort(shuffled[np.argsort(turn[shuffled], kind="stable")][:limit])


def _summarise(target: Target, result: Extraction) -> None:
    paths = target.job.study.paths
    with FeatureFile(target.path) as file:
        status = file.status
        result.unreadable = {paths[row]: why for row, why in file.reasons().items()}
    result.pending = int((status == PENDING).sum())
    assert not (status[target.rows] == PENDING).any()
    assert set(np.unique(status)) <= {PENDING, DONE, UNREADABLE}
