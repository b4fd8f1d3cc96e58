"""HDF5 files whose disk space is reserved beforehand: HDF5 crashes where a later write finds none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from features.machine.files import FULL
from features.store.hdf5 import open_hdf5


@contextmanager
def with_room(path: Path, room: int) -> Iterator[h5py.File]:
    """The HDF5 file at `path`, created if need be, open for writing up to `room` more bytes.

    Raises:
        OSError: The disk has less space than that.
    """
    if not path.exists() or not path.stat().st_size:
        with h5py.File.in_memory() as empty:
            empty.flush()
            path.write_bytes(empty.id.get_file_image())
    reserve(path, path.stat().st_size + room)
    with open_hdf5(path, "r+") as file:  # closing it frees the space that was not needed
        yield file


def reserve(path: Path, size: int) -> None:
    """Reserve disk space for `size` bytes of `path`.

    Raises:
        OSError: The disk is full; `path` is deleted then.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("ab") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in FULL:
                path.unlink()
                raise
