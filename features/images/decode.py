"""One image file, decoded to RGB as a viewer would show it."""

from __future__ import annotations

import io
import os
import warnings
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from rich.filesize import decimal

from features.data.kinds import register
from features.errors import first_line
from features.images.jpeg import decode_jpeg
from features.machine.regular_files import open_regular

_MOST_BYTES = 1 << 30


class Unreadable(Exception):
    """The file cannot be decoded; the text is the reason in a few words."""


def read_rgb(path: Path) -> Image.Image:
    """The image in the file `path`, decoded by `decode`.

    Raises:
        Unreadable: The file is missing, not an image, truncated, or too large to be one.
    """
    return decode(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        Unreadable: There is no such file, or it cannot be read to its end.
    """
    try:
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > _MOST_BYTES:
                raise Unreadable(f"{decimal(size)} are too many for a photo")
            return file.read()
    except FileNotFoundError as error:
        raise Unreadable("no such file") from error
    except PermissionError as error:
        raise Unreadable("no permission to read it") from error
    except OSError as error:
        raise Unreadable((error.strerror or str(error)).lower()) from error
    except ValueError as error:  # a NUL in the name
        raise Unreadable(str(error)) from error


def decode(data: bytes) -> Image.Image:
    """Decode an image, apply its EXIF orientation, and convert it to RGB.

    Transparency is put on white, 16-bit grey keeps its high byte, and of an animation the first frame is
    read.

    Raises:
        Unreadable: It is not an image, truncated, or too large to be a photo.
    """
    if not data:
        raise Unreadable("an empty file")
    register()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of unusual metadata that viewers ignore too
            with Image.open(io.BytesIO(data)) as opened:
                if (image := decode_jpeg(opened, data)) is not None:
                    return image
                opened.load()
                with suppress(Exception):  # damaged EXIF is ignored
                    ImageOps.exif_transpose(opened, in_place=True)
                return _rgb(opened)
    except UnidentifiedImageError as error:
        raise Unreadable("not an image") from error
    except Image.DecompressionBombError as error:
        raise Unreadable("too many pixels to be a photo") from error
    except Exception as error:  # decoders raise many kinds on damaged files
        raise Unreadable(first_line(error, 100) if str(error) else "damaged") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 on conversion; a viewer shows the high byte.
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")
