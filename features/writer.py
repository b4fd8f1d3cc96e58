"""Writing the feature file: rows in place, resumable at any moment; making, merging, growing files.

All space of a file in the making is allotted at its creation, and its data sets are chunked in whole
rows without filters. So a row has its place in the file once and for all, and is written there past
HDF5: features and checksums, then the status. A process killed at any moment leaves a whole file and
loses at most the batches under way, and several processes may write rows of their own side by side.
"""

from __future__ import annotations

import errno
import fcntl
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from features.errors import InputError
from features.featurefile import (
    DONE,
    FORMAT,
    PENDING,
    UNREADABLE,
    VERSION,
    open_file,
    runs,
    seal,
)

FILTERS = {"none": {}, "lzf": {"shuffle": True, "compression": "lzf"}} | {
    "gzip": {"shuffle": True, "compression": "gzip", "compression_opts": 1}
}
_CHUNK_BYTES = 1 << 20
_REASON_BYTES = 96
_SLACK_BYTES = 1 << 16
_DIRTY_BYTES = 1 << 28
_PART_BYTES = 1 << 26


@dataclass(frozen=True)
class _Place:
    """Where the rows of one data set lie in the file."""

    dtype: np.dtype[Any]
    width: int
    """Bytes of a row."""
    per_chunk: int
    offsets: npt.NDArray[np.int64]
    """Of every chunk in the file."""

    def spans(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[slice, int]]:
        """Runs of ascending rows that lie side by side: slices into `rows`, and where they begin."""
        for here, there in runs(rows):
            start, row = here.start, there.start
            while start < here.stop:
                chunk, inside = divmod(row, self.per_chunk)
                many = min(here.stop - start, self.per_chunk - inside)
                place = int(self.offsets[chunk]) + inside * self.width
                yield slice(start, start + many), place
                start, row = start + many, row + many


class Writer:
    """A feature file in the making; the only one that may write it, but for its own workers."""

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
            self._places = {name: _place(file[name]) for name in names}
            self._n = int(file["status"].shape[0])
            self._about = {
                key: (str(data.attrs["layer"]), str(data.attrs["pool"]))
                for key, data in file["layers"].items()
            }
        self._file = path.open("r+b", buffering=0)
        self._fd = self._file.fileno()
        self._dirty = 0
        if alone:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._file.close()
                raise InputError(
                    f"{path}: another process is using it; wait until it has ended."
                ) from error

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

    @property
    def keys(self) -> list[str]:
        """The data sets in the file."""
        return list(self._about)

    def about(self, key: str) -> tuple[str, str]:
        """The layer and the pooling of one data set."""
        return self._about[key]

    @property
    def aimed(self) -> npt.NDArray[np.int64]:
        """The rows that this file's run sets out to compute."""
        return np.flatnonzero(self._read("aim", np.arange(self._n)))

    def aim(self, rows: npt.NDArray[np.int64]) -> None:
        """Set out to compute `rows`."""
        self._write("aim", np.arange(self._n), _mask(self._n, rows))

    @property
    def status(self) -> npt.NDArray[np.uint8]:
        """As in FeatureFile."""
        return self._read("status", np.arange(self._n))

    def write(self, rows: npt.NDArray[np.int64], features: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write features of `rows` (ascending) for every layer, then mark the rows done."""
        for key, values in features.items():
            place = self._places[f"layers/{key}"]
            values = np.ascontiguousarray(values, dtype=place.dtype)
            sums = np.array([zlib.crc32(row.data) for row in values], dtype=np.uint32)
            self._write(f"layers/{key}", rows, values)
            self._write(f"checksums/{key}", rows, sums)
            self._dirty += values.nbytes
        self._mark(rows, DONE)
        if self._dirty > _DIRTY_BYTES:
            # So that memory never fills with pages to be written, and a power cut loses little.
            os.fdatasync(self._fd)
            self._dirty = 0

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """Mark rows as unreadable, each with its reason."""
        rows = np.array(sorted(reasons), dtype=np.int64)
        texts = [reasons[row].encode("utf-8", "replace")[:_REASON_BYTES] for row in rows.tolist()]
        self._write("reasons", rows, np.array(texts, dtype=f"S{_REASON_BYTES}"))
        self._mark(rows, UNREADABLE)

    def repeat(self, rows: npt.NDArray[np.int64], sources: npt.NDArray[np.int64]) -> None:
        """Give `rows` what `sources` hold, features or refusal: the same image listed twice."""
        status = self.status
        for row, source in zip(rows.tolist(), sources.tolist(), strict=True):
            there = np.array([source])
            if status[source] == DONE:
                held = {key: self._read(f"layers/{key}", there) for key in self.keys}
                self.write(np.array([row]), held)
            elif status[source] == UNREADABLE:
                self.refuse({row: self._read("reasons", there)[0].decode("utf-8", "replace")})

    def _mark(self, rows: npt.NDArray[np.int64], status: int) -> None:
        self._write("status", rows, np.full(len(rows), status, dtype=np.uint8))

    def _write(self, name: str, rows: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
        for here, start in self._places[name].spans(rows):
            left = np.ascontiguousarray(values[here]).data.cast("B")
            while left:
                written = os.pwrite(self._fd, left, start)
                left, start = left[written:], start + written

    def _read(self, name: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        place = self._places[name]
        parts = []
        for here, start in place.spans(rows):
            size = (here.stop - here.start) * place.width
            parts.append(os.pread(self._fd, size, start))
        many = place.width // place.dtype.itemsize
        found = np.frombuffer(bytearray().join(parts), dtype=place.dtype)
        return found.reshape(len(rows), many) if name.startswith("layers/") else found


def create(
    path: Path,
    n: int,
    aim: npt.NDArray[np.int64],
    layers: Sequence[Mapping[str, Any]],
    dtype: str,
    attributes: Mapping[str, Any],
) -> None:
    """Make an empty partial file with room for `n` rows of every layer.

    Args:
        path: The file to make.
        n: Rows.
        aim: The rows that will be computed.
        layers: For each data set its `key`, `dim` and the attributes the format asks for.
        dtype: `float32` or `float16`.
        attributes: The root attributes besides `format` and `version`.
    """
    width = np.dtype(dtype).itemsize
    size = sum(n * (layer["dim"] * width + 4) for layer in layers) + _SLACK_BYTES + 98 * n
    with _making(path, size) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.attrs.update(attributes)
        _rows(file, n, aim)
        for order, layer in enumerate(layers):
            _allot(file, "layers/" + layer["key"], (n, layer["dim"]), np.dtype(dtype), "none")
            _allot(file, "checksums/" + layer["key"], (n,), np.dtype(np.uint32), "none")
            found = file["layers/" + layer["key"]].attrs
            for name in ("layer", "module", "pool", "shape", "depth"):
                found[name] = layer[name]
            found["order"] = layer.get("order", order)


def finish(partial: Path, finished: Path, compress: str | None = None) -> None:
    """Seal `partial` and make it `finished`, or put its layers beside those there, in one step.

    Args:
        partial: A file with every row of its aim done or unreadable.
        finished: The file that stands under its own name, whether it is there or not.
        compress: `gzip`, `lzf` or `none`; None: as the file says it shall be. Layers that join others
            are compressed as those are.
    """
    if compress is None:
        with open_file(partial) as file:
            compress = str(file.attrs.get("compress", "none"))
    if finished.is_file():
        merge(partial, finished)
    elif compress != "none":
        copy(partial, finished, compress=compress)
        partial.unlink()
    else:
        _seal(partial)
        partial.rename(finished)
    _sync(finished.parent)


def merge(partial: Path, finished: Path) -> None:
    """Put the layers of `partial` beside those of `finished`, in one step for a reader."""
    size = finished.stat().st_size + partial.stat().st_size
    with (
        open_file(finished) as old,
        open_file(partial) as new,
        _making(finished, size, ".merging") as to,
    ):
        to.attrs.update(old.attrs)
        first, second = old["status"][:], new["status"][:]
        # Unreadable in either is unreadable, and a row is done only where both are.
        refused = (first == UNREADABLE) | (second == UNREADABLE)
        n = len(first)
        compress = _compression(old)
        _rows(to, n, np.flatnonzero(old["aim"][:]) if "aim" in old else np.arange(n))
        to["status"][:] = np.where(refused, UNREADABLE, np.minimum(first, second))
        to["reasons"][:] = np.where(first == UNREADABLE, old["reasons"][:], new["reasons"][:])
        for file in (old, new):
            _layers(file, to, n, compress)
    partial.unlink()


def copy(
    source: Path,
    target: Path,
    *,
    n: int | None = None,
    compress: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write `source` anew as `target`, in one step for a reader; new rows at its end are pending.

    Args:
        source: A feature file.
        target: What to write; `source` itself may be replaced.
        n: Rows, at least as many as there are; None: as many.
        compress: `gzip`, `lzf` or `none`; None leaves that as it is.
        attributes: Root attributes to change.
    """
    with open_file(source) as old:
        rows = int(old["status"].shape[0])
        n = rows if n is None else n
        size = source.stat().st_size * n // max(rows, 1) + _SLACK_BYTES
        with _making(target, size, ".merging") as to:
            to.attrs.update(old.attrs)
            to.attrs.update(attributes or {})
            _rows(to, n, np.flatnonzero(old["aim"][:]) if "aim" in old else np.arange(rows))
            to["status"][:rows] = old["status"][:]
            if "reasons" in old:
                to["reasons"][:rows] = old["reasons"][:]
            _layers(old, to, n, compress)


def compression(path: Path) -> str:
    """How the features in a file are compressed: `none`, `gzip` or `lzf`."""
    with open_file(path) as file:
        return _compression(file)


def reserve(path: Path, size: int) -> None:
    """Give `path` disk space for `size` bytes; HDF5 crashes where a later write finds none.

    Raises:
        OSError: The disk is full.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("ab") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                path.unlink()
                raise


@contextmanager
def _making(path: Path, size: int, suffix: str = ".new") -> Iterator[h5py.File]:
    """A new HDF5 file that becomes `path`, sealed and on disk, when the block ends well."""
    making = path.with_name(path.name + suffix)
    reserve(making, size)
    with h5py.File(making, "w") as file:
        yield file
        file["seal"][:] = np.frombuffer(seal(file), dtype=np.uint8)
    reserve(making, making.stat().st_size)
    _sync(making)
    os.replace(making, path)  # noqa: PTH105 - one step, whatever is there


def _rows(file: h5py.File, n: int, aim: npt.NDArray[np.int64]) -> None:
    """The data sets that are not features, with every row pending."""
    file["status"] = np.full(n, PENDING, dtype=np.uint8)
    file["aim"] = _mask(n, aim)
    file["reasons"] = np.zeros(n, dtype=f"S{_REASON_BYTES}")
    file["seal"] = np.zeros(32, dtype=np.uint8)


def _layers(file: h5py.File, to: h5py.File, n: int, compress: str | None) -> None:
    """Copy every layer of `file` with its checksums into `to`, which has `n` rows."""
    for key, data in file["layers"].items():
        as_it_is = str(data.compression or "none")
        for name in (f"layers/{key}", f"checksums/{key}"):
            old = file[name]
            kind = "none" if name.startswith("checksums/") else compress or as_it_is
            if n == old.shape[0] and kind == str(old.compression or "none"):
                file.copy(name, to.require_group(name.split("/")[0]), name=key)
                continue
            _allot(to, name, (n, *old.shape[1:]), old.dtype, kind)
            to[name].attrs.update(old.attrs)
            at_once = old.chunks[0] if old.chunks else len(old)
            for start in range(0, len(old), at_once):
                to[name][start : start + at_once] = old[start : start + at_once]


def _seal(path: Path) -> None:
    with open_file(path) as file:
        if "seal" not in file:
            return
        found, place = seal(file), file["seal"].id.get_offset()
    with path.open("r+b") as raw:
        os.pwrite(raw.fileno(), found, place)
    _sync(path)


def _compression(file: h5py.File) -> str:
    return next((str(data.compression or "none") for data in file["layers"].values()), "none")


def _sync(path: Path) -> None:
    """Have the disk hold what was written: a name must not outlive a power cut without its data."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mask(n: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    mask = np.zeros(n, dtype=np.uint8)
    mask[rows] = 1
    return mask


def _place(data: h5py.Dataset) -> _Place:
    width = data.dtype.itemsize * (data.shape[1] if data.ndim > 1 else 1)
    if data.chunks is None:
        return _Place(data.dtype, width, max(1, data.shape[0]), np.array([data.id.get_offset()]))
    offsets = np.zeros(-(-data.shape[0] // data.chunks[0]), dtype=np.int64)

    def note(chunk: Any) -> None:
        offsets[chunk.chunk_offset[0] // data.chunks[0]] = chunk.byte_offset

    data.id.chunk_iter(note)
    return _Place(data.dtype, width, data.chunks[0], offsets)


def _allot(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], compress: str
) -> None:
    width = dtype.itemsize * (shape[1] if len(shape) > 1 else 1)
    rows = max(1, min(shape[0], _CHUNK_BYTES // max(width, 1)))
    if compress != "none":
        filters: dict[str, Any] = FILTERS[compress]
        file.create_dataset(name, shape, dtype, chunks=(rows, *shape[1:]), **filters)
        return
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    layout.set_chunk((rows, *shape[1:]))
    space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED, *shape[1:]))
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=layout, lcpl=links).close()
