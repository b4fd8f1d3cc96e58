"""One image file, decoded to RGB as a viewer would show it."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError


class Unreadable(Exception):
    """The file does not decode; the text is the reason in a few words."""


def read_rgb(path: Path) -> Image.Image:
    """Decode `path`, turn it as its EXIF orientation says, and convert it to RGB.

    Transparency is laid over white, 16-bit grey keeps its high byte, and the first frame of an
    animation counts.

    Raises:
        Unreadable: The file is missing, not an image, truncated, or too large to be one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata that viewers ignore too
            with Image.open(path) as opened:
                opened.load()
                return _rgb(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError as error:
        raise Unreadable("not an image") from error
    except FileNotFoundError as error:
        raise Unreadable("no such file") from error
    except PermissionError as error:
        raise Unreadable("no permission to read it") from error
    except Image.DecompressionBombError as error:
        raise Unreadable("too many pixels to be a photo") from error
    except Exception as error:  # decoders raise what they like on damaged files
        raise Unreadable(str(error).splitlines()[0][:100] if str(error) else "damaged") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 on conversion; a viewer shows the high byte.
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")
