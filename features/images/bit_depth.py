"""Pictures with more than eight bits a channel: one channel of 16-bit, 32-bit or floating-point values.

Which value is white is told by the file where it has fewer than 16 bits, or by the range that a person or
a card gives. Of 16-bit files without a range white is 65535. What white is of 32-bit and floating-point
values is told by nothing: without a range they are not read.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

Range = tuple[float, float]
"""The values of black and of white."""

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_FULL: Range = (0.0, 65535.0)
_JPEG = b"\xff\xd8"


class UnknownRange(Exception):
    """The picture cannot be read without a range, or with this one; the text says why."""


def is_deep(image: Image.Image) -> bool:
    """Whether the picture has one channel of more than eight bits."""
    return image.mode == "F" or image.mode.startswith("I")


def high_bytes(image: Image.Image) -> bool:
    """Whether Pillow has read 16 bits a channel, of several channels, as the high byte of each."""
    bits = tags(image).get(_BITS) or (8,)
    tiles = getattr(image, "tile", None) if image.format == "PNG" else None
    raw = str(tiles[0][3]) if tiles else ""
    return max(bits) > 8 or ";16" in raw


def tags(image: Image.Image) -> dict[int, tuple[int, ...]]:
    """The tags of a TIFF file that tell what its values are; none of other formats."""
    read = getattr(image, "tag_v2", {})
    values = {tag: read.get(tag) for tag in (_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT)}
    return {
        tag: tuple(value) if isinstance(value, tuple) else (value,)
        for tag, value in values.items()
        if value is not None
    }


def scaled(image: Image.Image, given: Range | None) -> Image.Image:
    """The picture with black at 0 and white at 255; values beyond are black or white.

    Args:
        image: A picture with one channel of more than eight bits.
        given: The values of black and white, if they are known.

    Returns:
        In mode F; or in mode L, the high bytes, where 16 bits are read at their full range.

    Raises:
        UnknownRange: Which values are black and white is not known.
    """
    told = tags(image)
    declared = _declared(image, told)
    if declared is not None and declared[1] < _FULL[1]:
        given = declared
    elif given is None and declared is None:
        raise UnknownRange(_unknown(image))
    inverted = told.get(_PHOTOMETRIC, (1,))[0] == 0  # a TIFF in which 0 is white
    if given is None:
        # what a viewer shows; Pillow itself clips at 255
        grey = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        return grey.point(lambda value: 255 - value) if inverted else grey
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise UnknownRange("it has values that are NaN or infinite")
    low, high = given
    values = np.clip((values - low) * (255.0 / (high - low)), 0.0, 255.0)
    return Image.fromarray(255.0 - values if inverted else values, mode=None)


def values_of(data: bytes) -> Range | None:
    """The least and the largest value of a picture whose black and white its file does not tell.

    None for any other file: of eight bits, of declared bits fewer than 16, and what is no picture.
    """
    if data.startswith(_JPEG):
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            declared = _declared(image, tags(image)) if is_deep(image) else (0.0, 255.0)
            if declared is not None and declared[1] < _FULL[1]:
                return None
            values = np.asarray(image)
            return float(np.nanmin(values)), float(np.nanmax(values))
    except Exception:  # decoders raise many kinds on damaged files, which are told of elsewhere
        return None


def _declared(image: Image.Image, told: dict[int, tuple[int, ...]]) -> Range | None:
    """The range of the file's own numbers; None where any number may be white."""
    if image.mode == "F":
        return None
    if image.format != "TIFF":  # Pillow brings the maximum of a PGM to 65535
        return _FULL
    bits, kind = told.get(_BITS, (16,))[0], told.get(_SAMPLE_FORMAT, (1,))[0]
    return (0.0, float(2**bits - 1)) if kind == 1 and bits <= 16 else None


def _unknown(image: Image.Image) -> str:
    values = np.asarray(image)
    kind = "floating-point" if image.mode == "F" else "32-bit or signed"
    return (
        f"{kind} values of {float(np.nanmin(values)):.6g} to {float(np.nanmax(values)):.6g}, and which are "
        "black and white is not known; give --range BLACK,WHITE, or range under [input] of the card"
    )
