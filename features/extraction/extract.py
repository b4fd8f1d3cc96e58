"""Images to a feature file: one forward pass for all layers, resumed where it was interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from features.backbone import Architecture, Backbone, Layer, choose, load
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.batches import rows_within
from features.extraction.pipeline import Job, default_batch_size
from features.extraction.provenance import seen_in_training
from features.extraction.rounds import Target, batch_size_of
from features.extraction.run import Run, carry_out
from features.extraction.summary import Extraction, Plan
from features.extraction.update import updated
from features.images.views import check_views
from features.machine import device as devices
from features.store.featurefile import DONE, PENDING, UNREADABLE, FeatureFile, partial_of
from features.store.making import FILTERS
from features.study.alike import unlike_rows
from features.study.study import Study, open_or_draft


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
    layers: Sequence[str] = (),
    pool: Sequence[str] = (),
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
        layers: Names of layers; all by default.
        pool: Poolings of convolutional maps: `auto`, `none`, `avg`, `max`, `grid:K`; `auto` and `avg` by
            default.
        views: Besides the centre crop: `flip`, `10crop`; the mean over a view's crops is kept. Without
            `layers` and `pool` they are of what the file holds already.
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
        before = len(opened)
        opened = updated(opened, data) if manifest is None else opened
        announce(f"{folder}: {len(opened) - before} rows are new")
    processes = workers or len(on)
    side_by_side = lanes or max(1, devices.cores() // processes)
    threads = max(1, devices.cores() // (side_by_side * processes))
    rows = rows_within(opened, limit, seed)
    targets, results = [], []
    for name, file in backbones.items():
        asked = partial(_asked, opened, layers, pool, seen)
        loaded = load(name, file, seed, announce, asked)
        size = batch_size or batch_size_of(opened, loaded.name, default_batch_size(loaded, on[0]))
        job = Job(opened, loaded, dtype, size, side_by_side, on[0], strict, precision, threads)
        wanted = _wanted(opened, loaded, layers, pool, seen)
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
    places = [on[i % len(on)] for i in range(processes)]
    carry_out(Run(opened, manifest is None, targets, results, places, said, progress))
    for target, result in zip(targets, results, strict=True):
        result.seconds = time.perf_counter() - started
        _summarise(target, result)
    with suppress(InputError):  # a damaged file of another backbone is no fault of this run
        if (unlike := unlike_rows(opened, opened.backbones())) is not None:
            results[-1].notes.append(unlike)
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


def _check_names(targets: Sequence[Target]) -> None:
    paths = [target.path for target in targets]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{path}: two of the backbones would be written there; ask for one.")


def _wanted(
    study: Study, loaded: Backbone, layers: Sequence[str], pool: Sequence[str], views: Sequence[str]
) -> list[pooling.Pooled]:
    """What to write; a further view is of what the file holds, where nothing else is asked for."""
    held = _held(study, loaded.name, loaded.architecture, layers, pool, views)
    if held is not None:
        return [pooling.pooled(layer, p, view) for view in views for layer, p in held]
    return pooling.plan(
        loaded.layers(tuple(layers or ("all",))), tuple(pool or ("auto", "avg")), views
    )


def _asked(
    study: Study,
    layers: Sequence[str],
    pool: Sequence[str],
    views: Sequence[str],
    name: str,
    architecture: Architecture,
) -> tuple[Layer, ...]:
    """The layers that will be read of the backbone called `name`, in depth order."""
    held = _held(study, name, architecture, layers, pool, views)
    names = layers if held is None else [layer.name for layer, _ in held]
    return choose(architecture, tuple(names or ("all",)))


def _held(
    study: Study,
    name: str,
    architecture: Architecture,
    layers: Sequence[str],
    pool: Sequence[str],
    views: Sequence[str],
) -> list[tuple[Layer, str]] | None:
    """Layers and poolings that the file holds, where only a further view of them is asked for."""
    path = study.feature_path(name)
    there = [p for p in (path, partial_of(path)) if p.is_file()]
    if len(views) < 2 or layers or pool or not there:
        return None
    with FeatureFile(there[0]) as file:
        held = [(file.about(key)["layer"], file.about(key)["pool"]) for key in file.keys]
    of_name = {layer.name: layer for layer in architecture.layers}
    if not all(layer in of_name for layer, _ in held):
        return None
    return [(of_name[layer], p) for layer, p in held]


def _notes(loaded: Backbone, source: str) -> list[str]:
    notes = list(loaded.notes)
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
            f"the weights of {loaded.name} were trained on {name}, which seems to be this study's data: "
            "the network has seen the test images, so its accuracy is too high"
        )
    return notes


def _summarise(target: Target, result: Extraction) -> None:
    paths = target.job.study.paths
    with FeatureFile(target.path) as file:
        status = file.status
        result.unreadable = {paths[row]: why for row, why in file.reasons().items()}
    result.pending = int((status == PENDING).sum())
    assert not (status[target.rows] == PENDING).any()
    assert set(np.unique(status)) <= {PENDING, DONE, UNREADABLE}
