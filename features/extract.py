"""Images to a feature file: one forward pass for all layers, resumed where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from features import device as devices
from features import pool as pooling
from features import preprocess
from features.backbone import Backbone, load
from features.capture import capture
from features.errors import InputError
from features.featurefile import DONE, PENDING, UNREADABLE, FeatureFile, Writer, create, merge
from features.files import locked, words
from features.image import Unreadable, read_rgb
from features.study import Study, open_or_draft, save

Rows = npt.NDArray[np.int64]


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
    """Seconds that decoding (over all threads), computing and writing took."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    study: Study
    backbone: Backbone
    wanted: list[pooling.Pooled]
    dtype: str
    batch_size: int
    workers: int
    device: torch.device
    strict: bool
    said: Callable[[Plan], None]
    progress: Callable[[int, int], None]


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
        workers: Threads that decode; by default one per core.
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
    job = _Job(
        opened,
        loaded,
        wanted,
        dtype,
        batch_size,
        workers or devices.cores(),
        on,
        strict,
        said,
        progress,
    )
    path = opened.feature_path(loaded.name)
    result = Extraction(loaded.name, path, [p.key for p in wanted], len(opened))
    if manifest is not None:
        result.left_out = dict(manifest.left_out)
    if loaded.unused:
        result.notes.append(
            f"{len(loaded.unused)} tensors in the weights file are not used by the network "
            f"({', '.join(loaded.unused[:3])}{', ...' if len(loaded.unused) > 3 else ''})"
        )
    if loaded.weights is not None and not loaded.weights.verified:
        result.notes.append(
            f"weights {loaded.weights.path.name} are unverified: no checksum is published for "
            f"them; sha256 {loaded.weights.sha256[:12]}... is recorded"
        )
    target = _target(opened, limit, seed)
    started = time.perf_counter()
    if path.parent.is_dir():
        with locked(path.with_name(f".{path.name}.lock"), str(path)):
            _run(job, path, target, result)
    else:
        _run(job, path, target, result)
    result.seconds = time.perf_counter() - started
    _summarise(opened, path, target, result)
    return result


def _run(job: _Job, path: Path, target: Rows, result: Extraction) -> None:
    """Bring `path` to what was asked, in as many passes as its present state needs."""
    partial = path.with_name(path.name + ".partial")
    path.with_name(path.name + ".merging").unlink(missing_ok=True)
    asked = {p.key for p in job.wanted}
    while True:
        if partial.is_file():
            if path.is_file() and _is_merged(partial, path):
                partial.unlink()  # killed between the two steps of a merge
                continue
            _check_contract(job, partial)
            _finish(job, path, partial, result)
        elif not path.is_file():
            _begin(job, path, partial, job.wanted, target, result)
        else:
            _check_contract(job, path)
            with FeatureFile(path) as file:
                missing = asked - set(file.keys)
                _check_pools(job, file)
                pending = target[file.status[target] == PENDING]
            if missing:
                more = [p for p in job.wanted if p.key in missing]
                _begin(job, path, partial, more, _rows_of(path), result)
            elif len(pending):
                path.rename(partial)
                with Writer(partial) as writer:
                    writer.aim(pending)
            else:
                return


def _begin(
    job: _Job,
    path: Path,
    partial: Path,
    wanted: list[pooling.Pooled],
    rows: Rows,
    result: Extraction,
) -> None:
    """Compute the first batch, say what will be written, make the file, and fill it."""
    n = len(job.study)
    computed = _compute(job, wanted, _blocks(job, rows), result)
    head: list[_Batch] = []
    started = time.perf_counter()
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
    seconds = (time.perf_counter() - started) / len(head)
    needed = n * sum(p.dim for p in wanted) * np.dtype(job.dtype).itemsize
    plan = Plan(
        job.backbone.name,
        path,
        len(rows),
        tuple(p.key for p in wanted),
        needed,
        seconds * len(_blocks(job, rows)),
        job.backbone.architecture.card.licence if job.backbone.weights else None,
    )
    job.said(plan)
    _check_room(job, wanted, needed)
    if not (job.study.folder / "study.toml").is_file():
        save(job.study)
    create(partial, n, rows, [_layer(p, job) for p in wanted], job.dtype, _attributes(job))
    _fill(job, path, partial, head, computed, len(rows), 0, result)


def _finish(job: _Job, path: Path, partial: Path, result: Extraction) -> None:
    """Go on with a partial file: its own layers and rows, whatever this run was asked for.

    A batch that is not wholly done is computed again as a whole, so that every number comes out of
    the same batch as in an uninterrupted run.
    """
    with Writer(partial) as writer:
        aim, status = writer.aimed, writer.status
        pools = {key: writer.about(key) for key in writer.keys}
    by_name = {layer.name: layer for layer in job.backbone.layers()}
    wanted = [pooling.pooled(by_name[layer], pool) for layer, pool in pools.values()]
    left = [block for block in _blocks(job, aim) if (status[block] == PENDING).any()]
    todo = sum(map(len, left))
    _fill(
        job,
        path,
        partial,
        [],
        _compute(job, wanted, left, result),
        len(aim),
        len(aim) - todo,
        result,
    )


def _fill(
    job: _Job,
    path: Path,
    partial: Path,
    head: list[_Batch],
    rest: Iterator[_Batch],
    total: int,
    done: int,
    result: Extraction,
) -> None:
    with Writer(partial) as writer:
        job.progress(done, total)
        for batch in chain(head, rest):
            started = time.perf_counter()
            writer.write(batch.rows, batch.features)
            writer.refuse(batch.refused)
            _count(result, "writing", time.perf_counter() - started)
            result.computed += len(batch.rows)
            done += len(batch.rows) + len(batch.refused)
            job.progress(done, total)
        rows, sources = _repeats(job.study, writer.aimed, writer.status)
        writer.repeat(rows, sources)
        job.progress(total, total)
    if path.is_file():
        merge(partial, path)
    else:
        partial.rename(path)


@dataclass(frozen=True)
class _Batch:
    rows: Rows
    features: Mapping[str, npt.NDArray[Any]]
    refused: dict[int, str]


def _blocks(job: _Job, rows: Rows) -> list[Rows]:
    """The batches of a run over `rows`; an image that stands in several rows is in one of them."""
    firsts = _first_of_path(job.study)
    rows = np.unique(firsts[rows])
    return [rows[i : i + job.batch_size] for i in range(0, len(rows), job.batch_size)]


def _compute(
    job: _Job, wanted: list[pooling.Pooled], blocks: list[Rows], result: Extraction
) -> Iterator[_Batch]:
    """Decode ahead on threads, run the network, and copy what comes out."""
    model = job.backbone.model.to(job.device)
    by_layer: dict[str, list[pooling.Pooled]] = {}
    for pooled in wanted:
        by_layer.setdefault(pooled.layer.name, []).append(pooled)
    layers = [group[0].layer for group in by_layer.values()]
    found: dict[str, torch.Tensor] = {}

    def reduce(layer: str, output: torch.Tensor) -> torch.Tensor:
        for pooled in by_layer[layer]:
            found[pooled.key] = pooling.apply(output, pooled)
        return found[by_layer[layer][0].key]

    ahead = max(2, 2 * job.workers // job.batch_size + 1)
    traced = job.backbone.architecture.traced
    with (
        ThreadPoolExecutor(job.workers) as threads,
        capture(model, layers, traced, reduce) as run,
    ):
        waiting: list[tuple[Rows, list[Future[_Decoded]]]] = []
        try:
            for block in blocks[:ahead]:
                waiting.append((block, [threads.submit(_decode, job, int(r)) for r in block]))
            for following in [*blocks[ahead:], *[None] * len(blocks[:ahead])]:
                block, futures = waiting.pop(0)
                decoded = [future.result() for future in futures]
                if following is not None:
                    more = [threads.submit(_decode, job, int(r)) for r in following]
                    waiting.append((following, more))
                _count(result, "decoding", sum(d.seconds for d in decoded))
                started = time.perf_counter()
                batch = _forward(job, block, decoded, run, found)
                _count(result, "computing", time.perf_counter() - started)
                yield batch
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()


@dataclass(frozen=True)
class _Decoded:
    pixels: npt.NDArray[np.uint8] | None
    reason: str
    seconds: float


def _decode(job: _Job, row: int) -> _Decoded:
    started = time.perf_counter()
    path = job.study.root / job.study.paths[row]
    try:
        pixels = preprocess.to_pixels(read_rgb(path), job.backbone.architecture.input)
    except Unreadable as error:
        if job.strict:
            raise InputError(
                f"{path}: {error}; mend or remove it, or leave --strict out."
            ) from error
        return _Decoded(None, str(error), time.perf_counter() - started)
    return _Decoded(pixels, "", time.perf_counter() - started)


def _forward(
    job: _Job,
    block: Rows,
    decoded: list[_Decoded],
    run: Callable[[torch.Tensor], Any],
    found: dict[str, torch.Tensor],
) -> _Batch:
    rows = block[[d.pixels is not None for d in decoded]]
    refused = {
        int(row): d.reason for row, d in zip(block, decoded, strict=True) if d.pixels is None
    }
    if not len(rows):
        return _Batch(rows, {}, refused)
    pixels = torch.from_numpy(np.stack([d.pixels for d in decoded if d.pixels is not None]))
    x = preprocess.normalise(pixels.to(job.device), job.backbone.architecture.input)
    run(x)
    features = {}
    for key, tensor in found.items():
        stored = tensor.to(torch.float16) if job.dtype == "float16" else tensor.to(torch.float32)
        finite = torch.isfinite(stored).flatten(1).all(1)
        if not bool(finite.all()):
            row = int(rows[int((~finite).nonzero()[0])])
            over = bool(torch.isfinite(tensor).all())
            raise InputError(
                f"{job.study.paths[row]}: its features at layer {key} of {job.backbone.name} are "
                + (
                    "too large for float16; use --dtype float32."
                    if over
                    else "NaN or infinite; check the weights and the card's scale, mean and std."
                )
            )
        features[key] = stored.cpu().numpy()
    return _Batch(rows, features, refused)


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


def _first_of_path(study: Study) -> Rows:
    first: dict[str, int] = {}
    return np.array([first.setdefault(p, i) for i, p in enumerate(study.paths)], dtype=np.int64)


def _repeats(study: Study, aim: Rows, status: npt.NDArray[np.uint8]) -> tuple[Rows, Rows]:
    """The pending rows of `aim` whose path stands in an earlier row too, and those rows."""
    rows = aim[status[aim] == PENDING]
    return rows, _first_of_path(study)[rows]


def _rows_of(path: Path) -> Rows:
    with FeatureFile(path) as file:
        return np.flatnonzero(file.status != PENDING)


def _is_merged(partial: Path, path: Path) -> bool:
    with FeatureFile(path) as file, FeatureFile(partial) as part:
        return set(part.keys) <= set(file.keys)


def _check_pools(job: _Job, file: FeatureFile) -> None:
    """`auto` and `none` share a layer's name in the file: only one of them can be there."""
    for pooled in job.wanted:
        if pooled.key in file.keys and file.about(pooled.key)["pool"] != pooled.pool:
            raise InputError(
                f"{file.path}: layer {pooled.key} is there with --pool "
                f"{file.about(pooled.key)['pool']}; `probe remove {job.backbone.name}` first, or "
                "ask for that pooling."
            )


def _check_room(job: _Job, wanted: list[pooling.Pooled], needed: int) -> None:
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


def _layer(pooled: pooling.Pooled, job: _Job) -> dict[str, Any]:
    names = [layer.name for layer in job.backbone.architecture.layers]
    return {
        "key": pooled.key,
        "dim": pooled.dim,
        "layer": pooled.layer.name,
        "module": pooled.layer.module,
        "pool": pooled.pool,
        "shape": list(pooled.layer.shape),
        "depth": pooled.layer.depth,
        "order": names.index(pooled.layer.name),
    }


def _decisive(job: _Job) -> dict[str, Any]:
    """What decides the numbers in a file, whoever computes them."""
    card, file = job.backbone.architecture.card, job.backbone.weights
    return {
        "backbone": job.backbone.name,
        "network": card.network,
        "options": dict(card.options),
        "layers": {x.name: x.module for x in job.backbone.architecture.layers},
        "preprocessing": preprocess.describe(job.backbone.architecture.input),
        "weights": file.sha256 if file else f"random, seed {job.backbone.seed}",
        "dtype": job.dtype,
        "images": job.study.images_hash,
    }


def _contract(job: _Job) -> str:
    return hashlib.sha256(json.dumps(_decisive(job), sort_keys=True).encode()).hexdigest()


def _check_contract(job: _Job, path: Path) -> None:
    with FeatureFile(path) as file:
        attributes = file.attributes
    if attributes["contract"] == _contract(job):
        return
    before, now = json.loads(attributes["decisive"]), _decisive(job)
    differ = [name for name in now if before.get(name) != now[name]]
    raise InputError(
        f"{path}: made with another {' and '.join(differ)}; `probe remove {job.backbone.name}` "
        "takes it out, or give your card another name to keep both."
    )


def _attributes(job: _Job) -> dict[str, Any]:
    backbone = job.backbone
    card = asdict(backbone.architecture.card)
    card["file"] = None
    file = backbone.weights
    weights = (
        {"file": file.path.name, "sha256": file.sha256, "verified": file.verified}
        if file
        else {"random": True, "seed": backbone.seed}
    )
    made_with = {
        "toolkit": version("transfer-probe"),
        "torch": torch.__version__,
        "h5py": h5py.__version__,
        "numpy": np.__version__,
        "pillow": version("pillow"),
        "decoder": "pillow",
        "device": str(job.device),
        "precision": "float32",
        "threads": torch.get_num_threads(),
        "batch_size": job.batch_size,
    }
    return {
        "backbone": backbone.name,
        "domain": backbone.domain,
        "licence": backbone.architecture.card.licence or "",
        "parameters": backbone.architecture.parameters,
        "preprocessing": preprocess.describe(backbone.architecture.input),
        "images": job.study.images_hash,
        "synthetic": job.study.synthetic,
        "contract": _contract(job),
        "decisive": json.dumps(_decisive(job)),
        "card": json.dumps(card),
        "weights": json.dumps(weights),
        "made_with": json.dumps(made_with),
    }


def _summarise(study: Study, path: Path, target: Rows, result: Extraction) -> None:
    with FeatureFile(path) as file:
        status = file.status
        result.unreadable = {study.paths[row]: why for row, why in file.reasons().items()}
    result.pending = int((status == PENDING).sum())
    assert not (status[target] == PENDING).any()
    assert set(np.unique(status)) <= {PENDING, DONE, UNREADABLE}
