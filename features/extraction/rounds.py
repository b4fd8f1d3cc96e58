"""What the feature file of a backbone still lacks, as one pass over the images after the other.

Nothing here touches a file: `next_round` decides from what the files hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from features.arrays import Ints
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.batches import blocks
from features.extraction.pipeline import ExtractJob, Pass
from features.extraction.provenance import check_contract, check_outputs
from features.store.contents import FileContents
from features.store.featurefile import PENDING
from features.store.paths import partial_of


@dataclass(frozen=True)
class FeatureTarget:
    """What one backbone's file shall hold."""

    job: ExtractJob
    wanted: list[pooling.Pooled]
    rows: Ints
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

    target: FeatureTarget
    wanted: list[pooling.Pooled]
    todo: list[Ints]
    """The batches that are left, each ascending rows."""
    aim: Ints
    """Every row that the pass is for, those done already too."""
    begins: Literal["new", "reopened", "resumed"]
    """The partial file is still to be made, or is the finished one taken up again, or is there."""
    compress: str
    """How the features are compressed when they are finished: `none`, `gzip` or `lzf`."""
    packed: str = "none"
    """How they are compressed in a finished file that is taken up again."""

    @property
    def new(self) -> bool:
        """Whether the partial file is still to be made."""
        return self.begins == "new"

    @property
    def reader(self) -> Pass:
        """What the pipeline is to compute."""
        return Pass(self.target.job, self.wanted)

    @property
    def bytes(self) -> int:
        """The bytes of the features in a new partial file."""
        n, width = len(self.target.job.study), np.dtype(self.target.job.dtype).itemsize
        return n * sum(p.dim for p in self.wanted) * width if self.new else 0


def next_round(
    target: FeatureTarget, finished: FileContents | None, partial: FileContents | None
) -> Round | None:
    """The next pass that a target's file needs; None if it is complete.

    A file in the making is completed first, with its own layers and rows, whatever this run was asked
    for. Then follow the layers that the finished file lacks, and then the rows.

    Args:
        target: What the file shall hold.
        finished: What the finished file holds; None where there is none.
        partial: The same of the file in the making.

    Raises:
        InputError: A file was made with other settings than this run's.
    """
    job = target.job
    if partial is not None:
        check_contract(job, target.partial, partial.attributes)
        check_outputs(job, target.partial, partial)
        left = _left(job, partial, partial.aim)
        compress = target.compress or str(partial.attributes.get("compress", "none"))
        return Round(target, _read_again(job, partial), left, partial.aim, "resumed", compress)
    compress = target.compress or "none"
    if finished is None:
        todo = blocks(job.study, target.rows, job.batch_size)
        return Round(target, _of_one_view(target.wanted), todo, target.rows, "new", compress)
    check_contract(job, target.path, finished.attributes)
    check_outputs(job, target.path, finished)
    _check_pools(target, finished)
    missing = [p for p in target.wanted if p.key not in finished.poolings]
    if missing:
        rows = np.flatnonzero(finished.status != PENDING)
        todo = blocks(job.study, rows, job.batch_size)
        return Round(target, _of_one_view(missing), todo, rows, "new", compress)
    pending = target.rows[finished.status[target.rows] == PENDING]
    if not len(pending):
        return None
    packed = finished.compression
    as_it_was = packed if packed != "none" else str(finished.attributes.get("compress", "none"))
    return Round(
        target,
        _read_again(job, finished),
        _left(job, finished, pending),
        pending,
        "reopened",
        target.compress or as_it_was,
        packed,
    )


def _read_again(job: ExtractJob, held: FileContents) -> list[pooling.Pooled]:
    """The data sets of a file, as the network is read for them."""
    return [
        pooling.pooled(job.backbone.layers((layer,))[0], pool, view)
        for layer, pool, view in held.poolings.values()
    ]


def _left(job: ExtractJob, held: FileContents, rows: Ints) -> list[Ints]:
    """The batches of `rows` that are not wholly done, which are computed again as a whole.

    So every number comes out of the same batch as in an uninterrupted run.
    """
    every = blocks(job.study, rows, job.batch_size)
    return [block for block in every if (held.status[block] == PENDING).any()]


def _of_one_view(wanted: Sequence[pooling.Pooled]) -> list[pooling.Pooled]:
    """Those of the first view: new views are made one after another, rows that came later under all."""
    return [p for p in wanted if p.view == wanted[0].view]


def _check_pools(target: FeatureTarget, finished: FileContents) -> None:
    """`auto` and `none` share a layer's name in the file: only one of them can be there."""
    for pooled in target.wanted:
        if pooled.key in finished.poolings and finished.poolings[pooled.key][1] != pooled.pool:
            there = finished.poolings[pooled.key][1]
            raise InputError(
                f"{target.path}: layer {pooled.key} is there with --pool {there}; `probe remove "
                f"{target.job.backbone.name}` first, or ask for that pooling."
            )
