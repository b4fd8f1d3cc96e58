"""The class scores behind every row of results.csv, each result in a file of its own.

`predictions/TASK/BACKBONE/LAYER/METHOD.npz` is a NumPy archive of `scores`, `(n, K)` float32, and `fold`,
`(n,)` int16 (int32 where int16 does not hold their numbers); rows are those of images.csv, fold -1 and
scores NaN where a row was not tested. `inner`, `(n, folds)`, int16 or int32 too, is the class that was
predicted for a row while the parameter of each fold was chosen, by a probe that was trained without that
fold and the row's own part, -1 where the row did not validate; results where nothing validates, fine-tunes
and files of before are without. Its `protocol` is the protocol as JSON
(probe/results/protocol.py), its `features` the digest of the features that the scores were made of. LAYER
is `LAYER:POOL` for a further pooling, or `best`; METHOD is followed by what tells the result from others
of the method, such as `,shots=5,draw=0`. In the names of files a `/` is written `.`, an empty name `-`,
and what file systems do not take is written %XX as in addresses.

Studies of before have all results in one file, predictions.h5, with the same names as groups and
`protocol` and `features` as attributes. It is read where a result has no file of its own, and taken
apart into such files before the first new result is written.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from zipfile import BadZipFile, ZipFile

import h5py
import numpy as np
import numpy.typing as npt

from features.arrays import Doubles, Floats, Ints
from features.errors import InputError
from features.machine.files import replacing
from features.machine.regular_files import check_regular, open_regular
from features.machine.strict_json import from_json

STORE = "predictions"
"""The folder's name within a study."""

DAMAGED = (
    OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, EOFError, BadZipFile,
    zlib.error, struct.error, MemoryError, OverflowError,
)  # fmt: skip
"""What NumPy and h5py raise where a file is missing or not what it was."""

_LONGEST_NAME = 120

_T = TypeVar("_T")

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
    inner: npt.NDArray[np.integer] | None = None
    """The class predicted while the parameter of each fold was chosen, `(n, folds)`, -1 for none."""

    def correct(self, y: Ints) -> Doubles:
        """1 where the largest score is that of class `y`, 0 elsewhere, NaN where not tested, `(n,)`."""
        predicted = np.nan_to_num(self.scores, nan=-np.inf).argmax(1)
        return np.where(self.fold >= 0, predicted == y, np.nan)


def file_of(store: Path, key: Key) -> Path:
    """The file of a result; `store` is the study's folder of predictions."""
    *folders, method = (_file_name(part) for part in key)
    return store.joinpath(*folders, f"{method}.npz")


def read(store: Path, key: Key) -> Prediction:
    """The prediction stored under `key`.

    Raises:
        InputError: It is missing or damaged.
    """
    return read_all(store, [key])[key]


def read_all(store: Path, keys: Iterable[Key]) -> dict[Key, Prediction]:
    """Several predictions; `store` is the study's folder of them.

    Raises:
        InputError: One is missing or damaged.
    """
    wanted = list(keys)
    values = _values(store, wanted, _read, _read_group)
    for key in wanted:
        if key not in values:
            raise InputError(
                f"{file_of(store, key)}: missing or damaged, so the scores behind results.csv are lost; "
                "`probe fit --redo` makes both again."
            )
    return {key: values[key] for key in wanted}


def is_whole(store: Path, key: Key) -> bool:
    """Whether a prediction is there and reads to its end, which its protocol alone does not tell."""
    return bool(_values(store, [key], _read, _read_group))


def marks(store: Path, keys: Iterable[Key]) -> dict[Key, tuple[str, str]]:
    """The protocol and the digest of the features of those predictions that are there."""
    return _values(store, keys, _marks, _marks_of_group)


def protocols(store: Path, keys: Iterable[Key]) -> dict[Key, str]:
    """The protocols of those predictions that are there."""
    return {key: protocol for key, (protocol, _) in marks(store, keys).items()}


def holds(store: Path, backbone: str) -> bool:
    """Whether there are predictions of a backbone."""
    if _folders(store, backbone):
        return True
    name = _group_name(backbone)
    try:
        with _opened_before(store) as old:
            return any(name in old[task] for task in old)
    except DAMAGED:
        return False


def add(store: Path, new: Mapping[Key, Prediction]) -> None:
    """Write predictions, each in one step, after those of a predictions.h5 have files of their own."""
    _take_apart(store)
    for key, prediction in new.items():
        write_file(file_of(store, key), prediction)


def check_places(store: Path, keys: Iterable[Key]) -> None:
    """Make sure that predictions can take their places, before anything else is changed for them.

    Raises:
        InputError: There is a folder where one belongs.
    """
    for key in keys:
        if (file := file_of(store, key)).is_dir():
            raise InputError(f"{file}: a folder where a file belongs; move it away.")


def discard(store: Path, backbone: str) -> None:
    """Delete every prediction of one backbone."""
    _take_apart(store)
    for folder in _folders(store, backbone):
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)


def sweep(store: Path) -> None:
    """Remove what processes that were killed left of writing; only the writer may call this."""
    for left in store.glob("*/*/*/.*"):
        left.unlink(missing_ok=True)


def _folders(store: Path, backbone: str) -> list[Path]:
    name = _file_name(backbone)
    return [folder / name for folder in sorted(store.glob("*")) if (folder / name).is_dir()]


def _values(
    store: Path,
    keys: Iterable[Key],
    from_file: Callable[[Path], _T],
    from_group: Callable[[h5py.Group], _T],
) -> dict[Key, _T]:
    """What can be read of each of `keys`, from its own file or from predictions.h5."""
    values: dict[Key, _T] = {}
    elsewhere = []
    for key in keys:
        file = file_of(store, key)
        if not file.exists():
            elsewhere.append(key)
            continue
        try:
            values[key] = from_file(file)
        except DAMAGED:
            continue
    if elsewhere and _before(store).is_file():
        values |= _values_before(store, elsewhere, from_group)
    return values


def _values_before(
    store: Path, keys: Iterable[Key], from_group: Callable[[h5py.Group], _T]
) -> dict[Key, _T]:
    values: dict[Key, _T] = {}
    try:
        with _opened_before(store) as old:
            for key in keys:
                path = "/".join(_group_name(part) for part in key)
                try:
                    values[key] = from_group(old[path])
                except DAMAGED:
                    continue
    except DAMAGED:
        return values
    return values


def read_file(file: Path) -> tuple[Prediction, str]:
    """The prediction in a file, and the text about it that `write_file` was given.

    Raises:
        DAMAGED: One of these: it does not read.
    """
    with open_regular(file) as bytes_of_it, ZipFile(bytes_of_it) as opened:
        about = str(_array(opened, "about"))
    return _read(file), about


def _read(file: Path) -> Prediction:
    with open_regular(file) as bytes_of_it, ZipFile(bytes_of_it) as opened:
        inner = _array(opened, "inner") if "inner.npy" in opened.namelist() else None
        return _checked(_array(opened, "scores"), _array(opened, "fold"), *_words(opened), inner)


def _read_group(group: h5py.Group) -> Prediction:
    return _checked(group["scores"][:], group["fold"][:], *_marks_of_group(group))


def _checked(
    scores: Floats, fold: Ints, protocol: str, features: str, inner: Ints | None = None
) -> Prediction:
    kinds = scores.dtype.kind + fold.dtype.kind
    if kinds != "fi" or scores.ndim != 2 or fold.shape != scores.shape[:1] or not scores.shape[1]:
        raise ValueError("scores and fold of other shapes than a prediction has")
    if fold.min(initial=-1) < -1:
        raise ValueError("a fold below -1, which says that a row was not tested")
    if inner is not None and (
        inner.dtype.kind != "i" or inner.ndim != 2 or len(inner) != len(fold)
    ):
        raise ValueError("inner of another shape than a prediction has")
    return Prediction(scores, fold, protocol, features, inner)


def _marks(file: Path) -> tuple[str, str]:
    with open_regular(file) as bytes_of_it, ZipFile(bytes_of_it) as opened:
        return _words(opened)


def _words(opened: ZipFile) -> tuple[str, str]:
    return _checked_words(str(_array(opened, "protocol")), str(_array(opened, "features")))


def _checked_words(protocol: str, features: str) -> tuple[str, str]:
    if protocol and not isinstance(from_json(protocol), dict):
        raise ValueError("a protocol that is none")
    return protocol, features


def _array(opened: ZipFile, name: str) -> Any:
    """The array of a `.npy` member, as `numpy.load` reads it, which leaves a damaged archive open."""
    with opened.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _marks_of_group(group: h5py.Group) -> tuple[str, str]:
    return _checked_words(
        str(group.attrs.get("protocol", "")), str(group.attrs.get("features", ""))
    )


def write_file(file: Path, prediction: Prediction, about: str | None = None) -> None:
    """Write a prediction to a file of its own, in one step, and text about it."""
    kind = np.promote_types(np.int16, np.min_scalar_type(prediction.fold.max(initial=-1)))
    arrays = {"scores": prediction.scores, "fold": prediction.fold.astype(kind)}
    if prediction.inner is not None:
        of_classes = np.min_scalar_type(-prediction.scores.shape[1])
        arrays["inner"] = prediction.inner.astype(np.promote_types(np.int16, of_classes))
    arrays |= {"protocol": np.array(prediction.protocol), "features": np.array(prediction.features)}
    if about is not None:
        arrays["about"] = np.array(about)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as making, making.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **arrays)


def _take_apart(store: Path) -> None:
    """Give every prediction of a predictions.h5 a file of its own, and then delete it.

    Killed in between, the next call goes on. What does not read any more is missing, and so is made
    again by the next run.
    """
    before = _before(store)
    if not before.is_file():
        return
    for task, backbone, layer, method in _keys_before(before):
        key = (task, backbone, layer, method)
        if not file_of(store, key).exists():
            for prediction in _values_before(store, [key], _read_group).values():
                write_file(file_of(store, key), prediction)
    before.unlink()


def _keys_before(before: Path) -> list[list[str]]:
    """The names of all groups that are four deep."""
    try:
        with _opened_before(before) as old:
            names: list[str] = []
            old.visit(names.append)
    except DAMAGED:
        return []
    return [parts for parts in (name.split("/") for name in names) if len(parts) == 4]


def _opened_before(store: Path) -> h5py.File:
    """The predictions.h5 of an older study, open for reading; a pipe would be waited for."""
    check_regular(_before(store))
    return h5py.File(_before(store), "r")


def _before(store: Path) -> Path:
    return store.with_suffix(".h5")


def _group_name(part: str) -> str:
    return part.replace("/", ".") or "-"


def _file_name(part: str) -> str:
    """The name of a file or folder: no two names have the same, but where they differ in `/` and `.`."""
    safe = quote(_group_name(part), safe="@+=, ", errors="surrogateescape")
    if safe.startswith("."):  # a hidden file, or a folder above
        safe = f"%2E{safe[1:]}"
    if len(safe) <= _LONGEST_NAME:
        return safe
    mark = hashlib.sha256(safe.encode()).hexdigest()[:16]
    return f"{safe[: _LONGEST_NAME - 17]}-{mark}"
