"""NumPy's `.npz`: arrays by name, in PyTorch's layout or in TensorFlow's.

The names show the layout. `LAYER.weight`, `LAYER.bias` and the like are PyTorch's. `LAYER_W`,
`LAYER_b`, `LAYER/kernel` and `LAYER/bias` are TensorFlow's: filters (height, width, in, out) and
matrices (in, out) that read a map with its channels last.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from features.errors import InputError
from features.formats import keras
from features.formats.blobs import MOST, Blobs, because, of
from features.formats.sandbox import LayerArray
from features.formats.signatures import members
from features.store.npy import array_of

_INFLATION = 100


def recognise(path: Path, head: bytes, _size: int) -> bool:
    """Whether a file is a zip file of nothing but arrays."""
    names = members(path, head)
    return bool(names) and all(name.endswith(".npy") for name in names)


def read(path: Path) -> Blobs:
    """The tensors in PyTorch's layout.

    Raises:
        InputError: The file is damaged, or holds Python objects.
    """
    try:
        arrays = _arrays(path)
    except InputError:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds
        raise InputError(
            f"{path}: a damaged .npz file, or one of Python objects ({because(error)}); fetch it "
            "again, or save plain arrays."
        ) from error
    parts = {name: keras.split(name, "_") for name in arrays}
    if any(part is None for part in parts.values()):
        tensors = {name.replace("/", "."): _tensor(array) for name, array in arrays.items()}
        return of("npz", path, tensors)
    layers = [LayerArray(*(parts[name] or ("", "")), array) for name, array in arrays.items()]
    tensors = {name: _tensor(array) for name, array in keras.named(layers).items()}
    return of("npz", path, tensors, flatten="hwc")


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        total = sum(member.file_size for member in archive.infolist())
        size = path.stat().st_size
        if total > min(MOST, max(1 << 26, _INFLATION * size)):
            raise InputError(
                f"{path}: would unpack to {total:,} bytes from {size:,}; fetch an intact file."
            )
        for member in archive.infolist():
            with archive.open(member) as file:
                array = array_of(file, member.file_size)
            if array.dtype.kind in "fiu":
                arrays[member.filename.removesuffix(".npy")] = array
    return arrays


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    kind = array.dtype.newbyteorder("=")
    if kind.itemsize > 8:  # long double
        kind = np.dtype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind))
