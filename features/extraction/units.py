"""Units of an extraction: runs of whole batches, each with a file of its own that any process can make.

The file of a unit, a part, is an ordinary feature file of the study in which only the rows of the unit are
done.
It lies in `features/NAME.h5.parts/`, whole or absent, until the command that collects takes its rows into
the feature file, through the writer that computed rows go through too. A batch is computed as a whole, so
every number is the one of an uninterrupted run, wherever its unit was computed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from features.arrays import Ints
from features.errors import InputError, Stopped
from features.extraction.batches import Window, windows
from features.extraction.outages import tried_again
from features.extraction.pipeline import compute
from features.extraction.provenance import (
    batch_size_of,
    contract,
    file_attributes,
    layer_attributes,
    made_by,
)
from features.extraction.rounds import FeatureTarget, Round
from features.extraction.update import grow
from features.machine.pieces import Piece
from features.machine.shares import Share
from features.store.contents import FileContents, contents_of
from features.store.featurefile import DONE, PENDING, UNREADABLE
from features.store.making import create, put_sealed
from features.store.opening import Damaged
from features.store.paths import parts_of
from features.store.writer import Writer

_MOST_BYTES = 512 << 20
_MOST_ROWS = 2048
_FEWEST = 64  # units, where batches allow: so that many shares of a small study have work


@dataclass(frozen=True)
class Unit:
    """A run of windows, and the part of each round that has rows in it."""

    windows: Sequence[Window]
    rows: Mapping[int, Ints]
    """By the number of the round, ascending."""
    parts: Mapping[int, Path]
    """By the number of the round."""

    @property
    def is_made(self) -> bool:
        """Whether all its parts are there."""
        return all(part.is_file() for part in self.parts.values())


def units_of(rounds: Sequence[Round]) -> list[Unit]:
    """The units of what the rounds have to do; the same wherever the command runs."""
    width = [sum(p.dim for p in r.wanted) * np.dtype(r.target.job.dtype).itemsize for r in rounds]
    todo = windows([round_.todo for round_ in rounds])
    in_all = sum(max(len(block) for _, block in window) for window in todo)
    most_rows = min(_MOST_ROWS, -(-in_all // _FEWEST))
    groups: list[list[Window]] = []
    size = rows = 0
    for window in todo:
        more = sum(len(block) * width[number] for number, block in window)
        many = max(len(block) for _, block in window)
        if not groups or size + more > _MOST_BYTES or rows + many > most_rows:
            groups.append([])
            size = rows = 0
        groups[-1].append(window)
        size, rows = size + more, rows + many
    return [_unit(rounds, group) for group in groups]


def _unit(rounds: Sequence[Round], group: list[Window]) -> Unit:
    blocks: dict[int, list[Ints]] = {}
    for window in group:
        for number, block in window:
            blocks.setdefault(number, []).append(block)
    rows = {number: np.sort(np.concatenate(some)) for number, some in blocks.items()}
    return Unit(group, rows, {n: _part(rounds[n], mine) for n, mine in rows.items()})


def _part(round_: Round, rows: Ints) -> Path:
    """The path of a part; its name tells the numbers in it from those of any other part."""
    job = round_.target.job
    about = [contract(job), [p.key for p in round_.wanted], rows.tolist(), job.batch_size]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return parts_of(round_.target.path) / f"{rows[0]:09d}-{digest[:12]}.h5"


def pieces_of(rounds: Sequence[Round]) -> list[Piece]:
    """The units as pieces of work for an engine."""
    return [
        Piece(_name(rounds, unit), partial(_is_made, unit), partial(make_unit, rounds, unit))
        for unit in units_of(rounds)
    ]


def _is_made(unit: Unit) -> bool:
    return unit.is_made


def _name(rounds: Sequence[Round], unit: Unit) -> str:
    rows = np.concatenate(list(unit.rows.values()))
    names = ", ".join(rounds[number].target.job.backbone.name for number in unit.rows)
    return f"rows {rows.min()} to {rows.max()} of {names}"


def make_share(
    rounds: Sequence[Round], share: Share
) -> Iterator[tuple[int, dict[int, tuple[int, dict[int, str]]]]]:
    """Make the units of a share that are not there; yields how many units are left after each.

    With it come, by the number of the round, the rows computed and the reasons of those refused. It ends
    where another command has finished a feature file meanwhile, with or without what this one made.

    Raises:
        InputError: A feature is not finite, or an image is unreadable and the job is strict.
        OSError: A part could not be written, or the images' place does not answer.
        Stopped: The folder of the parts was removed.
    """
    mine = [unit for unit in share.taken(units_of(rounds)) if not unit.is_made]
    before = _finished(rounds)
    for number, unit in enumerate(mine):
        if unit.is_made:  # by the same share, started twice
            continue
        try:
            made = make_unit(rounds, unit)
        except (OSError, InputError) as error:
            if _finished(rounds) != before:  # and so its folder was removed
                return
            if isinstance(error, FileNotFoundError):
                folder = next(iter(unit.parts.values())).parent
                raise Stopped(f"{folder}: was removed meanwhile; run this share again.") from error
            raise
        yield len(mine) - number - 1, made
        if _finished(rounds) != before:
            for part in unit.parts.values():  # too late to be collected
                part.unlink(missing_ok=True)
                with suppress(OSError):  # other parts are there
                    part.parent.rmdir()
            return


def _finished(rounds: Sequence[Round]) -> list[int | None]:
    """What tells every finished file from a later one, which takes its place; None where none is."""
    seen: list[int | None] = []
    for round_ in rounds:
        try:
            seen.append(round_.target.path.stat().st_mtime_ns)
        except FileNotFoundError:
            seen.append(None)
    return seen


def make_unit(rounds: Sequence[Round], unit: Unit) -> dict[int, tuple[int, dict[int, str]]]:
    """Compute a unit and put its parts in place: rows computed, and refused with reasons, by round."""
    done: dict[int, tuple[int, dict[int, str]]] = {}
    making: dict[int, Path] = {}
    try:
        with ExitStack() as stack:
            writers = {}
            for number, rows in unit.rows.items():
                making[number] = _begin_part(rounds[number], unit.parts[number], rows)
                writers[number] = stack.enter_context(Writer(making[number]))
            computing = compute([round_.reader for round_ in rounds], unit.windows)
            for computed in stack.enter_context(closing(computing)):
                for batch in computed.batches:
                    writers[batch.number].write(batch.rows, batch.features)
                    writers[batch.number].refuse(batch.refused)
                    rows_done, refused = done.get(batch.number, (0, {}))
                    done[batch.number] = rows_done + len(batch.rows), refused | batch.refused
        for number, path in making.items():
            put_sealed(path, unit.parts[number])
    finally:
        for path in making.values():
            path.unlink(missing_ok=True)
    return done


def _begin_part(round_: Round, part: Path, rows: Ints) -> Path:
    """Make the file that becomes `part`, under a name that no other process has."""
    job = round_.target.job
    path = part.with_name(f".{part.name}.{socket.gethostname()}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    layers = [layer_attributes(p, job) for p in round_.wanted]
    create(path, len(job.study), rows, layers, job.dtype, file_attributes(job))
    return path


def parts_for(round_: Round, announce: Callable[[str], None]) -> dict[Path, FileContents]:
    """The parts that shares have left for a round, each with its contents and with all rows of the study.

    Parts of other data sets stay for another round. A damaged part is removed, and its rows are computed
    again; so is one whose machine did not see an image that is seen here.

    Raises:
        InputError: A part was made with another toolkit, torch, decoder or other settings.
    """
    wanted = {p.key for p in round_.wanted}
    parts = {}
    for part in sorted(parts_of(round_.target.path).glob("*.h5")):
        try:
            contents = grow(round_.target.job.study, part, contents_of(part))
        except Damaged as error:
            _drop(part, str(error), announce)
            continue
        if contents is None or set(contents.poolings) != wanted:
            continue
        _check_made_alike(part, contents, round_)
        refused = np.flatnonzero(contents.status == UNREADABLE)
        if tried_again(round_.target.job.study, contents, refused) is not contents:
            _drop(part, f"{part}: made where images that are here were not seen", announce)
            continue
        parts[part] = contents
    return parts


def batch_size_of_parts(path: Path) -> int | None:
    """The images per forward pass of the parts of a feature file, by one of them; None where none reads."""
    for part in parts_of(path).glob("*.h5"):
        with suppress(Damaged, FileNotFoundError):
            return batch_size_of(contents_of(part))
    return None


def take_parts(
    round_: Round, parts: Mapping[Path, FileContents], announce: Callable[[str], None]
) -> int:
    """Take rows that are pending in a round's partial file from `parts`, and remove these.

    Returns:
        How many rows were taken.
    """
    taken = 0
    with Writer(round_.target.partial) as writer:
        for part, contents in parts.items():
            try:
                taken += _take(writer, part, contents)
            except Damaged as error:
                _drop(part, str(error), announce)
    return taken


def _drop(part: Path, why: str, announce: Callable[[str], None]) -> None:
    announce(f"{why.partition(';')[0]}; its rows are computed again")
    part.unlink()


def _take(writer: Writer, part: Path, contents: FileContents) -> int:
    rows = np.flatnonzero((contents.status != PENDING) & (writer.status == PENDING))
    with Writer(part) as other:
        writer.take(other, rows[contents.status[rows] == DONE])
    refused = rows[contents.status[rows] == UNREADABLE]
    writer.refuse({int(row): contents.reasons[int(row)] for row in refused})
    writer.sync()
    part.unlink()
    return len(rows)


def _check_made_alike(part: Path, contents: FileContents, round_: Round) -> None:
    then = json.loads(contents.attributes["made_with"])
    for name, now in made_by().items():
        if then.get(name) != now:
            raise InputError(
                f"{part}: made with {name} {then.get(name)}, and this machine has {now}; install the "
                f"same everywhere, or remove the folder {part.parent} and compute it here."
            )
    if then["batch_size"] != round_.target.job.batch_size:
        raise InputError(
            f"{part}: computed in batches of {then['batch_size']}, and this command's are of "
            f"{round_.target.job.batch_size}; give --batch-size {then['batch_size']}, or remove the folder "
            f"{part.parent}."
        )
    if contents.attributes["contract"] != contract(round_.target.job):
        raise InputError(
            f"{part}: made with other settings than this command's; give the options that it was made "
            f"with, or remove the folder {part.parent}."
        )


def sweep_parts(target: FeatureTarget, finished: FileContents) -> str | None:
    """Remove the parts of a finished file, late ones too; a sentence where some hold other data sets.

    A share that is writing one sees that the file is finished, and ends.
    """
    folder = parts_of(target.path)
    if not folder.is_dir():
        return None
    for part in folder.glob("*.h5"):
        with suppress(Damaged):
            contents = contents_of(part)
            if contents is not None and not set(contents.poolings) <= set(finished.poolings):
                return (
                    f"{folder}: holds parts of other layers, poolings or views; run the command that "
                    "shared them without --share, or remove the folder"
                )
    shutil.rmtree(folder, ignore_errors=True)
    return None
