"""Making feature files: created with space for every row, finished, merged, compressed, extended.

A file is written under another name and renamed when it is complete, so that a process killed at any
moment leaves either the old file or the new one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from features.arrays import Ints
from features.machine import files
from features.store.draft import drafted
from features.store.featurefile import PENDING, REASON_BYTES, UNREADABLE, compression_of, seal
from features.store.few_rows import are_few, copy_rows, reserve_rows
from features.store.hdf5 import FILTERS
from features.store.opening import FORMAT, VERSION, open_file
from features.store.room import reserve, with_room
from features.store.seconds import seconds_path

GROWN = ".grown"
"""The suffix of a file that is ready to replace the one with fewer rows."""
_CHUNK_BYTES = 1 << 20
_SLACK_BYTES = 1 << 16


def create(
    path: Path,
    n: int,
    aim: Ints,
    layers: Sequence[Mapping[str, Any]],
    dtype: str,
    attributes: Mapping[str, Any],
) -> None:
    """Make an empty partial file with places for `n` rows of every layer, and disk space for `aim`.

    Args:
        path: The file to make.
        n: The number of rows.
        aim: The rows that will be computed.
        layers: For each data set its `key`, `dim` and the attributes that the format requires.
        dtype: `float32` or `float16`.
        attributes: The root attributes besides `format` and `version`.
    """
    width = np.dtype(dtype).itemsize
    size = sum(n * (layer["dim"] * width + 4) for layer in layers)
    size += (1 + len(layers)) * _SLACK_BYTES + 98 * n
    few = aim if are_few(len(aim), n) else None
    with _making(path, size, few=few) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.attrs.update(attributes)
        _rows(file, n, aim)
        for order, layer in enumerate(layers):
            _allot(file, "layers/" + layer["key"], (n, layer["dim"]), np.dtype(dtype), "none")
            _allot(file, "checksums/" + layer["key"], (n,), np.dtype(np.uint32), "none")
            attributes_of_layer = file["layers/" + layer["key"]].attrs
            for name in ("layer", "module", "pool", "shape", "depth"):
                attributes_of_layer[name] = layer[name]
            attributes_of_layer["order"] = layer.get("order", order)
            for name in ("output", "view", "canvas"):
                if name in layer:
                    attributes_of_layer[name] = layer[name]


def finish(partial: Path, finished: Path, compress: str) -> None:
    """Seal `partial` and rename it to `finished`, or add its layers to those of that file, in one step.

    Args:
        partial: A file with every row of its aim done or unreadable.
        finished: The path of the finished file, which may exist.
        compress: `gzip`, `lzf` or `none`; layers that are added are compressed like those there.
    """
    if finished.is_file():
        merge(partial, finished)
    elif compress != "none":
        copy(partial, finished, compress=compress)
        partial.unlink()
    else:
        _seal_in_place(partial)
        partial.rename(finished)
    _sync(finished.parent)


def put_sealed(partial: Path, finished: Path) -> None:
    """Seal `partial` and rename it to `finished`, whatever is there."""
    _seal_in_place(partial)
    partial.replace(finished)
    _sync(finished.parent)


def merge(partial: Path, finished: Path) -> None:
    """Add the layers of `partial` to those of `finished`, in one step for a reader."""
    size = finished.stat().st_size + partial.stat().st_size
    with open_file(finished) as old, open_file(partial) as new:
        first, second = old["status"][:], new["status"][:]
        # Unreadable in either is unreadable, and a row is done only where both are.
        refused = (first == UNREADABLE) | (second == UNREADABLE)
        status = np.where(refused, UNREADABLE, np.minimum(first, second))
        n = len(first)
        compress = compression_of(old)
        few = _few(first, n, compress)
        with _making(finished, size, ".merging", few=few, copied=(old, new)) as to:
            to.attrs.update(old.attrs)
            _rows(to, n, np.flatnonzero(old["aim"][:]) if "aim" in old else np.arange(n))
            to["status"][:] = status
            # Files of earlier toolkits have none.
            none = np.zeros(n, dtype=f"S{REASON_BYTES}")
            said = [f["reasons"][:] if "reasons" in f else none for f in (old, new)]
            to["reasons"][:] = np.where(first == UNREADABLE, *said)
            for file in (old, new):
                _layers(file, to, n, compress, filled=few is None)
            if few is None:
                _seal(to)
    partial.unlink()


def copy(
    old_path: Path,
    new_path: Path,
    *,
    n: int | None = None,
    compress: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a copy of a feature file, in one step for a reader; new rows at its end are pending.

    Args:
        old_path: The file to copy.
        new_path: The file to write, which may be the old file.
        n: The number of rows, at least that of the old file; None: the same number.
        compress: `gzip`, `lzf` or `none`; None: as in the old file.
        attributes: Root attributes to change.
    """
    with open_file(old_path) as old:
        rows = int(old["status"].shape[0])
        n = rows if n is None else n
        size = old_path.stat().st_size
        if compress == "none":
            size = max(size, sum(data.nbytes for data in old["layers"].values()))
        size = size * n // max(rows, 1) + _SLACK_BYTES
        few = _few(old["status"][:], n, compress or compression_of(old))
        with _making(new_path, size, ".merging", few=few, copied=(old,)) as to:
            to.attrs.update(old.attrs)
            to.attrs.update(attributes or {})
            _rows(to, n, np.flatnonzero(old["aim"][:]) if "aim" in old else np.arange(rows))
            to["status"][:rows] = old["status"][:]
            if "reasons" in old:
                to["reasons"][:rows] = old["reasons"][:]
            _layers(old, to, n, compress, filled=few is None)
            if few is None:
                _seal(to)


def _few(status: npt.NDArray[np.uint8], n: int, compress: str) -> Ints | None:
    """The rows that are not pending, if they are few of `n` and not compressed; else None."""
    rows = np.flatnonzero(status != PENDING)
    return rows if compress == "none" and are_few(len(rows), n) else None


def sweep(path: Path) -> None:
    """Remove what a killed process left of rewriting the feature file `path`."""
    for left in path.parent.glob(f"{path.name}.*"):
        if left.suffix in (".merging", ".new", GROWN):
            left.unlink(missing_ok=True)
    files.sweep(seconds_path(path))


@contextmanager
def _making(
    path: Path,
    size: int,
    suffix: str = ".new",
    *,
    few: Ints | None = None,
    copied: Sequence[h5py.File] = (),
) -> Iterator[h5py.File]:
    """A new HDF5 file that is synced to disk and renamed to `path` when the block ends without an error.

    Args:
        path: The name that the file gets.
        size: The bytes that it takes at most.
        suffix: The end of its name until then.
        few: The only rows that take space; None: all take it.
        copied: The files whose features of `few` are copied into it after the block.
    """
    making = path.with_name(path.name + suffix)
    making.unlink(missing_ok=True)
    try:
        with with_room(making, size) if few is None else drafted(making) as file:
            yield file
        if few is None:
            reserve(making, making.stat().st_size)
        else:
            reserve_rows(making, few)
            copy_rows(copied, making, few)
            if copied:
                _seal_in_place(making)
        _sync(making)
        os.replace(making, path)  # noqa: PTH105 - one step, whatever is there
    except BaseException:
        making.unlink(missing_ok=True)
        raise


def rows_of_chunk(n: int, width: int) -> int:
    """The rows of a chunk of a data set of `n` rows of `width` bytes."""
    return max(1, min(n, _CHUNK_BYTES // max(width, 1)))


def _rows(file: h5py.File, n: int, aim: Ints) -> None:
    """Create the data sets that are not features, with every row pending."""
    file["status"] = np.full(n, PENDING, dtype=np.uint8)
    file["aim"] = np.isin(np.arange(n), aim).astype(np.uint8)
    file["reasons"] = np.zeros(n, dtype=f"S{REASON_BYTES}")
    file["seal"] = np.zeros(32, dtype=np.uint8)


def _layers(
    file: h5py.File, to: h5py.File, n: int, compress: str | None, *, filled: bool = True
) -> None:
    """Copy every layer of `file` with its checksums into `to`, which has `n` rows, or only their places."""
    for key, data in file["layers"].items():
        compression = str(data.compression or "none")
        for name in (f"layers/{key}", f"checksums/{key}"):
            old = file[name]
            kind = "none" if name.startswith("checksums/") else compress or compression
            if filled and n == old.shape[0] and kind == str(old.compression or "none"):
                file.copy(name, to.require_group(name.split("/")[0]), name=key)
                continue
            _allot(to, name, (n, *old.shape[1:]), old.dtype, kind)
            to[name].attrs.update(old.attrs)
            if not filled:
                continue
            at_once = old.chunks[0] if old.chunks else len(old)
            for start in range(0, len(old), at_once):
                stop = min(start + at_once, len(old))  # `to` may have more rows
                to[name][start:stop] = old[start:stop]


def _seal(file: h5py.File) -> None:
    file["seal"][:] = np.frombuffer(seal(file), dtype=np.uint8)


def _seal_in_place(path: Path) -> None:
    """Write the seal into a file at its offset, without HDF5, as its rows were written."""
    with open_file(path) as file:
        if "seal" not in file:
            return
        digest, place = seal(file), file["seal"].id.get_offset()
    with path.open("r+b") as raw:
        os.pwrite(raw.fileno(), digest, place)
    _sync(path)


def _sync(path: Path) -> None:
    """Sync to disk: after a power cut there must be no name without its data."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _allot(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], compress: str
) -> None:
    width = dtype.itemsize * (shape[1] if len(shape) > 1 else 1)
    rows = rows_of_chunk(shape[0], width)
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
