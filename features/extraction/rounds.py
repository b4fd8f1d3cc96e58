"""What the feature file of a backbone still lacks, as passes over the images; beginning and ending them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.filesize import decimal

from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.batches import Rows, blocks, first_of_path
from features.extraction.pipeline import Computed, Job, Pass
from features.extraction.provenance import (
    check_contract,
    file_attributes,
    layer_attributes,
    made_with,
)
from features.extraction.update import grow
from features.store.featurefile import PENDING, FeatureFile, partial_of
from features.store.making import compression, copy, create, finish
from features.store.writer import Writer
from features.study.study import Study


@dataclass(frozen=True)
class Target:
    """What one backbone's file shall hold."""

    job: Job
    wanted: list[pooling.Pooled]
    rows: Rows
    compress: str | None
    """`none`, `gzip`, `lzf`; None: as the file is."""
    given: tuple[str, str | None, int]
    """What `backbone.load` was called with, for the workers to call it again."""

    @property
    def path(self) -> Path:
        """The finished file."""
        return self.job.study.feature_path(self.job.backbone.name)

    @property
    def partial(self) -> Path:
        """The file in the making."""
        return partial_of(self.path)


@dataclass(frozen=True)
class Round:
    """One pass over images that brings a target's file further."""

    target: Target
    wanted: list[pooling.Pooled]
    todo: list[Rows]
    aim: Rows
    """Every row that the pass is for, those done already too."""
    new: bool
    """The partial file is still to be made."""

    @property
    def reader(self) -> Pass:
        """What the pipeline is to compute."""
        return Pass(self.target.job, self.wanted)

    @property
    def bytes(self) -> int:
        """Of the features in a new partial file."""
        n, width = len(self.target.job.study), np.dtype(self.target.job.dtype).itemsize
        return n * sum(p.dim for p in self.wanted) * width if self.new else 0


def batch_size_of(study: Study, name: str, default: int) -> int:
    """Images per forward pass in the file that is there, begun or finished; else the default."""
    path = study.feature_path(name)
    for there in (partial_of(path), path):
        if there.is_file():
            return int(made_with(there).get("batch_size", default))
    return default


def next_round(target: Target) -> Round | None:
    """The pass that the file as it is needs next, or None if it is as it shall be.

    Raises:
        InputError: The file was made with something else than this run would make it with.
    """
    path, partial, job = target.path, target.partial, target.job
    while True:
        if partial.is_file():
            if path.is_file() and _is_merged(partial, path):
                partial.unlink()  # killed between the two steps of a merge
                continue
            grow(job.study, partial)
            grow(job.study, path)
            check_contract(job, partial)
            return _resumed(target)
        if not path.is_file():
            todo = blocks(job.study, target.rows, job.batch_size)
            return Round(target, _of_one_view(target.wanted), todo, target.rows, new=True)
        grow(job.study, path)
        check_contract(job, path)
        with FeatureFile(path) as file:
            missing = {p.key for p in target.wanted} - set(file.stored)
            _check_pools(target, file)
            status = file.status
        pending = target.rows[status[target.rows] == PENDING]
        if missing:
            more = _of_one_view([p for p in target.wanted if p.key in missing])
            rows = np.flatnonzero(status != PENDING)
            return Round(target, more, blocks(job.study, rows, job.batch_size), rows, new=True)
        if not len(pending):
            return None
        packed = compression(path)
        if packed != "none":
            copy(path, partial, compress="none", attributes={"compress": packed})
            path.unlink()
        else:
            path.rename(partial)
        with Writer(partial) as writer:
            writer.aim(pending)


def _resumed(target: Target) -> Round:
    """Go on with a partial file: its own layers and rows, whatever this run was asked for.

    A batch that is not wholly done is computed again as a whole, so that every number comes out of
    the same batch as in an uninterrupted run.
    """
    job = target.job
    with Writer(target.partial) as writer:
        aim, status = writer.aimed, writer.status
        pools = [writer.about(key) for key in writer.keys]
    wanted = [pooling.pooled(job.backbone.layers((layer,))[0], *how) for layer, *how in pools]
    left = [
        block
        for block in blocks(job.study, aim, job.batch_size)
        if (status[block] == PENDING).any()
    ]
    return Round(target, wanted, left, aim, new=False)


def _of_one_view(wanted: list[pooling.Pooled]) -> list[pooling.Pooled]:
    """Those of the first view: new views are made one after another, rows that came later under all."""
    return [p for p in wanted if p.view == wanted[0].view]


def make_files(rounds: Sequence[Round]) -> None:
    """Make the partial files of those rounds that have none."""
    for one in rounds:
        if one.new:
            job = one.target.job
            create(
                one.target.partial,
                len(job.study),
                one.aim,
                [layer_attributes(p, job) for p in one.wanted],
                job.dtype,
                {**file_attributes(job), "compress": one.target.compress or "none"},
            )


def check_room(rounds: Sequence[Round], folder: Path) -> None:
    """Refuse what will not fit on the disk.

    Raises:
        InputError: With the bytes needed, the bytes there are, and the pooling that would fit.
    """
    needed = sum(one.bytes for one in rounds)
    # A merge, and compressing, write the file a second time before the first goes away.
    again = sum(_written_again(one) for one in rounds if one.new)
    while not folder.exists():
        folder = folder.absolute().parent
    free = shutil.disk_usage(folder).free
    if needed + again <= free:
        return
    pools = [(one, p) for one in rounds if one.new for p in one.wanted]
    widest = max((p for _, p in pools), key=lambda p: p.dim)
    room = widest.dim * 0.9 * free / (needed + again)
    names = ", ".join(one.target.job.backbone.name for one in rounds)
    more = f" and {decimal(again)} while its file is written anew" if again else ""
    raise InputError(
        f"{names}: its features need {decimal(needed)}{more}, and {folder} has {decimal(free)} "
        f"free; --pool {pooling.fitting(widest.layer, room)} or fewer layers would fit."
    )


def write(writers: Sequence[Writer], computed: Computed) -> None:
    """Write what came out of one window."""
    for batch in computed.batches:
        writers[batch.number].write(batch.rows, batch.features)
        writers[batch.number].refuse(batch.refused)


def end(one: Round, writer: Writer) -> None:
    """Give rows that list an image again what its first row has."""
    aim, status = writer.aimed, writer.status
    rows = aim[status[aim] == PENDING]
    writer.repeat(rows, first_of_path(one.target.job.study)[rows])


def put_in_place(one: Round) -> None:
    """Make the partial file the finished one."""
    finish(one.target.partial, one.target.path, one.target.compress)


def _written_again(one: Round) -> int:
    path = one.target.path
    if path.is_file():
        return one.bytes + path.stat().st_size
    return one.bytes if one.target.compress not in (None, "none") else 0


def _is_merged(partial: Path, path: Path) -> bool:
    with FeatureFile(path) as file, FeatureFile(partial) as part:
        return set(part.stored) <= set(file.stored)


def _check_pools(target: Target, file: FeatureFile) -> None:
    """`auto` and `none` share a layer's name in the file: only one of them can be there."""
    there = set(file.stored)
    for pooled in target.wanted:
        if pooled.key in there and file.about(pooled.key)["pool"] != pooled.pool:
            raise InputError(
                f"{file.path}: layer {pooled.key} is there with --pool "
                f"{file.about(pooled.key)['pool']}; `probe remove {file.backbone}` first, or "
                "ask for that pooling."
            )
