"""A sample of a domain: the images of a folder, without labels, in two halves drawn at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from features.data.imagefiles import image_files
from features.data.manifest import Manifest
from features.errors import InputError

MOST = 500
"""Images of a sample; of a larger folder this many are drawn with a fixed seed."""


def read_unlabelled(folder: Path) -> Manifest:
    """Rows of up to MOST images at any depth of the folder; the column `half` is `a` or `b`.

    Raises:
        InputError: There is no such folder, or too few images in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give a folder of images.")
    paths = image_files(folder)
    if len(paths) < 20:
        raise InputError(
            f"{folder}: {len(paths)} images are too few for a sample of a domain; give 20 or more."
        )
    drawn = np.random.default_rng(0).permutation(len(paths))[:MOST]
    half = np.random.default_rng(1).permutation(len(drawn)) % 2
    columns = {
        "path": [paths[i] for i in np.sort(drawn)],
        "half": [("a", "b")[i] for i in half],
    }
    return Manifest(f"unlabelled:{folder.resolve()}", folder.resolve(), columns)
