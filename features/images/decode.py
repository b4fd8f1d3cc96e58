"""One image file, decoded as a viewer would show it, or with the channels that a network wants."""

from __future__ import annotations

import errno
import io
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from rich.filesize import decimal

from features.data.kinds import register
from features.errors import Stopped, first_line
from features.images.bit_depth import Range, UnknownRange, high_bytes, is_deep, scaled
from features.images.jpeg import decode_jpeg
from features.machine import pixel_limit
from features.machine.regular_files import open_regular

_MOST_BYTES = 1 << 30
ABSENT, FORBIDDEN = "no such file", "no permission to read it"
"""Reasons that may not hold when an image is tried again."""
_OUTAGES = (
    errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT,
    errno.EHOSTDOWN, errno.EHOSTUNREACH,
)  # fmt: skip


class Unreadable(Exception):
    """The file cannot be decoded; the text is the reason in a few words."""


@dataclass(frozen=True)
class Reading:
    """What is read of a file."""

    colours: str = "rgb"
    """`rgb`, transparency put on white; `rgba`, with transparency as a channel; `grey`."""
    range: Range | None = None
    """The values of black and white in pictures with more than eight bits; None: as the file tells."""


RGB = Reading()


def read_rgb(path: Path) -> Image.Image:
    """The image in the file `path`, decoded by `decode`, in eight bits.

    Raises:
        Unreadable: The file is missing, not an image, truncated, or too large to be one.
    """
    return decode(read_bytes(path)).convert("RGB")


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        Unreadable: There is no such file, or it cannot be read to its end.
        Stopped: The disk or its mount fails, which says nothing of the file.
    """
    try:
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > _MOST_BYTES:
                raise Unreadable(f"{decimal(size)} are too many for a photo")
            return file.read()
    except FileNotFoundError as error:
        raise Unreadable(ABSENT) from error
    except PermissionError as error:
        raise Unreadable(FORBIDDEN) from error
    except OSError as error:
        if error.errno in _OUTAGES:
            raise Stopped(
                f"{path}: {str(error.strerror).lower()}, so its disk or mount fails; what is done is "
                "kept, run this again when it is back."
            ) from error
        raise Unreadable((error.strerror or str(error)).lower()) from error
    except ValueError as error:  # a NUL in the name
        raise Unreadable(str(error)) from error


def decode(data: bytes, reading: Reading = RGB) -> Image.Image:
    """Decode an image, apply its EXIF orientation, and convert it to the channels of `reading`.

    Of an animation the first frame is read.

    Returns:
        An image in mode RGB, RGBA or L; or in mode F, grey from 0 to 255, of a picture with one channel of
        more than eight bits. 16 bits of which no range is given are read as their high byte.

    Raises:
        Unreadable: It is not an image, truncated, or too large to be a photo, or it has more than eight
            bits and which values are black and white is not known.
    """
    if not data:
        raise Unreadable("an empty file")
    register()
    pixel_limit.take_limit()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of unusual metadata that viewers ignore too
            with Image.open(io.BytesIO(data)) as opened:
                if (image := decode_jpeg(opened, data)) is not None:
                    return _in_colours(image, reading.colours)
                deep = high_bytes(opened)
                opened.load()
                with suppress(Exception):  # damaged EXIF is ignored
                    ImageOps.exif_transpose(opened, in_place=True)
                if is_deep(opened):
                    return _of_grey(scaled(opened, reading.range), reading.colours)
                if deep and reading.range not in (None, (0, 65535)):
                    raise UnknownRange(
                        "16 bits a channel in colour are read from 0 to 65535, not in another range; save "
                        "it in eight bits"
                    )
                return _in_colours(opened, reading.colours)
    except UnidentifiedImageError as error:
        raise Unreadable("not an image") from error
    except Image.DecompressionBombError as error:
        raise Unreadable(pixel_limit.reason(error)) from error
    except UnknownRange as error:
        raise Unreadable(str(error)) from error
    except Exception as error:  # decoders raise many kinds on damaged files
        raise Unreadable(first_line(error, 100) if str(error) else "damaged") from error


def _of_grey(image: Image.Image, colours: str) -> Image.Image:
    """A grey image in `colours`; one in mode F stays as it is."""
    if image.mode == "F" or colours == "grey":
        return image
    return image.convert(colours.upper())


def _in_colours(image: Image.Image, colours: str) -> Image.Image:
    if colours == "rgba":
        # a fourth channel that the file does not call transparency is one for the network all the same
        return Image.merge("RGBA", image.split()) if image.mode == "RGBX" else image.convert("RGBA")
    rgb = _rgb(image)
    return rgb.convert("L") if colours == "grey" else rgb


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")
