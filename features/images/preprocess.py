"""Preprocessing: an image is resized and cropped as uint8, then normalised on the device."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from features.cards.card import Input
from features.errors import InputError
from features.formats import meanimage
from features.machine.regular_files import read_regular

Geometry = tuple[tuple[int, int], int | tuple[int, int], str, bool]
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def geometry(wanted: Input) -> Geometry:
    """The settings that decide the pixels: inputs with equal settings share one decoded image."""
    resize = wanted.resize if wanted.resize is not None else wanted.size
    return wanted.size, resize, wanted.interpolation, wanted.floors


def to_pixels(image: Image.Image, wanted: Input) -> npt.NDArray[np.uint8]:
    """Resize and centre-crop an RGB image to `(3, h, w)`, channels still in RGB.

    The filter is Pillow's, which smooths when it shrinks ("antialiased"); the offset of the crop is
    rounded as `wanted` has it.
    """
    height, width = wanted.size
    size = _resized(image.size, wanted)
    if image.size != size:
        image = image.resize(size, _FILTERS[wanted.interpolation])
    left, top = offset(image.width - width, wanted), offset(image.height - height, wanted)
    if (left, top) != (0, 0) or image.size != (width, height):
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image).transpose(2, 0, 1)


def normalise(pixels: Tensor, wanted: Input) -> Tensor:
    """`(n, 3, h, w)` uint8 in RGB to float32 in the card's channel order, scale, mean and std.

    The result is channels last in memory.
    """
    n, _, height, width = pixels.shape
    if wanted.channel_order != "rgb":
        pixels = pixels[:, ["rgb".index(c) for c in wanted.channel_order]]
    # Rows of w * 3 numbers: an innermost axis of 3 would be several times slower.
    x = pixels.permute(0, 2, 3, 1).to(torch.float32).reshape(n, height, width * 3)
    if wanted.scale != 255:
        x *= wanted.scale / 255.0
    mean = mean_of(wanted).to(x.device).permute(0, 2, 3, 1)  # (1, 1 or h, 1 or w, 3)
    x -= mean.expand(1, -1, width, 3).reshape(1, -1, width * 3)
    if any(std != 1 for std in wanted.std):
        x /= torch.tensor(wanted.std, device=x.device).repeat(width)
    return x.view(n, height, width, 3).permute(0, 3, 1, 2)


def mean_of(wanted: Input) -> Tensor:
    """The mean to subtract: `(1, 3, 1, 1)`, or `(1, 3, h, w)` of a mean image, cropped like the input.

    Raises:
        InputError: The mean image is missing, or has another size than the images have.
    """
    if not isinstance(wanted.mean, str):
        return torch.tensor(wanted.mean).view(1, 3, 1, 1)
    image = meanimage.read(Path(wanted.mean))
    height, width = wanted.size
    resize = wanted.resize if wanted.resize is not None else wanted.size
    rows, columns = image.shape[1:]
    if (rows, columns) == wanted.size:
        return image[None]
    if (rows, columns) != resize:
        raise InputError(
            f"{wanted.mean}: the mean image is {rows} x {columns}, and neither the resized image "
            "nor its crop has this size; correct size and resize under [input]."
        )
    top, left = offset(rows - height, wanted), offset(columns - width, wanted)
    return image[None, :, top : top + height, left : left + width]


def describe(wanted: Input) -> str:
    """The preprocessing in words, as feature files record it."""
    height, width = wanted.size
    resize = wanted.resize if wanted.resize is not None else wanted.size
    floored = ", offset rounded down" if wanted.crop_offset == "floor" else ""
    to = f"shorter side {resize}" if isinstance(resize, int) else f"{resize[0]} x {resize[1]}"
    return (
        f"EXIF orientation applied, RGB, resized to {to} ({wanted.interpolation}, antialiased), "
        f"centre crop {height} x {width} (height x width{floored}), "
        f"channels {wanted.channel_order.upper()}, "
        f"pixels 0..{wanted.scale:.9g}, minus {_mean_in_words(wanted)}, divided by {list(wanted.std)}"
    )


def _mean_in_words(wanted: Input) -> str:
    if not isinstance(wanted.mean, str):
        return str(list(wanted.mean))
    digest = hashlib.sha256(read_regular(Path(wanted.mean))).hexdigest()
    return f"the mean image {Path(wanted.mean).name} (sha256 {digest[:12]}) at the crop's place"


def offset(room: int, wanted: Input) -> int:
    """The start of the centre crop in an image that is larger by `room` pixels."""
    return room // 2 if wanted.floors else round(room / 2.0)


def _resized(size: tuple[int, int], wanted: Input) -> tuple[int, int]:
    """Width and height after resizing, from `(width, height)`."""
    resize = wanted.resize if wanted.resize is not None else wanted.size
    if not isinstance(resize, int):
        return resize[1], resize[0]
    short, long = min(size), max(size)
    longer = int(resize * long / short)
    return (resize, longer) if size[0] <= size[1] else (longer, resize)
