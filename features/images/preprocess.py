"""Preprocessing: an image is resized and cropped as it was decoded, then normalised on the device."""

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
from features.images.decode import Reading
from features.machine.device import sent
from features.machine.regular_files import read_regular

Geometry = tuple[tuple[int, int], int | tuple[int, int], str, bool, Reading]
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_COLOURS = {1: "grey", 3: "rgb", 4: "rgba"}
"""What is decoded for so many channels."""
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def reading(wanted: Input) -> Reading:
    """What is read of an image file."""
    return Reading(_COLOURS[wanted.channels], wanted.range)


def geometry(wanted: Input) -> Geometry:
    """The settings that decide the pixels: inputs with equal settings share one decoded image."""
    resize = wanted.resize if wanted.resize is not None else wanted.size
    return wanted.size, resize, wanted.interpolation, wanted.floors, reading(wanted)


def to_pixels(image: Image.Image, wanted: Input) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
    """Resize and centre-crop an image, decoded as `reading(wanted)`, or in other eight-bit channels.

    The filter is Pillow's, which smooths when it shrinks ("antialiased"); the offset of the crop is
    rounded as `wanted` has it. Transparency is a channel as the others are.

    Returns:
        `(channels, h, w)`: grey, RGB or RGBA in uint8, or, of a picture with more than eight bits, float32
        in 0..255.
    """
    mode = _MODES[wanted.channels]
    if image.mode not in (mode, "F"):  # an image in memory, which was not read for this network
        image = image.convert(mode)
    height, width = wanted.size
    size = _resized(image.size, wanted)
    if image.size != size:
        # Pillow multiplies colours by their transparency before it resizes RGBA: each band on its own
        bands = image.split() if image.mode == "RGBA" else (image,)
        bands = tuple(band.resize(size, _FILTERS[wanted.interpolation]) for band in bands)
        image = Image.merge("RGBA", bands) if len(bands) == 4 else bands[0]
    left, top = offset(image.width - width, wanted), offset(image.height - height, wanted)
    if (left, top) != (0, 0) or image.size != (width, height):
        image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image)
    if pixels.ndim == 3:
        return pixels.transpose(2, 0, 1)
    if image.mode != "F":
        return pixels[None]
    channels = [pixels.clip(0.0, 255.0)] * min(wanted.channels, 3)  # the filter may overshoot
    opaque = [np.full_like(pixels, 255.0)] * (wanted.channels == 4)
    return np.stack(channels + opaque)


def normalise(pixels: Tensor, wanted: Input) -> Tensor:
    """`(n, channels, h, w)` in 0..255 to float32 in the card's channel order, scale, mean and std.

    The result is channels last in memory.
    """
    n, channels, height, width = pixels.shape
    if wanted.channel_order != _COLOURS[channels]:
        pixels = pixels[:, [_COLOURS[channels].index(c) for c in wanted.channel_order]]
    # Rows of w * channels numbers: an innermost axis of 3 would be several times slower.
    x = pixels.permute(0, 2, 3, 1).to(torch.float32, copy=True).reshape(n, height, width * channels)
    if wanted.scale != 255:
        x *= wanted.scale / 255.0
    mean = sent(mean_of(wanted), x.device).permute(0, 2, 3, 1)  # (1, 1 or h, 1 or w, channels)
    x -= mean.expand(1, -1, width, channels).reshape(1, -1, width * channels)
    if any(std != 1 for std in wanted.std):
        x /= sent(torch.tensor(wanted.std), x.device).repeat(width)
    return x.view(n, height, width, channels).permute(0, 3, 1, 2)


def mean_of(wanted: Input) -> Tensor:
    """The mean to subtract: `(1, channels, 1, 1)`, or `(1, channels, h, w)` of a mean image, cropped too.

    Raises:
        InputError: The mean image is missing, or has another size than the images have.
    """
    if not isinstance(wanted.mean, str):
        return torch.tensor(wanted.mean).view(1, -1, 1, 1)
    image = meanimage.read(Path(wanted.mean), wanted.channels)
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
    colours = {
        "grey": "grey (0.299 R + 0.587 G + 0.114 B, transparency on white)",
        "rgb": "RGB",
        "rgba": "RGBA",
    }[_COLOURS[wanted.channels]]
    if wanted.range is not None:
        colours += (
            f", values {wanted.range[0]:.9g}..{wanted.range[1]:.9g} of deep pictures as 0..255"
        )
    return (
        f"EXIF orientation applied, {colours}, resized to {to} ({wanted.interpolation}, antialiased), "
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
