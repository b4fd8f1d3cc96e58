"""Files of arrays, `.npy`, `.npz` and `.h5`: every array that lies in the file itself, by its name."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from rich.filesize import decimal

from features.errors import InputError
from features.machine.regular_files import open_regular
from features.store.hdf5 import open_hdf5
from features.store.npy import array_of

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")
_MOST_BYTES = 64 << 30
_SMALL_BYTES = 1 << 26
_INFLATION = 100  # numbers and texts compress by less than this
_ROWS = 64  # of texts, read at once

Arrays = dict[str, npt.NDArray[Any]]


def read_arrays(file: Path) -> Arrays:
    """All arrays of a file; nothing in it is unpickled, no other file is read.

    The one array of an `.npy` file is called `features`.

    Raises:
        InputError: It is missing, damaged, of another kind, refers to another file, or declares more than
            a file of its size can hold.
    """
    if not file.is_file():
        raise InputError(f"{file}: there is no such file; check the path.")
    if file.suffix not in SUFFIXES:
        raise InputError(
            f"{file}: arrays are read from .npy, .npz or .h5; save them as one of these."
        )
    most = min(_MOST_BYTES, max(_SMALL_BYTES, _INFLATION * file.stat().st_size))
    try:
        if file.suffix == ".npy":
            with open_regular(file) as opened:
                return {"features": array_of(opened, file.stat().st_size)}
        return dict(_of_npz(file, most) if file.suffix == ".npz" else _of_hdf5(file, most))
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib, NumPy and HDF5 raise many kinds
        why = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise InputError(f"{file}: cannot be read ({why}); write it again.") from error


def strings(array: npt.NDArray[Any]) -> list[str]:
    """The elements of an array `(n,)` as text."""
    return [_text(value) for value in array.tolist()]


def _of_npz(file: Path, most: int) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    with zipfile.ZipFile(file) as archive:
        _check_size(file, sum(member.file_size for member in archive.infolist()), most)
        for member in archive.infolist():
            with archive.open(member) as opened:
                yield member.filename.removesuffix(".npy"), array_of(opened, member.file_size)


def _of_hdf5(file: Path, most: int) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    with open_hdf5(file) as opened:
        arrays = {}
        for name in opened:
            # A link is not followed, not even to see what it leads to: that would open another file.
            if not isinstance(opened.get(name, getlink=True), h5py.HardLink):
                raise InputError(
                    f"{file}: {name} is a link, maybe to another file; save the array itself."
                )
            data = opened[name]
            if isinstance(data, h5py.Dataset):
                if data.is_virtual or data.external:
                    raise InputError(
                        f"{file}: the numbers of {name} lie in another file; save them in this one."
                    )
                arrays[name] = data
        _check_size(file, sum(_bytes(data) for data in arrays.values()), most)
        for name, data in arrays.items():
            texts = data.dtype.kind == "O"
            yield name, _texts(file, data, most) if texts else np.asarray(data[()])


def _texts(file: Path, data: h5py.Dataset, most: int) -> npt.NDArray[Any]:
    """The texts of a data set, whose lengths are known only once they are read."""
    texts: list[str] = []
    longest = 0
    for start in range(0, len(data) if data.ndim else 0, _ROWS):
        part = [_text(value) for value in np.ravel(data[start : start + _ROWS])]
        longest = max(longest, *map(len, part)) if part else longest
        _check_size(file, 4 * longest * data.size, most)  # as NumPy lays them out
        texts += part
    return np.array(texts).reshape(data.shape if data.ndim else 0)


def _bytes(data: h5py.Dataset) -> int:
    size = int(data.dtype.itemsize)
    for side in data.shape or (0,):
        size *= int(side)
    return size


def _check_size(file: Path, size: int, most: int) -> None:
    if size > most:
        raise InputError(
            f"{file}: declares {decimal(size)} of arrays, more than it can hold; save it again."
        )


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
