"""The feature files of a run on disk: examined, created, filled and finished."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.filesize import decimal

from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.batches import first_of_path
from features.extraction.pipeline import Computed
from features.extraction.provenance import file_attributes, layer_attributes
from features.extraction.rounds import Round
from features.extraction.update import grow
from features.machine.locks import lock_of, locked
from features.store.contents import FileContents, contents_of
from features.store.featurefile import PENDING
from features.store.few_rows import bytes_on_disk
from features.store.making import copy, create, finish, sweep
from features.store.paths import partial_of
from features.store.writer import Writer
from features.study.study import Study

Files = tuple[FileContents | None, FileContents | None]
"""The contents of the finished file and of the partial one, None where there is none."""


def lock_files(locks: ExitStack, paths: Sequence[Path]) -> None:
    """Lock the feature files at `paths` until `locks` is closed.

    Raises:
        InputError: Another process holds one of them.
    """
    for path in sorted(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        locks.enter_context(locked(lock_of(path), str(path)))


def files_on_disk(study: Study, path: Path) -> Files:
    """The contents of a backbone's files, after repairing what a killed run left.

    Args:
        study: The study, whose new rows are added to the files.
        path: The finished file, which this process has locked.

    Raises:
        InputError: One of them is not an intact feature file.
    """
    sweep(path)
    finished, partial = without_merged(path)
    return grow(study, path, finished), grow(study, partial_of(path), partial)


def without_merged(path: Path) -> Files:
    """The contents of a backbone's files; a partial file whose layers the finished one has is removed.

    A process that was killed between the two steps of a merge leaves it. The caller has locked the file.

    Raises:
        InputError: One of them is not an intact feature file.
    """
    finished, partial = contents_of(path), contents_of(partial_of(path))
    if finished and partial and set(partial.poolings) <= set(finished.poolings):
        partial_of(path).unlink()
        partial = None
    return finished, partial


def make_files(rounds: Sequence[Round]) -> None:
    """Create the partial files of rounds that have none."""
    for round_ in rounds:
        target = round_.target
        if round_.begins == "new":
            create(
                target.partial,
                len(target.job.study),
                round_.aim,
                [layer_attributes(p, target.job) for p in round_.wanted],
                target.job.dtype,
                {**file_attributes(target.job), "compress": target.compress or "none"},
            )
        elif round_.begins == "reopened":
            _reopen(round_)


def _reopen(round_: Round) -> None:
    """Turn a finished file into a partial one again, to add rows that it was not asked for before.

    The aim is written while the finished file is there, whose aim nothing reads: a partial file with half
    an aim, of a run that was killed as it wrote it, would be completed in other batches.
    """
    target = round_.target
    if round_.packed != "none":
        changed = {
            "compress": round_.packed
        }  # for a later run, should this one end before it is compressed again
        copy(target.path, target.partial, compress="none", attributes=changed)
        _aim(target.partial, round_)
        target.path.unlink()
    else:
        _aim(target.path, round_)
        target.path.rename(target.partial)
    if round_.todo:  # none where other attributes alone are written
        with Writer(target.partial) as writer:
            writer.forget(np.concatenate(round_.todo))


def _aim(path: Path, round_: Round) -> None:
    with Writer(path) as writer:
        writer.aim(round_.aim)


def check_room(rounds: Sequence[Round], folder: Path) -> None:
    """Refuse features that will not fit on the disk.

    Raises:
        InputError: They do not; the message has the bytes needed and free, and a pooling that fits.
    """
    needed = sum(round_.bytes for round_ in rounds)
    # A merge, and compressing, write the file a second time before the first goes away.
    again = sum(_written_again(round_) for round_ in rounds if round_.new)
    while not folder.exists():
        folder = folder.absolute().parent
    free = shutil.disk_usage(folder).free
    if needed + again <= free:
        return
    widest = max((p for r in rounds if r.new for p in r.wanted), key=lambda p: p.dim)
    room = widest.dim * 0.9 * free / (needed + again)
    names = ", ".join(round_.target.job.backbone.name for round_ in rounds)
    more = f" and {decimal(again)} while its file is rewritten" if again else ""
    raise InputError(
        f"{names}: its features need {decimal(needed)}{more}, and {folder} has {decimal(free)} "
        f"free; --pool {pooling.fitting(widest.layer, room)} or fewer layers would fit."
    )


def write(writers: Sequence[Writer], computed: Computed) -> None:
    """Write the batches of a window."""
    for batch in computed.batches:
        writers[batch.number].write(batch.rows, batch.features)
        writers[batch.number].refuse(batch.refused)


def fill_repeats(round_: Round, writer: Writer) -> None:
    """Copy features to rows that list an image again, from its first row."""
    aim, status = writer.aimed, writer.status
    rows = aim[status[aim] == PENDING]
    writer.repeat(rows, first_of_path(round_.target.job.study)[rows])


def put_in_place(round_: Round) -> None:
    """Turn the partial file into the finished one."""
    finish(round_.target.partial, round_.target.path, round_.compress)


def _written_again(round_: Round) -> int:
    """Bytes of the second copy that is written before the first is deleted."""
    path = round_.target.path
    if path.is_file():
        return round_.bytes + bytes_on_disk(path)
    return round_.bytes if round_.target.compress not in (None, "none") else 0
