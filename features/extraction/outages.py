"""Images that could not be read for a reason that may pass: tried again, or the run stops.

A file that is missing or forbidden while its data set is there is unreadable, and tried again by the next
run, and so is a picture above the limit of pixels once that admits it. Where the whole data set is gone,
nothing is said of its images: they stay pending.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from features.arrays import Ints
from features.errors import Stopped
from features.images.decode import ABSENT, FORBIDDEN
from features.machine import pixel_limit
from features.machine.regular_files import open_regular
from features.store.contents import FileContents
from features.store.featurefile import PENDING
from features.study.study import Study


def check_root(study: Study) -> None:
    """Make sure that the folder of the images is there, once one of them is not.

    Raises:
        Stopped: It is gone, or empty, as the place of a disk is that is not mounted.
    """
    if not study.root.is_dir() or not _has_entries(study.root):
        raise Stopped(
            f"{study.root}: the folder of the images is gone or empty; what is done is kept, run this "
            "again when it is back, or with --root DIR if they are in another folder now."
        )


def _has_entries(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except PermissionError:  # its files may be read all the same
        return True


def tried_again(study: Study, contents: FileContents, rows: Ints) -> FileContents:
    """The contents with `rows` pending whose image was missing, forbidden or too large and is not now."""
    asked = set(rows.tolist())
    back = [
        row
        for row, why in contents.reasons.items()
        if row in asked and _may_be_read(study.root / study.paths[row], why)
    ]
    if not back:
        return contents
    status = contents.status.copy()
    status[np.array(back)] = PENDING
    return replace(contents, status=status)


def _may_be_read(path: Path, why: str) -> bool:
    if why.startswith(pixel_limit.TOO_MANY):
        return pixel_limit.is_within(path)
    return why in (ABSENT, FORBIDDEN) and _opens(path)


def _opens(path: Path) -> bool:
    try:
        with open_regular(path):
            return path.is_file()
    except OSError:
        return False
