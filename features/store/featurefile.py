"""The feature file: one backbone's features of one data set, in plain HDF5.

Format `probe-features`, version 1. Row i is row i of the study's images.csv throughout.

- `/layers/KEY` MUST be `(n, dim)` float32 or float16. KEY is the layer's name, or `LAYER:POOL`
  for another pooling of the same layer. Its attributes MUST be `layer`, `module`, `pool`
  (`none`, `auto`, `avg`, `max`, `grid:K`; of tokens `cls` and `cls+avg` too), `shape` (of one image
  before pooling: `(channels, height, width)`, `(tokens, channels)` or `(dim,)`) and `depth` (0 to 1).
  `output` MAY give the kind of the module's output: `map`, `map channels last`, `tokens, prefix P, ...` or
  `vector`; without it a map or a vector. `KEY@VIEW` MAY hold the mean over the crops of a view
  (`flip`, `10crop`) instead of the centre crop; its attribute `view` then MUST name it, and
  `canvas` MAY give the pixels that the crops were cut from, `256 x 256`.
- `/status` MUST be `(n,)` uint8: 0 pending, 1 done, 2 unreadable. A row is done when every layer
  in the file is. Rows that are not done hold no features (NaN or zeros).
- `/checksums/KEY` MUST be `(n,)` uint32: zlib's CRC-32 of the row's bytes in `/layers/KEY`.
- `/aim` MAY be `(n,)` uint8: 1 for the rows that the last run was to compute.
- `/seal` MAY be `(32,)` uint8: SHA-256 of everything in a finished file but the features
  themselves, as `seal` below computes it. It covers the checksums, so any change is detected.
- `/reasons` MAY be `(n,)` fixed-length bytes: why a row is unreadable, in UTF-8.
- Root attributes MUST be `format`, `version`, `backbone`, `domain`, `images` (SHA-256 of the
  paths of images.csv, NUL between them), `contract` (SHA-256 of what decides the numbers), `card`,
  `weights` and `made_with` (JSON) and `preprocessing` (words). Others MAY follow.

The time that computing took is not in it: the file is the same to the byte on any run, however often that
was interrupted. `NAME.seconds.json` MAY stand beside it (features/store/seconds.py).

An unfinished file is `NAME.h5.partial` and becomes `NAME.h5` in one step; features/store/making.py creates
both, features/store/writer.py fills the former. Data sets MAY be chunked in whole rows, and compressed by a
filter that HDF5 brings itself.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from features.arrays import Floats, Ints
from features.errors import InputError, first_line, nearest
from features.machine.strict_json import from_json
from features.store.opening import UNREAD, Damaged, open_file, remedy

PENDING, DONE, UNREADABLE = 0, 1, 2
REASON_BYTES = 96
UNKNOWN = "unknown"
"""The domain of imported features for which none was given."""
_PART_BYTES = 1 << 26


@dataclass(frozen=True)
class Damage:
    """A change in a finished file since it was written."""

    what: str
    """A layer, `status`, `checksums or attributes`, or `structure`."""
    rows: tuple[int, ...] = ()


class FeatureFile:
    """A feature file open for reading; use it in a `with` block or close it."""

    def __init__(self, path: Path) -> None:
        """Open the finished or partial file `path`.

        Raises:
            Damaged: It is not a whole feature file.
            InputError: It cannot be read, is of a later version, or another process is writing it.
        """
        self.path = path
        self._file = open_file(path)

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
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        """The number of rows."""
        return int(self._file["status"].shape[0])

    def __getitem__(self, key: str) -> Floats:
        """The features of one layer for all rows, as `read` gives them."""
        return self.read(key)

    def __repr__(self) -> str:
        """The backbone and what the file holds of it."""
        done = int((self.status == DONE).sum())
        return f"<features of {self.backbone}: {', '.join(self.keys)}; {done} of {len(self)} rows>"

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
        """What the backbone was pretrained on.

        Earlier versions wrote `none`, the domain of random weights, for imported features without a
        given domain; that is read as `unknown`.
        """
        domain = str(self._file.attrs["domain"])
        if domain == "none" and self.imported:
            weights = from_json(self._file.attrs.get("weights", "{}"))
            return domain if weights.get("random") else UNKNOWN
        return domain

    @property
    def imported(self) -> bool:
        """Whether the features were made elsewhere."""
        return str(self._file.attrs["preprocessing"]).startswith("imported from ")

    @property
    def card(self) -> dict[str, Any]:
        """The backbone's card."""
        return dict(from_json(self._file.attrs["card"]))

    @property
    def keys(self) -> list[str]:
        """Layers, and `LAYER:POOL` for further poolings, in depth order; of the centre crop alone."""
        layers = self._file["layers"]
        return [key for key in self.stored if "view" not in layers[key].attrs]

    def has(self, key: str, view: str) -> bool:
        """Whether the file has a data set under a view."""
        return at_view(key, view) in self._file["layers"]

    @property
    def stored(self) -> list[str]:
        """Every data set in depth order, `KEY@VIEW` for other views than the centre too."""
        layers = self._file["layers"]
        return sorted(layers, key=lambda key: (int(layers[key].attrs.get("order", 0)), key))

    @property
    def status(self) -> npt.NDArray[np.uint8]:
        """0 pending, 1 done, 2 unreadable; `(n,)`."""
        return np.asarray(self._file["status"][:], dtype=np.uint8)

    @property
    def aim(self) -> Ints:
        """The rows that the last run was to compute; all rows where the file does not record them."""
        rows = np.arange(len(self))
        return np.flatnonzero(self._file["aim"][:]) if "aim" in self._file else rows

    @property
    def compression(self) -> str:
        """How the features are compressed: `none`, `gzip` or `lzf`."""
        return compression_of(self._file)

    def reasons(self) -> dict[int, str]:
        """The reason by unreadable row."""
        rows = np.flatnonzero(self.status == UNREADABLE)
        if "reasons" not in self._file:
            return {int(row): "" for row in rows}
        return {int(r): self._file["reasons"][r].decode("utf-8", "replace") for r in rows}

    def about(self, key: str) -> dict[str, Any]:
        """Layer, module, output, pool, shape, depth and dim of a data set."""
        data = self._dataset(key)
        texts = {name: data.attrs[name] for name in ("layer", "module", "pool")}
        texts["output"] = str(data.attrs.get("output", ""))
        shape = tuple(int(side) for side in data.attrs["shape"])
        return {**texts, "shape": shape, "depth": float(data.attrs["depth"]), "dim": data.shape[1]}

    def pooling(self, key: str) -> tuple[str, str, str]:
        """The layer, the pooling and the view of a data set."""
        return pooling_of(self._file["layers"][key])

    def canvas(self, key: str) -> str:
        """What the crops of a view were cut from, `256 x 256`; empty in older files and for the centre."""
        return str(self._file["layers"][key].attrs.get("canvas", ""))

    def read_as(self, key: str) -> tuple[str, str]:
        """The module of a data set and the kind of its output, which is empty in older files."""
        attributes = self._file["layers"][key].attrs
        return str(attributes["module"]), str(attributes.get("output", ""))

    def bytes(self, key: str) -> int:
        """The bytes that a data set takes on disk."""
        return int(self._dataset(key).id.get_storage_size())

    def read(self, key: str, rows: npt.NDArray[np.integer[Any]] | None = None) -> Floats:
        """The features of one layer, `(len(rows), dim)` float32; all rows by default.

        Rows that are not done are NaN. The checksum of every row that is done is checked.

        Raises:
            InputError: There is no such layer, or a row has changed since it was written.
        """
        data = self._dataset(key)
        rows = np.arange(len(self)) if rows is None else np.asarray(rows)
        out = np.empty((len(rows), data.shape[1]), dtype=data.dtype)
        try:
            for here, there in runs(rows):
                data.read_direct(out, there, here)
        except OSError as error:
            raise self._unread(key) from error
        done = self.status[rows] == DONE
        sums = self._file["checksums"][key][:][rows]
        bad = [int(rows[i]) for i in np.flatnonzero(done) if zlib.crc32(out[i].data) != sums[i]]
        if bad:
            raise InputError(
                f"{self.path}: layer {key} has changed on disk in {len(bad)} rows (first: "
                f"{bad[:5]}); `probe remove {self.backbone}` and extract it again."
            )
        features = out.astype(np.float32, copy=False)
        features[~done] = np.nan
        return features

    def digest(self, key: str, rows: Ints) -> str:
        """SHA-256 of the checksums of `rows` of a layer, which differs where a feature differs."""
        return hashlib.sha256(self._file["checksums"][key][:][rows].tobytes()).hexdigest()

    def verify(self) -> list[Damage]:
        """The changes since the file was written, found by reading every row; empty if there are none.

        Older files without a seal are checked row by row only.
        """
        damages = []
        try:
            status = self.status
            odd = np.flatnonzero(status > UNREADABLE)
            if len(odd):
                damages.append(Damage("status", tuple(odd.tolist())))
            for key in self.stored:
                bad = self._changed(key, np.flatnonzero(status == DONE))
                if bad:
                    damages.append(Damage(key, tuple(bad)))
            if "seal" in self._file and not damages:
                sealed = bytes(self._file["seal"][:])
                if any(sealed) and sealed != seal(self._file):
                    damages.append(Damage("status, reasons, checksums or attributes"))
        except UNREAD as error:
            damages.append(Damage(f"structure ({first_line(error, 80)})"))
        return damages

    def _changed(self, key: str, rows: Ints) -> list[int]:
        data, sums = self._file["layers"][key], self._file["checksums"][key][:]
        at_once = max(1, _PART_BYTES // max(1, data.shape[1] * data.dtype.itemsize))
        bad = []
        for start in range(0, len(self), at_once):
            part = data[start : start + at_once]
            mine = rows[(rows >= start) & (rows < start + at_once)]
            bad += [int(row) for row in mine if zlib.crc32(part[row - start].data) != sums[row]]
        return bad

    def columns(self, key: str, start: int, stop: int) -> Floats:
        """Some columns of all rows, `(n, stop - start)` float32; checksums are not compared."""
        try:
            return np.asarray(self._dataset(key)[:, start:stop], dtype=np.float32)
        except OSError as error:
            raise self._unread(key) from error

    def _unread(self, key: str) -> Damaged:
        return Damaged(f"{self.path}: layer {key} cannot be read; {remedy(self.path)}")

    def _dataset(self, key: str) -> Any:
        if key not in self._file["layers"]:
            raise InputError(f"{self.path}: no layer {key}; {nearest(key, self.keys)}")
        return self._file["layers"][key]


def pooling_of(data: h5py.Dataset) -> tuple[str, str, str]:
    """The layer, the pooling and the view of a data set of `/layers`."""
    attributes = data.attrs
    view = attributes.get("view", "center")
    return str(attributes["layer"]), str(attributes["pool"]), str(view)


def compression_of(file: h5py.File) -> str:
    """How the features in an open file are compressed: `none`, `gzip` or `lzf`."""
    return next((str(data.compression or "none") for data in file["layers"].values()), "none")


def at_view(key: str, view: str) -> str:
    """The key of a data set under a view."""
    return key if view == "center" else f"{key}@{view}"


def seal(file: h5py.File) -> bytes:
    """SHA-256 of attributes, status, reasons and checksums; `aim` and `seal` are left out."""
    digest = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        for attribute in sorted(item.attrs):
            value = np.asarray(item.attrs[attribute])
            text = str(value.tolist()).encode("utf-8", "surrogateescape")
            digest.update(f"{name}@{attribute}".encode() + b"\0" + text + b"\0")
        if name == "status" or name == "reasons" or name.startswith("checksums/"):
            digest.update(name.encode() + b"\0" + item[:].tobytes())

    add("/", file)
    names: list[str] = []
    file.visit(names.append)
    for name in sorted(names):
        add(name, file[name])
    return digest.digest()


def runs(rows: npt.NDArray[Any]) -> Iterator[tuple[slice, slice]]:
    """Ascending runs of consecutive rows, as slices into `rows` and into the file."""
    if not len(rows):
        return
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    edges = [0, *cuts.tolist(), len(rows)]
    for start, end in pairwise(edges):
        first = int(rows[start])
        yield slice(start, end), slice(first, first + end - start)
