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
from features.data.tasks import RESERVED, Task
from features.errors import InputError

_PARTS = ("train", "val", "test")
_PART_OF = {"valid": "val", "validation": "val", "dev": "val"}
_CHANNELS = (1, 3, 4)

Arrays = dict[str, npt.NDArray[Any]]


def read_images(file: Path) -> Manifest:
    """One row per image of the array `images`, `(n, h, w)` or `(n, h, w, channels)`.

    Every other array `(n,)` or `(n, 1)` is a column: labels, and `subject`, `fold` or `split`; one of
    `(n, K)` with a single 1 in each row is a column of class numbers, and where there is no other column
    one of 0 and 1 has several labels an image. Arrays called `train_images`, `val_images` and
    `test_images`, as in MedMNIST's files, or `x_train` and `x_test`, as in Keras's, are joined one after
    the other, with a column `split`. Channels may come first, and pixels may be floats from 0 to 1; a note
    says so.

    Raises:
        InputError: There are no such arrays, or no labels.
    """
    arrays = _joined(_named(read_arrays(file)))
    images = arrays.pop("images", None)
    if images is None:
        held = ", ".join(f"{name} {array.shape}" for name, array in sorted(arrays.items()))
        raise InputError(
            f"{file}: has no array called images (its arrays: {held}); call that of the images so."
        )
    images, notes = _as_pixels(file, images)
    n = len(images)
    columns = {
        name: strings(column)
        for name, array in arrays.items()
        if name != "path" and (column := _as_column(array, n)) is not None
    }
    tasks = {}
    if not set(columns) - set(RESERVED):
        for name, array in arrays.items():
            of = _as_labels(name, array, n)
            if of:
                columns |= of
                tasks[name] = Task(name, tuple(of), kind="labels", columns=tuple(of))
                words = f"{len(of)} labels of every image, of the columns {', '.join(list(of)[:2])} and on"
                notes.append(f"{file.name}: {name} has {words}")
    if not columns:
        raise InputError(f"{file}: has images but no labels; add an array of length {n} per task.")
    made = ((_name(i), _png(image)) for i, image in enumerate(images))
    folder = written_out(digest_of(file), made)
    columns = {"path": [_name(i) for i in range(n)], **columns}
    return Manifest(str(file.resolve()), folder, columns, tasks, notes=tuple(notes))


def _named(arrays: Arrays) -> Arrays:
    """The arrays with Keras's names, `x_train` and `y_train`, written as MedMNIST's; so `x` and `y`."""
    if "images" in arrays:
        return arrays
    words = {"x": "images", "y": "labels"}
    made = {}
    for name, array in arrays.items():
        kind, _, part = name.lower().partition("_")
        part = _PART_OF.get(part, part)
        if kind in words and part in _PARTS:
            made[f"{part}_{words[kind]}"] = array
        elif kind in words and not part:
            made["images" if kind == "x" else "label"] = array
        else:
            made[name] = array
    return made


def _as_pixels(file: Path, images: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Images as uint8 with channels last, and in sentences what was done for it."""
    notes = []
    right = images.ndim in (3, 4) and len(images) > 0
    if (
        right
        and images.ndim == 4
        and images.shape[3] not in _CHANNELS
        and images.shape[1] in _CHANNELS
    ):
        images = np.moveaxis(images, 1, 3)
        notes.append(f"{file.name}: the channels of the images come first")
    if right and images.dtype.kind == "f":
        low, high = float(images.min()), float(images.max())
        if low >= 0 and high <= 1:
            images = (255 * images + 0.5).astype(np.uint8)
            notes.append(f"{file.name}: the pixels are floats from 0 to 1, read as 0 to 255")
        else:
            raise InputError(
                f"{file}: the pixels are floats from {low:g} to {high:g}; save them as uint8, 0 to 255, "
                "or as floats from 0 to 1."
            )
    whole = right and images.dtype.kind in "iu"
    if whole and images.min() >= 0 and images.max() <= 255:
        images = images.astype(np.uint8)
    if images.dtype != np.uint8 or not right:
        raise InputError(
            f"{file}: images are {images.dtype} of shape {images.shape}; save them as uint8, 0 to "
            "255, of shape (n, height, width) or (n, height, width, channels)."
        )
    if images.ndim == 4 and images.shape[3] not in _CHANNELS:
        raise InputError(
            f"{file}: images have {images.shape[3]} channels in the last axis; save them as (n, "
            "height, width, channels) with 1, 3 or 4 channels."
        )
    return images, notes


def _as_column(array: npt.NDArray[Any], n: int) -> npt.NDArray[Any] | None:
    """The elements of a column, `(n,)`; the class numbers of one-hot labels; None for anything else."""
    if array.shape in ((n,), (n, 1)):
        return array.reshape(n)
    if array.ndim == 2 and len(array) == n and array.dtype.kind in "biuf":
        one_hot = ((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all()
        return array.argmax(1) if one_hot else None
    return None


def _as_labels(name: str, array: npt.NDArray[Any], n: int) -> dict[str, list[str]]:
    """Several labels an image, `(n, K)` of 0 and 1, as a column for each; empty for anything else."""
    binary = (
        array.ndim == 2
        and array.shape[0] == n
        and array.shape[1] > 1
        and array.dtype.kind in "biuf"
    )
    if not binary or not ((array == 0) | (array == 1)).all() or _as_column(array, n) is not None:
        return {}
    return {f"{name}_{i}": strings(column) for i, column in enumerate(array.astype(np.int64).T)}


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
