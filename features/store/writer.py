"""Writing rows into a partial feature file, in place and resumable at any moment.

All space of such a file is allocated when making.py creates it, and its data sets are chunked in whole
rows without filters. So a row has a fixed place in the file and is written there without HDF5: features
and checksums, then the status. A process killed at any moment leaves a valid file and loses at most the
batches in progress, and several processes may write rows of their own at the same time.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from features.arrays import Ints
from features.errors import InputError
from features.machine.locks import locked_open
from features.store.featurefile import DONE, PENDING, REASON_BYTES, UNREADABLE, pooling_of
from features.store.opening import Damaged, open_file, remedy
from features.store.places import place_of

_DIRTY_BYTES = 1 << 28
_AT_ONCE = 64  # rows
_sync = getattr(os, "fdatasync", os.fsync)  # only Linux can sync without the time stamps


class Writer:
    """A partial feature file, which no process may write but this run's own workers."""

    def __init__(self, path: Path, *, alone: bool = True) -> None:
        """Open the partial file `path`, made by `create`, for writing.

        With `alone=False` another writer of this run holds the file's lock.

        Raises:
            InputError: Another process is writing it, or it is not a feature file.
        """
        self.path = path
        with open_file(path, locking=alone) as file:
            names = ["status", "aim", "reasons"]
            names += [f"{g}/{key}" for g in ("layers", "checksums") for key in file[g]]
            if lost := [name for name in names if name not in file]:
                raise Damaged(f"{path}: has no /{lost[0]}, so no row can be added; {remedy(path)}")
            self._places = {name: place_of(file[name]) for name in names}
            self._n = int(file["status"].shape[0])
            self._about = {key: pooling_of(data) for key, data in file["layers"].items()}
        self._file = path.open("r+b", buffering=0)
        self._fd = self._file.fileno()
        self._dirty = 0
        self._lock = ExitStack()
        if alone:
            try:
                refusal = f"{path}: another process is using it; wait until it has ended."
                self._lock.enter_context(locked_open(self._fd, path, refusal))
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; what was written stays."""
        self._file.close()
        self._lock.close()

    @property
    def keys(self) -> list[str]:
        """The data sets in the file."""
        return list(self._about)

    def about(self, key: str) -> tuple[str, str, str]:
        """The layer, the pooling and the view of one data set."""
        return self._about[key]

    @property
    def aimed(self) -> Ints:
        """The rows that this file's run is to compute."""
        return np.flatnonzero(self._read("aim", np.arange(self._n)))

    def aim(self, rows: Ints) -> None:
        """Record that this run is to compute `rows`."""
        self._write("aim", np.arange(self._n), np.isin(np.arange(self._n), rows).astype(np.uint8))

    @property
    def status(self) -> npt.NDArray[np.uint8]:
        """0 pending, 1 done, 2 unreadable; `(n,)`."""
        return self._read("status", np.arange(self._n))

    def write(self, rows: Ints, features: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write features of `rows` (ascending) for every layer, then mark the rows done.

        Raises:
            InputError: An array is not `(len(rows), dim)`; nothing is written then.
        """
        self._check(rows, features)
        for key, values in features.items():
            place = self._places[f"layers/{key}"]
            values = np.ascontiguousarray(values, dtype=place.dtype)
            sums = np.array([zlib.crc32(row.data) for row in values], dtype=np.uint32)
            self._write(f"layers/{key}", rows, values)
            self._write(f"checksums/{key}", rows, sums)
            self._dirty += values.nbytes
        self._mark(rows, DONE)
        if self._dirty > _DIRTY_BYTES:
            # so that unwritten pages never fill the memory, and a power cut loses little
            _sync(self._fd)
            self._dirty = 0

    def _check(self, rows: Ints, features: Mapping[str, npt.NDArray[Any]]) -> None:
        if len(rows) and set(features) != set(self._about):
            odd = ", ".join(sorted(set(features) ^ set(self._about)))
            raise InputError(f"{self.path}: holds other layers than were computed ({odd}).")
        for key, values in features.items():
            place = self._places[f"layers/{key}"]
            expected = (len(rows), place.width // place.dtype.itemsize)
            if values.shape != expected:
                raise InputError(
                    f"{self.path}: layer {key} gave an array of {values.shape} in place of {expected}, "
                    "a row for each image; nothing of this batch is written, leave the layer out."
                )

    def take(self, other: Writer, rows: Ints) -> None:
        """Write features of `rows` (ascending) as they are in another file of the same data sets.

        Raises:
            Damaged: A row in the other file has changed since it was written; rows before it are taken.
        """
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            features = {key: other._read(f"layers/{key}", some) for key in self.keys}
            for key, values in features.items():
                sums = other._read(f"checksums/{key}", some)
                if [zlib.crc32(row.data) for row in values] != sums.tolist():
                    raise Damaged(f"{other.path}: layer {key} has changed on disk; remove it.")
            self.write(some, features)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        _sync(self._fd)
        self._dirty = 0

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """Mark rows as unreadable, each with its reason."""
        rows = np.array(sorted(reasons), dtype=np.int64)
        texts = [reasons[row].encode("utf-8", "replace")[:REASON_BYTES] for row in rows.tolist()]
        self._write("reasons", rows, np.array(texts, dtype=f"S{REASON_BYTES}"))
        self._mark(rows, UNREADABLE)

    def forget(self, rows: Ints) -> None:
        """Mark those of `rows` that are unreadable as pending again."""
        self._mark(rows[self.status[rows] == UNREADABLE], PENDING)

    def repeat(self, rows: Ints, first_rows: Ints) -> None:
        """Copy features, or the reason for none, of `first_rows` to `rows`: both list the same images."""
        status = self.status
        for row, first in zip(rows.tolist(), first_rows.tolist(), strict=True):
            there = np.array([first])
            if status[first] == DONE:
                features = {key: self._read(f"layers/{key}", there) for key in self.keys}
                self.write(np.array([row]), features)
            elif status[first] == UNREADABLE:
                self.refuse({row: self._read("reasons", there)[0].decode("utf-8", "replace")})

    def _mark(self, rows: Ints, status: int) -> None:
        self._write("status", rows, np.full(len(rows), status, dtype=np.uint8))

    def _write(self, name: str, rows: Ints, values: npt.NDArray[Any]) -> None:
        for here, start in self._places[name].spans(rows):
            left = np.ascontiguousarray(values[here]).data.cast("B")
            while left:
                written = os.pwrite(self._fd, left, start)
                left, start = left[written:], start + written

    def _read(self, name: str, rows: Ints) -> npt.NDArray[Any]:
        place = self._places[name]
        parts = []
        for here, start in place.spans(rows):
            size = (here.stop - here.start) * place.width
            parts.append(os.pread(self._fd, size, start))
        many = place.width // place.dtype.itemsize
        values = np.frombuffer(bytearray().join(parts), dtype=place.dtype)
        return values.reshape(len(rows), many) if name.startswith("layers/") else values
