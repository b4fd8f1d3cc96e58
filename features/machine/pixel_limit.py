"""How many pixels a picture may have: Pillow's limit, or the one that a person gives.

A small file can hold more pixels than memory does, so that above a limit none is decoded. `--max-pixels`
sets PROBE_MAX_PIXELS, which the processes of a command inherit; a study keeps it as `data.max_pixels`.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

from PIL import Image

from features.errors import OptionError
from features.machine.regular_files import open_regular

VARIABLE = "PROBE_MAX_PIXELS"
_OF_STUDY = "PROBE_STUDY_MAX_PIXELS"
"""What the study at hand keeps, for the processes of a command."""
_PILLOWS = Image.MAX_IMAGE_PIXELS
TOO_MANY = "too many pixels to be a photo"
"""What the reason begins with; of files of before it is all of the reason."""


def checked(pixels: int) -> int:
    """The limit, if it can be one.

    Raises:
        OptionError: It is below 1.
    """
    if pixels < 1:
        raise OptionError(f"--max-pixels {pixels}: write how many pixels at most, 1 or more.")
    return pixels


def given() -> int | None:
    """The limit that PROBE_MAX_PIXELS gives, if it gives one.

    Raises:
        OptionError: PROBE_MAX_PIXELS is no number above 0.
    """
    written = os.environ.get(VARIABLE, "")
    try:
        return checked(int(written)) if written else None
    except ValueError as error:
        raise OptionError(f"{VARIABLE}={written}: is no number of pixels; correct it.") from error


def of_study(pixels: int | None) -> None:
    """Let the limit that a study keeps hold where none is given; None: it keeps none."""
    if pixels is not None:
        os.environ[_OF_STUDY] = str(pixels)
    elif os.environ.pop(_OF_STUDY, None) is not None:
        Image.MAX_IMAGE_PIXELS = _PILLOWS


def take_limit() -> None:
    """Make Pillow keep to the limit that is given, or that the study keeps.

    Raises:
        OptionError: PROBE_MAX_PIXELS is no number above 0.
    """
    most = given() or int(os.environ.get(_OF_STUDY, "0"))
    if most:
        Image.MAX_IMAGE_PIXELS = (most + 1) // 2  # Pillow warns above it, refuses above twice of it


def reason(error: Image.DecompressionBombError) -> str:
    """Why Pillow did not decode a picture, with its pixels, the limit and what admits it."""
    told = re.search(r"\((\d+) pixels\)", str(error))
    most = Image.MAX_IMAGE_PIXELS
    if told is None or most is None:
        return TOO_MANY
    return f"{TOO_MANY} ({int(told[1]):,}, above {2 * most:,}): give --max-pixels {told[1]}"


def is_within(file: Path) -> bool:
    """Whether a picture's header says no more pixels than the limit of now."""
    take_limit()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of half the limit
            with open_regular(file) as opened, Image.open(opened):
                return True
    except Exception:  # decoders raise many kinds on damaged files
        return False
