"""The place of rows in a feature file, where they are read and written without HDF5."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from features.arrays import Ints
from features.store.featurefile import runs


@dataclass(frozen=True)
class Place:
    """The place of a data set's rows in the file."""

    dtype: np.dtype[Any]
    width: int
    """Bytes per row."""
    per_chunk: int
    offsets: Ints
    """The offset of every chunk in the file, in bytes."""

    def spans(self, rows: Ints) -> Iterator[tuple[slice, int]]:
        """Runs of ascending rows that are adjacent in the file: slices into `rows`, offsets in the file."""
        for here, there in runs(rows):
            start, row = here.start, there.start
            while start < here.stop:
                chunk, inside = divmod(row, self.per_chunk)
                many = min(here.stop - start, self.per_chunk - inside)
                place = int(self.offsets[chunk]) + inside * self.width
                yield slice(start, start + many), place
                start, row = start + many, row + many


def place_of(data: h5py.Dataset) -> Place:
    """The place of a data set that is not compressed."""
    width = data.dtype.itemsize * (data.shape[1] if data.ndim > 1 else 1)
    if data.chunks is None:
        return Place(data.dtype, width, max(1, data.shape[0]), np.array([data.id.get_offset()]))
    offsets = np.zeros(-(-data.shape[0] // data.chunks[0]), dtype=np.int64)

    def note(chunk: Any) -> None:
        offsets[chunk.chunk_offset[0] // data.chunks[0]] = chunk.byte_offset

    data.id.chunk_iter(note)
    return Place(data.dtype, width, data.chunks[0], offsets)
