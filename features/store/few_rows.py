"""Feature files of which few rows are wanted: only those take space on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from features.arrays import Ints
from features.store.draft import reserve_spans
from features.store.opening import open_file
from features.store.places import Place, place_of

_AT_ONCE = 1024


def are_few(rows: int, n: int) -> bool:
    """Whether so many of `n` rows are worth a file with gaps."""
    return 2 * rows < n


def bytes_on_disk(path: Path) -> int:
    """The bytes that a file takes on the disk, without its gaps."""
    about = path.stat()
    return min(about.st_size, getattr(about, "st_blocks", about.st_size) * 512)


def reserve_rows(path: Path, rows: Ints) -> None:
    """Reserve disk space for the features and checksums of `rows`.

    Raises:
        OSError: The disk is full.
    """
    places = _places(path).values()
    reserve_spans(
        path,
        (
            (start, (here.stop - here.start) * place.width)
            for place in places
            for here, start in place.spans(rows)
        ),
    )


def copy_rows(sources: Sequence[h5py.File], path: Path, rows: Ints) -> None:
    """Write the features and checksums of `rows` from other files into the file `path`.

    Raises:
        OSError: The disk is full.
    """
    places = _places(path)
    with path.open("r+b") as file:
        for source in sources:
            for name, data in _data_sets(source):
                if name not in places:  # checksums of a layer that is not there any more
                    continue
                for start in range(0, len(rows), _AT_ONCE):
                    piece = rows[start : start + _AT_ONCE]
                    values = np.ascontiguousarray(data[piece])
                    for here, offset in places[name].spans(piece):
                        _write(file.fileno(), values[here].tobytes(), offset)


def _write(descriptor: int, left: bytes, offset: int) -> None:
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def _places(path: Path) -> dict[str, Place]:
    with open_file(path) as file:
        return {name: place_of(data) for name, data in _data_sets(file)}


def _data_sets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    for group in ("layers", "checksums"):
        for key, data in file[group].items():
            yield f"{group}/{key}", data
