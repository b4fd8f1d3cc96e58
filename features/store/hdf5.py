"""Opening HDF5 files, also on a file system without locks, and the filters of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import h5py

from features.machine.locks import NO_LOCKS

FILTERS = {"none": {}, "lzf": {"shuffle": True, "compression": "lzf"}} | {
    "gzip": {"shuffle": True, "compression": "gzip", "compression_opts": 1}
}
"""How features may be compressed, by what every HDF5 brings itself."""


def open_hdf5(
    path: Path, mode: Literal["r", "r+", "w"] = "r", *, locking: bool = True
) -> h5py.File:
    """Open an HDF5 file with HDF5's own lock where the file system has locks.

    HDF5 itself opens without a lock only where `flock` is not implemented, not where a lock service is
    missing.

    Raises:
        OSError: The file cannot be opened, or another process has locked it.
    """
    try:
        return h5py.File(path, mode, locking=None if locking else False)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return h5py.File(path, mode, locking=False)
