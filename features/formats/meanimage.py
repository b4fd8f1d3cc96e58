"""A mean image, which is subtracted from an image pixel by pixel.

Caffe's `.binaryproto`, NumPy's `.npy`, or MATLAB's `.mat`; `(channels, h, w)`, or `(h, w, channels)` in the
last two, with the channels in the order that the card gives.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.errors import InputError
from features.formats.sandbox import LayerArray, run
from features.machine.regular_files import open_regular

if TYPE_CHECKING:
    from torch import Tensor


def read(path: Path, channels: int = 3) -> Tensor:
    """The mean image as `(channels, h, w)` float32.

    Raises:
        InputError: The file is missing, damaged, or not one image with so many channels.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such mean image; paths start from the card's folder."
        )
    return _read(path, channels, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, channels: int, _changed: int) -> Tensor:
    import torch

    with open_regular(path) as file:
        head = file.read(6)
    if head == b"\x93NUMPY":
        arrays = [_npy(path)]
    elif head.startswith((b"MATLAB", b"\x89HDF")):
        arrays = [array for _, _, array in run("meanimage", path)]
    else:
        from features.caffe import read_binaryproto

        arrays = [read_binaryproto(path).numpy()]
    turned = (_channels_first(array, (channels,)) for array in arrays)
    images = [image for image in turned if image is not None]
    if len(images) != 1 or not np.isfinite(images[0]).all():
        raise InputError(
            f"{path}: not one image of shape ({channels}, h, w); give a mean image of that shape."
        )
    return torch.from_numpy(np.ascontiguousarray(images[0], dtype=np.float32))


def parse(path: Path) -> list[LayerArray]:
    """The images in a MATLAB file at any depth; runs in a separate process."""
    from features.formats import matlab

    with matlab.variables(path) as variables:
        return [
            LayerArray("", "", value)
            for value in _arrays(variables)
            if _channels_first(value, (1, 3, 4)) is not None
        ]


def _arrays(value: Any) -> list[npt.NDArray[Any]]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [array for element in value for array in _arrays(element)]
    return [value] if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" else []


def _npy(path: Path) -> npt.NDArray[Any]:
    from features.store.npy import array_of

    try:
        with open_regular(path) as file:
            return array_of(file, path.stat().st_size)
    except Exception as error:  # NumPy raises many kinds
        raise InputError(f"{path}: a damaged .npy file; fetch or save it again.") from error


def _channels_first(array: npt.NDArray[Any], channels: tuple[int, ...]) -> npt.NDArray[Any] | None:
    """The array as `(channels, h, w)`; None if it is no image of so many channels."""
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2 and channels == (1,):
        array = array[None]
    if array.ndim != 3 or not {array.shape[0], array.shape[2]} & set(channels):
        return None
    return array if array.shape[0] in channels else array.transpose(2, 0, 1)
