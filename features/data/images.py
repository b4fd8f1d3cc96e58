"""Images in one array, `.npz` or `.h5`: written out once as PNG files in the cache folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from features.data.arrayfile import read_arrays, strings
from features.data.image_cache import digest_of, written_out
from features.data.manifest import Manifest
from features.errors import InputError, nearest

_PARTS = ("train", "val", "test")
_CHANNELS = (1, 3, 4)

Arrays = dict[str, npt.NDArray[Any]]


def read_images(file: Path) -> Manifest:
    """One row per image of the array `images`, uint8 `(n, h, w)` or `(n, h, w, channels)`.

    Every other array `(n,)` or `(n, 1)` is a column: labels, and `subject`, `fold` or `split`. Arrays
    called `train_images`, `val_images` and `test_images`, as in MedMNIST's files, are joined
    one after the other, with a column `split`.

    Raises:
        InputError: There are no such arrays, or no labels.
    """
    arrays = _joined(read_arrays(file))
    images = arrays.pop("images", None)
    if images is None:
        raise InputError(f"{file}: has no array called images; {nearest('images', sorted(arrays))}")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
        raise InputError(
            f"{file}: images are {images.dtype} of shape {images.shape}; save them as uint8, 0 to "
            "255, of shape (n, height, width) or (n, height, width, channels)."
        )
    if images.ndim == 4 and images.shape[3] not in _CHANNELS:
        raise InputError(
            f"{file}: images have {images.shape[3]} channels in the last axis; save them as (n, "
            "height, width, channels) with 1, 3 or 4 channels."
        )
    n = len(images)
    columns = {
        name: strings(array.reshape(n))
        for name, array in arrays.items()
        if array.shape in ((n,), (n, 1)) and name != "path"
    }
    if not columns:
        raise InputError(f"{file}: has images but no labels; add an array of length {n} per task.")
    made = ((_name(i), _png(image)) for i, image in enumerate(images))
    folder = written_out(digest_of(file), made)
    columns = {"path": [_name(i) for i in range(n)], **columns}
    return Manifest(str(file.resolve()), folder, columns)


def _joined(arrays: Arrays) -> Arrays:
    parts = [part for part in _PARTS if f"{part}_images" in arrays]
    if not parts or "images" in arrays:
        return arrays
    names = [name.removeprefix(f"{parts[0]}_") for name in arrays if name.startswith(parts[0])]
    together = {
        ("label" if name == "labels" else name): np.concatenate(
            [arrays[f"{part}_{name}"] for part in parts]
        )
        for name in names
        if all(f"{part}_{name}" in arrays for part in parts)
    }
    sizes = [len(arrays[f"{part}_images"]) for part in parts]
    return together | {"split": np.repeat(parts, sizes)}


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    made = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
        made, "png", compress_level=1
    )
    return made.getvalue()


def _name(i: int) -> str:
    return f"{i // 1000:04}/{i:07}.png"
