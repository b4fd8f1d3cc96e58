"""Images to a feature file: one forward pass for all layers, resumed where it was interrupted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features import device as devices
from features import pool as pooling
from features.backbone import load
from features.errors import InputError
from features.featurefile import DONE, PENDING, UNREADABLE, FeatureFile, Writer, create, merge
from features.files import locked, words
from features.pipeline import Batch, Job, Rows, blocks, compute, first_of_path
from features.provenance import (
    check_contract,
    file_attributes,
    layer_attributes,
    seen_in_training,
)
from features.study import Study, open_or_draft, save


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
    """Seconds that decoding and computing (summed over the lanes) and writing took."""
    lanes: int = 1
    """Batches computed at the same time."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Asked:
    """What a run was asked for, besides how it computes."""

    job: Job
    wanted: list[pooling.Pooled]
    said: Callable[[Plan], None]
    progress: Callable[[int, int], None]
    alone: Callable[[], object]
    """Locks the feature file until the run ends."""


def extract(
    study: Path | str,
    backbone: str,
    *,
    data: str | None = None,
    layers: Sequence[str] = ("all",),
    weights: str | None = None,
    pool: Sequence[str] = ("auto", "avg"),
    dtype: str = "float32",
    batch_size: int = 32,
    workers: int | None = None,
    limit: int | None = None,
    strict: bool = False,
    device: str = "auto",
    seed: int = 0,
    announce: Callable[[str], None] = lambda _: None,
    said: Callable[[Plan], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Extraction:
    """Write the features of `layers` of one backbone into the study.

    What is there already is kept: an interrupted run goes on, further layers are added, rows that
    were left out by `limit` are filled in.

    Args:
        study: The study's folder; made if `data` (or the built-in sample) begins one.
        backbone: A card's name, a card file, `torchvision:NAME` or `timm:NAME`.
        data: What `--data` takes; needed once, None afterwards.
        layers: Names of layers, or `all`.
        weights: A file, `random`, or None for the card's own.
        pool: Poolings of convolutional maps: `auto`, `none`, `avg`, `max`, `grid:K`.
        dtype: Of the stored numbers, `float32` or `float16`.
        batch_size: Images per forward pass; batches start at multiples of it.
        workers: Lanes that decode and compute batches side by side; by default one per core.
        limit: Only this many rows, spread over folds and classes by `seed`.
        strict: Stop at the first unreadable image.
        device: `auto`, `cpu`, `cuda` or `cuda:I`.
        seed: Of random weights and of `limit`.
        announce: Is told of downloads and the like.
        said: Is told what will be written, before it is.
        progress: Is called with rows done and rows in all.

    Raises:
        InputError: Something given cannot be used; a study that was not there is not begun.
    """
    folder = Path(study)
    if dtype not in ("float32", "float16"):
        raise InputError(f"--dtype {dtype}: features are stored as float32 or float16.")
    if batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: a batch has at least one image.")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: give the number of rows, at least one.")
    on = devices.resolve(device)
    opened, manifest = open_or_draft(folder, data)
    loaded = load(backbone, weights, seed, announce)
    wanted = pooling.plan(loaded.layers(tuple(layers)), tuple(pool))
    lanes = workers or devices.cores()
    job = Job(opened, loaded, dtype, batch_size, lanes, on, strict)
    path = opened.feature_path(loaded.name)
    result = Extraction(loaded.name, path, [p.key for p in wanted], len(opened), lanes=lanes)
    if manifest is not None:
        result.left_out = dict(manifest.left_out)
    if loaded.unused:
        result.notes.append(
            f"{len(loaded.unused)} tensors in the weights file are not used by the network "
            f"({', '.join(loaded.unused[:3])}{', ...' if len(loaded.unused) > 3 else ''})"
        )
    if loaded.weights is not None and not loaded.weights.verified:
        result.notes.append(
            f"weights {loaded.weights.source} are unverified: no checksum is published for "
            f"them; sha256 {loaded.weights.sha256[:12]}... is recorded"
        )
    for name in seen_in_training(loaded, opened.source):
        result.notes.append(
            f"the weights of {loaded.name} were trained on {name}, which this study seems to be of: "
            "their frozen features have seen the test images, so that accuracy flatters them"
        )
    target = _target(opened, limit, seed)
    started = time.perf_counter()
    lock = path.with_name(f".{path.name}.lock")
    with ExitStack() as held:
        asked = _Asked(
            job, wanted, said, progress, lambda: held.enter_context(locked(lock, str(path)))
        )
        if manifest is None:
            path.parent.mkdir(exist_ok=True)
            asked.alone()
        else:
            _check_not_begun(opened)
        _run(asked, path, target, result)
    result.seconds = time.perf_counter() - started
    _summarise(opened, path, target, result)
    return result


def _check_not_begun(study: Study) -> None:
    if (study.folder / "study.toml").is_file():
        raise InputError(
            f"{study.folder}: another process has just begun a study here; run the command again."
        )


def _run(asked: _Asked, path: Path, target: Rows, result: Extraction) -> None:
    """Bring `path` to what was asked, in as many passes as its present state needs."""
    partial = path.with_name(path.name + ".partial")
    path.with_name(path.name + ".merging").unlink(missing_ok=True)
    job, keys = asked.job, {p.key for p in asked.wanted}
    while True:
        if partial.is_file():
            if path.is_file() and _is_merged(partial, path):
                partial.unlink()  # killed between the two steps of a merge
                continue
            check_contract(job, partial)
            _finish(asked, path, partial, result)
        elif not path.is_file():
            _begin(asked, path, partial, asked.wanted, target, result)
        else:
            check_contract(job, path)
            with FeatureFile(path) as file:
                missing = keys - set(file.keys)
                _check_pools(asked, file)
                pending = target[file.status[target] == PENDING]
            if missing:
                more = [p for p in asked.wanted if p.key in missing]
                _begin(asked, path, partial, more, _rows_of(path), result)
            elif len(pending):
                path.rename(partial)
                with Writer(partial) as writer:
                    writer.aim(pending)
            else:
                return


def _begin(
    asked: _Asked,
    path: Path,
    partial: Path,
    wanted: list[pooling.Pooled],
    rows: Rows,
    result: Extraction,
) -> None:
    """Compute the first batch, say what will be written, make the file, and fill it."""
    job, n = asked.job, len(asked.job.study)
    begun = (job.study.folder / "study.toml").is_file()
    todo = blocks(job.study, rows, job.batch_size)
    computed = compute(job, wanted, todo)
    head: list[Batch] = []
    for batch in computed:
        head.append(batch)
        if batch.rows.size:
            break
    if not any(batch.rows.size for batch in head):
        reason = next((r for b in head for r in b.refused.values()), "there are no rows")
        raise InputError(
            f"{job.study.source}: none of its {len(rows)} images can be read (the first: {reason}); "
            "check the paths."
        )
    seconds = (head[-1].decoding + head[-1].computing) / job.lanes
    needed = n * sum(p.dim for p in wanted) * np.dtype(job.dtype).itemsize
    plan = Plan(
        job.backbone.name,
        path,
        len(rows),
        tuple(p.key for p in wanted),
        needed,
        seconds * len(todo),
        job.backbone.architecture.card.licence if job.backbone.weights else None,
    )
    asked.said(plan)
    _check_room(job, wanted, needed)
    if not begun:
        path.parent.mkdir(parents=True, exist_ok=True)
        asked.alone()
        _check_not_begun(job.study)
        save(job.study)
    create(
        partial,
        n,
        rows,
        [layer_attributes(p, job) for p in wanted],
        job.dtype,
        file_attributes(job),
    )
    _fill(asked, path, partial, head, computed, len(rows), 0, result)


def _finish(asked: _Asked, path: Path, partial: Path, result: Extraction) -> None:
    """Go on with a partial file: its own layers and rows, whatever this run was asked for.

    A batch that is not wholly done is computed again as a whole, so that every number comes out of
    the same batch as in an uninterrupted run.
    """
    with Writer(partial) as writer:
        aim, status = writer.aimed, writer.status
        pools = {key: writer.about(key) for key in writer.keys}
    job = asked.job
    wanted = [
        pooling.pooled(job.backbone.layers((layer,))[0], pool) for layer, pool in pools.values()
    ]
    left = [
        block
        for block in blocks(job.study, aim, job.batch_size)
        if (status[block] == PENDING).any()
    ]
    todo = sum(map(len, left))
    _fill(
        asked,
        path,
        partial,
        [],
        compute(job, wanted, left),
        len(aim),
        len(aim) - todo,
        result,
    )


def _fill(
    asked: _Asked,
    path: Path,
    partial: Path,
    head: list[Batch],
    rest: Iterator[Batch],
    total: int,
    done: int,
    result: Extraction,
) -> None:
    with Writer(partial) as writer:
        asked.progress(done, total)
        for batch in chain(head, rest):
            started = time.perf_counter()
            writer.write(batch.rows, batch.features)
            writer.refuse(batch.refused)
            _count(result, "decoding", batch.decoding)
            _count(result, "computing", batch.computing)
            _count(result, "writing", time.perf_counter() - started)
            result.computed += len(batch.rows)
            done += len(batch.rows) + len(batch.refused)
            asked.progress(done, total)
        rows, sources = _repeats(asked.job.study, writer.aimed, writer.status)
        writer.repeat(rows, sources)
        asked.progress(total, total)
    if path.is_file():
        merge(partial, path)
    else:
        partial.rename(path)


def _count(result: Extraction, stage: str, seconds: float) -> None:
    result.stages[stage] = result.stages.get(stage, 0.0) + seconds


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


def _repeats(study: Study, aim: Rows, status: npt.NDArray[np.uint8]) -> tuple[Rows, Rows]:
    """The pending rows of `aim` whose path stands in an earlier row too, and those rows."""
    rows = aim[status[aim] == PENDING]
    return rows, first_of_path(study)[rows]


def _rows_of(path: Path) -> Rows:
    with FeatureFile(path) as file:
        return np.flatnonzero(file.status != PENDING)


def _is_merged(partial: Path, path: Path) -> bool:
    with FeatureFile(path) as file, FeatureFile(partial) as part:
        return set(part.keys) <= set(file.keys)


def _check_pools(asked: _Asked, file: FeatureFile) -> None:
    """`auto` and `none` share a layer's name in the file: only one of them can be there."""
    for pooled in asked.wanted:
        if pooled.key in file.keys and file.about(pooled.key)["pool"] != pooled.pool:
            raise InputError(
                f"{file.path}: layer {pooled.key} is there with --pool "
                f"{file.about(pooled.key)['pool']}; `probe remove {file.backbone}` first, or "
                "ask for that pooling."
            )


def _check_room(job: Job, wanted: list[pooling.Pooled], needed: int) -> None:
    folder = job.study.folder
    while not folder.exists():
        folder = folder.absolute().parent
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return
    widest = max(wanted, key=lambda p: p.dim)
    room = widest.dim * 0.9 * free / needed
    raise InputError(
        f"{job.backbone.name}: its features need {words(needed)} and {folder} has {words(free)} "
        f"free; --pool {pooling.fitting(widest.layer, room)} or fewer layers would fit."
    )


def _summarise(study: Study, path: Path, target: Rows, result: Extraction) -> None:
    with FeatureFile(path) as file:
        status = file.status
        result.unreadable = {study.paths[row]: why for row, why in file.reasons().items()}
    result.pending = int((status == PENDING).sum())
    assert not (status[target] == PENDING).any()
    assert set(np.unique(status)) <= {PENDING, DONE, UNREADABLE}
