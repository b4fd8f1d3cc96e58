"""predictions.h5: the class scores behind every row of results.csv.

`/TASK/BACKBONE/LAYER/METHOD/` holds `scores`, `(n, K)` float32, and `fold`, `(n,)` int16 (int32 where
int16 does not hold their numbers); rows are those of images.csv, fold -1 and scores NaN where a row
was not tested. Its attribute `protocol` is the
protocol as JSON (probe/results/protocol.py). A `/` in a name is written `.`, an empty name `-`. LAYER is
`LAYER:POOL` for a further pooling, or `best`; METHOD is followed by what tells the result from
others of the method, such as `,shots=5,draw=0`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from features.arrays import Doubles, Floats, Ints
from features.errors import InputError
from features.machine.files import is_full, replacing
from features.store.room import with_room

_SLACK = 1 << 15  # bytes that HDF5 takes for a group, its names and the like, and more

DAMAGED = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)
"""What h5py raises where a file is missing or not what it was."""

Key = tuple[str, str, str, str]
"""Task, backbone, layer, method."""


@dataclass(frozen=True)
class Prediction:
    """Scores of every image, and the fold it was tested in."""

    scores: Floats
    fold: npt.NDArray[np.integer]
    protocol: str = ""
    """As JSON."""
    features: str = ""
    """The digest of the features that they were made of; empty for a fine-tune."""

    def correct(self, y: Ints) -> Doubles:
        """1 where the largest score is that of class `y`, 0 elsewhere, NaN where not tested, `(n,)`."""
        predicted = np.nan_to_num(self.scores, nan=-np.inf).argmax(1)
        return np.where(self.fold >= 0, predicted == y, np.nan)


def read(file: Path, key: Key) -> Prediction:
    """The prediction stored under `key`.

    Raises:
        InputError: The file is missing or damaged, or has no such prediction.
    """
    return read_all(file, [key])[key]


def read_all(file: Path, keys: list[Key]) -> dict[Key, Prediction]:
    """Several predictions in one opening of the file.

    Raises:
        InputError: As `read`.
    """
    try:
        with h5py.File(file, "r") as opened:
            return {key: _read(opened[_path(key)]) for key in keys}
    except DAMAGED as error:
        raise InputError(
            f"{file}: missing or damaged, so the scores behind results.csv are lost; `probe fit --redo` "
            "makes both again."
        ) from error


def _read(group: h5py.Group) -> Prediction:
    scores, fold = group["scores"][:], group["fold"][:]
    kinds = scores.dtype.kind + fold.dtype.kind
    if kinds != "fi" or scores.ndim != 2 or fold.shape != scores.shape[:1] or not scores.shape[1]:
        raise ValueError("scores and fold of other shapes than a prediction has")
    return Prediction(
        scores,
        fold,
        str(group.attrs.get("protocol", "")),
        str(group.attrs.get("features", "")),
    )


def protocols(file: Path, keys: Iterable[Key]) -> dict[Key, str]:
    """The protocols of those predictions that are there; none if the file is missing or damaged."""
    return _attributes(file, keys, "protocol")


def features(file: Path, keys: Iterable[Key]) -> dict[Key, str]:
    """The digests of the features of those predictions that are there, likewise."""
    return _attributes(file, keys, "features")


def _attributes(file: Path, keys: Iterable[Key], name: str) -> dict[Key, str]:
    try:
        with h5py.File(file, "r") as opened:
            return {
                key: str(opened[_path(key)].attrs.get(name, ""))
                for key in keys
                if _path(key) in opened
            }
    except DAMAGED:
        return {}


def holds(file: Path, backbone: str) -> bool:
    """Whether the file has predictions of a backbone; not if it is missing or damaged."""
    name = backbone.replace("/", ".")
    try:
        with h5py.File(file, "r") as opened:
            return any(name in opened[task] for task in opened)
    except DAMAGED:
        return False


def add(file: Path, new: Mapping[Key, Prediction]) -> None:
    """Put predictions into the file, in one step: a reader sees all of them or none.

    A file that is damaged is begun anew: what it held is missing, and so is made again.
    """
    try:
        _write_with(file, new, begin=not file.is_file())
    except DAMAGED as error:
        if is_full(error):
            raise
        _write_with(file, new, begin=True)


def _write_with(file: Path, new: Mapping[Key, Prediction], *, begin: bool) -> None:
    with replacing(file) as making:
        if not begin:
            shutil.copyfile(file, making)
        with with_room(making, sum(map(_room, new.values())) + _SLACK) as opened:
            for key, prediction in new.items():
                if _path(key) in opened:
                    del opened[_path(key)]
                group = opened.create_group(_path(key))
                kind = np.promote_types(
                    np.int16, np.min_scalar_type(prediction.fold.max(initial=-1))
                )
                group["scores"], group["fold"] = prediction.scores, prediction.fold.astype(kind)
                group.attrs["protocol"] = prediction.protocol
                group.attrs["features"] = prediction.features


def _room(prediction: Prediction) -> int:
    """At least the bytes that a prediction takes in the file."""
    attributes = len(prediction.protocol.encode()) + len(prediction.features)
    return prediction.scores.nbytes + 4 * len(prediction.fold) + attributes + _SLACK


def _path(key: Key) -> str:
    return "/".join(part.replace("/", ".") or "-" for part in key)


def discard(file: Path, backbone: str) -> None:
    """Delete every prediction of one backbone, in one step; a damaged file is left as it is."""
    if not holds(file, backbone):
        return
    name = backbone.replace("/", ".")
    room = file.stat().st_size + _SLACK
    with (
        replacing(file) as making,
        h5py.File(file, "r") as old,
        with_room(making, room) as new,
    ):
        for task in old:
            for other in old[task]:
                if other != name:
                    old.copy(f"{task}/{other}", new.require_group(task), name=other)
