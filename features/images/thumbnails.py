"""Small grey images and digests of image files, by which copies are recognised."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from features.images.bit_depth import Range, values_of
from features.images.decode import Unreadable, decode, read_bytes
from features.machine.device import thread_per_core

SIDE = 64
_AT_ONCE = 32
"""Files for which a thread is asked: to ask costs a tenth of reading a small one."""
_Read = tuple[bytes, npt.NDArray[np.uint8] | None, str, Range | None]
"""A file's digest, its image or the reason why there is none, and its values if it is deep."""


@dataclass(frozen=True)
class Thumbnails:
    """The images of a list of files, in the same order."""

    grey: npt.NDArray[np.uint8]
    """`(n, 64, 64)`, each image resized to a square; 0 where it cannot be decoded."""
    digest: tuple[bytes, ...]
    """The digest of each file's bytes; empty where it cannot be read."""
    unreadable: dict[int, str]
    """The reason by index of a file that cannot be decoded."""
    deep: dict[int, Range]
    """The least and the largest value by index of a picture whose black and white nothing tells."""


def thumbnails(
    files: Sequence[Path], progress: Callable[[int, int], None] = lambda _done, _all: None
) -> Thumbnails:
    """Read and decode every file, on all cores.

    Args:
        files: Image files, which may be missing.
        progress: Called with the number of files done and of all files.
    """
    grey = np.zeros((len(files), SIDE, SIDE), dtype=np.uint8)
    digests, unreadable, deep = [], {}, {}
    several = [files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE)]
    with thread_per_core() as pool:
        read = (each for some in pool.map(_read_several, several) for each in some)
        for place, (digest, image, why, values) in enumerate(read):
            digests.append(digest)
            if values is not None:
                deep[place] = values
            if image is None:
                unreadable[place] = why
            else:
                grey[place] = image
            progress(place + 1, len(files))
    return Thumbnails(grey, tuple(digests), unreadable, deep)


def _read_several(files: Sequence[Path]) -> list[_Read]:
    return [_read(file) for file in files]


def _read(file: Path) -> _Read:
    digest, values = b"", None
    try:
        data = read_bytes(file)
        digest = hashlib.blake2b(data, digest_size=16).digest()
        values = values_of(data)
        image = decode(data).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    except Unreadable as error:
        return digest, None, str(error), values
    return digest, np.asarray(image), "", values
