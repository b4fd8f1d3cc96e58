"""The feature file: one backbone's features of one data set, in plain HDF5.

Format `probe-features`, version 1. Row i is row i of the study's images.csv throughout.

- `/layers/KEY` MUST be `(n, dim)` float32 or float16. KEY is the layer's name, or `LAYER:POOL`
  for a further pooling of the same layer. Its attributes MUST be `layer`, `module`, `pool`
  (`none`, `auto`, `avg`, `max`, `grid:K`), `shape` (of one image's output before pooling) and
  `depth` (0 to 1).
- `/status` MUST be `(n,)` uint8: 0 pending, 1 done, 2 unreadable. A row is done when every layer
  in the file is. Rows that are not done hold no features (NaN or zeros).
- `/checksums/KEY` MUST be `(n,)` uint32: zlib's CRC-32 of the row's bytes in `/layers/KEY`.
- `/aim` MAY be `(n,)` uint8: the rows that the last run set out to compute.
- `/reasons` MAY be `(n,)` fixed-length bytes: why a row is unreadable, in UTF-8.
- Root attributes MUST be `format`, `version`, `backbone`, `domain`, `images` (SHA-256 of the
  paths of images.csv, NUL between them), `contract` (SHA-256 of what decides the numbers), `card`,
  `weights` and `made_with` (JSON) and `preprocessing` (words). Others MAY follow.

A file in the making is `NAME.h5.partial` and becomes `NAME.h5` in one step. All space is allotted
at creation, so that writing a batch touches no HDF5 structure: rows, then a flush, then their
status, then a flush. A process killed at any moment loses at most the batches under way.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from features.card import nearest
from features.errors import InputError

FORMAT = "probe-features"
VERSION = 1
PENDING, DONE, UNREADABLE = 0, 1, 2
_CHUNK_BYTES = 1 << 20
_REASON_BYTES = 96
_SLACK_BYTES = 1 << 16


class FeatureFile:
    """A feature file open for reading; use it in a `with` block or close it."""

    def __init__(self, path: Path) -> None:
        """Open `path`.

        Raises:
            InputError: It is not a feature file, or another process is writing it.
        """
        self.path = path
        self._file = _open(path, "r")

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        """The number of rows."""
        return int(self._file["status"].shape[0])

    @property
    def attributes(self) -> dict[str, Any]:
        """The root attributes."""
        return dict(self._file.attrs)

    @property
    def backbone(self) -> str:
        """The backbone's true name."""
        return str(self._file.attrs["backbone"])

    @property
    def domain(self) -> str:
        """What the backbone was pretrained on."""
        return str(self._file.attrs["domain"])

    @property
    def card(self) -> dict[str, Any]:
        """The backbone's card."""
        return dict(json.loads(self._file.attrs["card"]))

    @property
    def keys(self) -> list[str]:
        """Layers, and `LAYER:POOL` for further poolings, in depth order."""
        layers = self._file["layers"]
        return sorted(layers, key=lambda key: (int(layers[key].attrs.get("order", 0)), key))

    @property
    def status(self) -> npt.NDArray[np.uint8]:
        """0 pending, 1 done, 2 unreadable; `(n,)`."""
        return np.asarray(self._file["status"][:], dtype=np.uint8)

    def reasons(self) -> dict[int, str]:
        """Why each unreadable row is so, by row."""
        rows = np.flatnonzero(self.status == UNREADABLE)
        if "reasons" not in self._file:
            return {int(row): "" for row in rows}
        return {int(r): self._file["reasons"][r].decode("utf-8", "replace") for r in rows}

    def about(self, key: str) -> dict[str, Any]:
        """Layer, module, pool, shape, depth and dim of one data set."""
        data = self._dataset(key)
        found = {name: data.attrs[name] for name in ("layer", "module", "pool")}
        shape = tuple(int(side) for side in data.attrs["shape"])
        return {**found, "shape": shape, "depth": float(data.attrs["depth"]), "dim": data.shape[1]}

    def read(
        self, key: str, rows: npt.NDArray[np.integer[Any]] | None = None
    ) -> npt.NDArray[np.float32]:
        """The features of one layer, `(len(rows), dim)` float32; all rows by default.

        Rows that are not done come as NaN. Every row that is done is checked.

        Raises:
            InputError: There is no such layer, or a row has changed since it was written.
        """
        data = self._dataset(key)
        rows = np.arange(len(self)) if rows is None else np.asarray(rows)
        out = np.empty((len(rows), data.shape[1]), dtype=data.dtype)
        for here, there in _runs(rows):
            data.read_direct(out, there, here)
        done = self.status[rows] == DONE
        sums = self._file["checksums"][key][:][rows]
        bad = [int(rows[i]) for i in np.flatnonzero(done) if zlib.crc32(out[i].data) != sums[i]]
        if bad:
            raise InputError(
                f"{self.path}: layer {key} has changed on disk in {len(bad)} rows (first: "
                f"{bad[:5]}); `probe remove {self.backbone}` and extract it again."
            )
        found = out.astype(np.float32, copy=False)
        found[~done] = np.nan
        return found

    def _dataset(self, key: str) -> Any:
        if key not in self._file["layers"]:
            raise InputError(f"{self.path}: no layer {key}; {nearest(key, self.keys)}")
        return self._file["layers"][key]


class Writer:
    """A feature file in the making; the only one that may write it."""

    def __init__(self, path: Path) -> None:
        """Open the partial file `path`, made by `create`, for writing."""
        self.path = path
        self._file = _open(path, "r+")

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
        return list(self._file["layers"])

    def about(self, key: str) -> tuple[str, str]:
        """The layer and the pooling of one data set."""
        attributes = self._file["layers"][key].attrs
        return str(attributes["layer"]), str(attributes["pool"])

    @property
    def aimed(self) -> npt.NDArray[np.int64]:
        """The rows that this file's run sets out to compute."""
        return np.flatnonzero(self._file["aim"][:])

    def aim(self, rows: npt.NDArray[np.int64]) -> None:
        """Set out to compute `rows`."""
        self._file["aim"][:] = _mask(len(self.status), rows)
        self._file.flush()

    @property
    def status(self) -> npt.NDArray[np.uint8]:
        """As in FeatureFile."""
        return np.asarray(self._file["status"][:], dtype=np.uint8)

    def write(self, rows: npt.NDArray[np.int64], features: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write features of `rows` (ascending) for every layer, then mark the rows done."""
        for key, values in features.items():
            data = self._file["layers"][key]
            values = np.ascontiguousarray(values, dtype=data.dtype)
            sums = np.array([zlib.crc32(row.data) for row in values], dtype=np.uint32)
            for here, there in _runs(rows):
                data[there] = values[here]
                self._file["checksums"][key][there] = sums[here]
        self._mark(rows, DONE)

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """Mark rows as unreadable, each with its reason."""
        rows = np.array(sorted(reasons), dtype=np.int64)
        for row in rows:
            text = reasons[int(row)].encode("utf-8", "replace")[:_REASON_BYTES]
            self._file["reasons"][int(row)] = np.bytes_(text)
        self._mark(rows, UNREADABLE)

    def repeat(self, rows: npt.NDArray[np.int64], sources: npt.NDArray[np.int64]) -> None:
        """Give `rows` what `sources` hold, features or refusal: the same image listed twice."""
        status = self.status
        for row, source in zip(rows.tolist(), sources.tolist(), strict=True):
            if status[source] == DONE:
                one = np.array([row])
                self.write(one, {k: self._file["layers"][k][source][None] for k in self.keys})
            elif status[source] == UNREADABLE:
                self.refuse({row: self._file["reasons"][source].decode("utf-8", "replace")})

    def _mark(self, rows: npt.NDArray[np.int64], status: int) -> None:
        if len(rows):
            self._file.flush()
            for _, there in _runs(rows):
                self._file["status"][there] = status
            self._file.flush()


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
    making = path.with_name(path.name + ".new")
    width = np.dtype(dtype).itemsize
    reserve(making, sum(n * (layer["dim"] * width + 4) for layer in layers) + _SLACK_BYTES + 98 * n)
    with h5py.File(making, "w") as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.attrs.update(attributes)
        file["status"] = np.zeros(n, dtype=np.uint8)
        file["aim"] = _mask(n, aim)
        file["reasons"] = np.zeros(n, dtype=f"S{_REASON_BYTES}")
        for order, layer in enumerate(layers):
            _allot(file, "layers/" + layer["key"], (n, layer["dim"]), np.dtype(dtype))
            _allot(file, "checksums/" + layer["key"], (n,), np.dtype(np.uint32))
            found = file["layers/" + layer["key"]].attrs
            for name in ("layer", "module", "pool", "shape", "depth"):
                found[name] = layer[name]
            found["order"] = layer.get("order", order)
    reserve(making, making.stat().st_size)
    os.replace(making, path)  # noqa: PTH105 - one step, whatever is there


def merge(partial: Path, finished: Path) -> None:
    """Put the layers of `partial` beside those of `finished`, in one step for a reader."""
    making = finished.with_name(finished.name + ".merging")
    reserve(making, finished.stat().st_size + partial.stat().st_size)
    with (
        h5py.File(making, "w") as to,
        h5py.File(finished, "r") as old,
        h5py.File(partial, "r") as new,
    ):
        to.attrs.update(old.attrs)
        first, second = old["status"][:], new["status"][:]
        # Unreadable in either is unreadable, and a row is done only where both are.
        refused = (first == UNREADABLE) | (second == UNREADABLE)
        to["status"] = np.where(refused, UNREADABLE, np.minimum(first, second)).astype(np.uint8)
        to["aim"] = old["aim"][:]
        to["reasons"] = np.where(first == UNREADABLE, old["reasons"][:], new["reasons"][:])
        for file in (old, new):
            for group in ("layers", "checksums"):
                for key in file[group]:
                    file.copy(f"{group}/{key}", to.require_group(group), name=key)
    os.replace(making, finished)  # noqa: PTH105
    partial.unlink()


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


def _mask(n: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    mask = np.zeros(n, dtype=np.uint8)
    mask[rows] = 1
    return mask


def _allot(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    width = dtype.itemsize * (shape[1] if len(shape) > 1 else 1)
    rows = max(1, min(shape[0], _CHUNK_BYTES // max(width, 1)))
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_chunk((rows, *shape[1:]))
    space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED, *shape[1:]))
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=layout, lcpl=links).close()


def _open(path: Path, mode: str) -> h5py.File:
    try:
        file = h5py.File(path, mode)
    except BlockingIOError as error:
        raise InputError(
            f"{path}: another process is writing it; wait until it has ended."
        ) from error
    except OSError as error:
        if "unable to lock" in str(error):
            raise InputError(
                f"{path}: another process is using it; wait until it has ended."
            ) from error
        raise InputError(
            f"{path}: not a whole HDF5 file; delete it and run `probe extract` again."
        ) from error
    if file.attrs.get("format") != FORMAT:
        file.close()
        raise InputError(f"{path}: not a feature file; `probe extract` makes one.")
    if int(file.attrs["version"]) > VERSION:
        found = file.attrs["version"]
        file.close()
        raise InputError(f"{path}: format version {found} is newer than this program; update it.")
    return file


def _runs(rows: npt.NDArray[Any]) -> Iterator[tuple[slice, slice]]:
    """Ascending runs of consecutive rows, as slices into `rows` and into the file."""
    if not len(rows):
        return
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = [0, *cuts.tolist(), len(rows)]
    for start, end in pairwise(edges):
        first = int(rows[start])
        yield slice(start, end), slice(first, first + end - start)
