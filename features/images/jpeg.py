"""Decoding JPEG with torchcodec, the extra `decode`: the same pixels as Pillow in half the time."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

_ORIENTATION = 0x0112


@functools.cache
def _decoder() -> Callable[[bytes], Tensor] | None:
    try:
        decode = importlib.import_module("torchcodec.decoders").decode_jpeg
    except (
        ImportError,
        OSError,
        RuntimeError,
    ):  # a build for another PyTorch fails when it is imported
        return None
    return cast("Callable[[bytes], Tensor]", decode)


def name() -> str:
    """The name of the JPEG decoder, as feature files record it."""
    return "pillow" if _decoder() is None else f"pillow, jpeg by torchcodec {version('torchcodec')}"


def decode_jpeg(opened: Image.Image, data: bytes) -> Image.Image | None:
    """The pixels of an ordinary JPEG, upright and in colour, identical to those of Pillow.

    Args:
        opened: The image, of which Pillow has read the header.
        data: The bytes of the file.

    Returns:
        None where Pillow must decode it; Pillow also gives the reason if a file is damaged.
    """
    decoder = _decoder()
    if decoder is None or (opened.format, opened.mode) != ("JPEG", "RGB"):
        return None
    try:
        if opened.getexif().get(_ORIENTATION, 1) != 1:
            return None
        pixels = decoder(data)
    except Exception:  # both raise many kinds on damaged files
        return None
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
