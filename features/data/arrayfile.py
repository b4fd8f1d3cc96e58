"""Files of arrays, `.npz` and `.h5`: every array by its name."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from rich.filesize import decimal

from features.errors import InputError

SUFFIXES = (".npz", ".h5", ".hdf5")
_MOST_BYTES = 64 << 30


def read_arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a file; nothing in it is unpickled.

    Raises:
        InputError: It is missing, damaged, too large or of another kind.
    """
    if not file.is_file():
        raise InputError(f"{file}: there is no such file; check the path.")
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as opened:
                return {key: opened[key] for key in opened.files}
        if file.suffix in SUFFIXES:
            with h5py.File(file, "r") as opened:
                found = {k: v for k, v in opened.items() if isinstance(v, h5py.Dataset)}
                size = sum(v.size * v.dtype.itemsize for v in found.values())
                if size > _MOST_BYTES:
                    raise InputError(f"{file}: {decimal(size)} of arrays are too many to read.")
                return {k: _text(v[()]) for k, v in found.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: cannot be read ({error}); write it again.") from error
    raise InputError(f"{file}: arrays come as .npz or .h5; save them so.")


def strings(array: npt.NDArray[Any]) -> list[str]:
    """The elements of an array `(n,)` as text."""
    return [v.decode() if isinstance(v, bytes) else str(v) for v in array.tolist()]


def _text(array: Any) -> npt.NDArray[Any]:
    if getattr(getattr(array, "dtype", None), "kind", "") == "O":
        return np.array([x.decode() if isinstance(x, bytes) else str(x) for x in array])
    return np.asarray(array)
