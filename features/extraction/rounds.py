"""The passes over the images that the feature file of a backbone still needs.

Nothing here opens a file: `next_round` decides from the contents of the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from features.arrays import Ints
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.batches import blocks
from features.extraction.outages import tried_again
from features.extraction.pipeline import ExtractJob, Pass
from features.extraction.provenance import check_canvases, check_contract, check_outputs
from features.store.contents import FileContents
from features.store.featurefile import PENDING
from features.store.few_rows import are_few
from features.store.paths import partial_of
from features.store.size import bytes_to_be


@dataclass(frozen=True)
class FeatureTarget:
    """The data sets and rows that the file of one backbone should have in the end."""

    job: ExtractJob
    wanted: list[pooling.Pooled]
    rows: Ints
    compress: str | None
    """`none`, `gzip`, `lzf`; None: as in the file."""
    load_arguments: tuple[str, str | None, int, str | None]
    """The arguments of `backbone.load`, with which the workers call it again."""
    tried: set[int] = field(default_factory=set)
    """Rows that this run has tried again: each once, for a file may open that cannot be read."""

    @property
    def path(self) -> Path:
        """The path of the finished file."""
        return self.job.study.feature_path(self.job.backbone.name)

    @property
    def partial(self) -> Path:
        """The path of the partial file."""
        return partial_of(self.path)


@dataclass(frozen=True)
class Round:
    """One pass over images for the file of a target."""

    target: FeatureTarget
    wanted: list[pooling.Pooled]
    todo: list[Ints]
    """The remaining batches, each of ascending rows."""
    aim: Ints
    """Every row of the pass, including those that are done already."""
    begins: Literal["new", "reopened", "resumed"]
    """Whether the partial file must be created, is the finished one opened again, or exists."""
    compress: str
    """How the finished features are compressed: `none`, `gzip` or `lzf`."""
    packed: str = "none"
    """How they are compressed in a finished file that is opened again."""
    again: frozenset[int] = frozenset()
    """The rows among them whose image could not be read before and may be now."""

    @property
    def new(self) -> bool:
        """Whether the partial file must be created."""
        return self.begins == "new"

    @property
    def reader(self) -> Pass:
        """The pass that the pipeline computes."""
        return Pass(self.target.job, self.wanted)

    @property
    def bytes(self) -> int:
        """The bytes of the features in a new partial file: of all rows, or of few."""
        n, width = len(self.target.job.study), np.dtype(self.target.job.dtype).itemsize
        rows = len(self.aim) if are_few(len(self.aim), n) else n
        return rows * sum(p.dim for p in self.wanted) * width if self.new else 0

    @property
    def bytes_on_disk(self) -> int:
        """The same with what the file takes beside them; 0 where it is there already."""
        n, width = len(self.target.job.study), np.dtype(self.target.job.dtype).itemsize
        dims = [p.dim for p in self.wanted]
        return bytes_to_be(n, self.aim, dims, width) if self.new else 0


def next_round(
    target: FeatureTarget, finished: FileContents | None, partial: FileContents | None
) -> Round | None:
    """The next pass that a target's file needs; None if it is complete.

    A partial file is completed first, with its own layers and rows, whatever this run was asked for.
    Then follow the layers that the finished file lacks, and then the rows; among these are rows whose image
    was missing and is there now.

    Args:
        target: The data sets and rows that the file should have.
        finished: The contents of the finished file; None where there is none.
        partial: The same of the partial file.

    Raises:
        InputError: A file was computed with other settings than this run's.
    """
    job = target.job
    if partial is not None:
        check_contract(job, target.partial, partial.attributes)
        check_outputs(job, target.partial, partial)
        check_canvases(job, target.partial, partial)
        left = _left(job, partial, partial.aim)
        compress = target.compress or str(partial.attributes.get("compress", "none"))
        return Round(target, _read_again(job, partial), left, partial.aim, "resumed", compress)
    compress = target.compress or "none"
    if finished is None:
        todo = blocks(job.study, target.rows, job.batch_size)
        return Round(target, _of_one_view(target.wanted), todo, target.rows, "new", compress)
    check_contract(job, target.path, finished.attributes)
    check_outputs(job, target.path, finished)
    untried = np.setdiff1d(target.rows, np.array(sorted(target.tried), dtype=np.int64))
    again = tried_again(job.study, finished, untried)
    _check_pools(target, finished)
    missing = [p for p in target.wanted if p.key not in finished.poolings]
    if missing:
        rows = np.flatnonzero(finished.status != PENDING)
        todo = blocks(job.study, rows, job.batch_size)
        return Round(target, _of_one_view(missing), todo, rows, "new", compress)
    pending = target.rows[finished.status[target.rows] == PENDING]
    if again is not finished:  # with the rows of their batches, so that the numbers are the same
        pending = np.flatnonzero(finished.status != PENDING)
    if not len(pending):
        return None
    check_canvases(job, target.path, finished)
    packed = finished.compression
    as_it_was = packed if packed != "none" else str(finished.attributes.get("compress", "none"))
    return Round(
        target,
        _read_again(job, finished),
        _left(job, again, pending),
        pending,
        "reopened",
        target.compress or as_it_was,
        packed,
        frozenset(np.flatnonzero(again.status != finished.status).tolist()),
    )


def _read_again(job: ExtractJob, contents: FileContents) -> list[pooling.Pooled]:
    """The data sets of a file, all of which are computed again."""
    return [
        pooling.pooled(job.backbone.layers((layer,))[0], pool, view)
        for layer, pool, view in contents.poolings.values()
    ]


def _left(job: ExtractJob, contents: FileContents, rows: Ints) -> list[Ints]:
    """The batches of `rows` that are not completely done; all their rows are computed again.

    So every number is computed in the same batch as in an uninterrupted run.
    """
    every = blocks(job.study, rows, job.batch_size)
    return [block for block in every if (contents.status[block] == PENDING).any()]


def _of_one_view(wanted: Sequence[pooling.Pooled]) -> list[pooling.Pooled]:
    """The data sets of the first view: new views are computed one after another."""
    return [p for p in wanted if p.view == wanted[0].view]


def _check_pools(target: FeatureTarget, finished: FileContents) -> None:
    """Refuse `auto` beside `none`: both are stored under the layer's name, so a file can have only one."""
    for pooled in target.wanted:
        if pooled.key in finished.poolings and finished.poolings[pooled.key][1] != pooled.pool:
            stored = finished.poolings[pooled.key][1]
            raise InputError(
                f"{target.path}: has layer {pooled.key} with --pool {stored}; `probe remove "
                f"{target.job.backbone.name}` first, or ask for that pooling."
            )
