"""Opening a feature file for reading: it is locked, of a known version, and checked."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import h5py

from features.errors import InputError
from features.machine.regular_files import check_regular
from features.store.hdf5 import open_hdf5
from features.store.validate import Misfit, check

FORMAT = "probe-features"
VERSION = 1
UNREAD = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)
"""The errors of h5py for a damaged file."""
_OUTSIDE = (
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOENT,
    errno.ELOOP,
    errno.EIO,
    errno.EMFILE,
)
"""Error numbers that do not depend on the content of a file."""


class Damaged(InputError):
    """A feature file is damaged: it must be extracted again."""


def open_file(path: Path, *, locking: bool = True) -> h5py.File:
    """Open `path` for reading with h5py, checked to be a feature file.

    Raises:
        Damaged: It is not an intact feature file.
        InputError: It cannot be read, is of a later version, or another process is writing it.
    """
    try:
        check_regular(path)
        file = open_hdf5(path, locking=locking)
    except BlockingIOError as error:
        raise InputError(
            f"{path}: another process is writing it; wait until it has ended."
        ) from error
    except OSError as error:
        if "unable to lock" in str(error):
            raise InputError(
                f"{path}: another process is using it; wait until it has ended."
            ) from error
        if error.errno in _OUTSIDE:
            raise InputError(
                f"{path}: cannot be read ({os.strerror(error.errno)}); check it."
            ) from error
        raise Damaged(f"{path}: not a complete HDF5 file; {remedy(path)}") from error
    try:
        _check_version(path, file)
        check(file)
    except InputError:
        file.close()
        raise
    except UNREAD as error:
        file.close()
        why = str(error) if isinstance(error, Misfit) else "HDF5 cannot read a part of it"
        raise Damaged(f"{path}: damaged, since {why}; {remedy(path)}") from error
    return file


def _check_version(path: Path, file: h5py.File) -> None:
    """Refuse other formats and later versions, of which nothing else is known."""
    if str(file.attrs.get("format")) != FORMAT:
        raise Damaged(f"{path}: not a feature file; `probe extract` makes one: {remedy(path)}")
    if (version := int(file.attrs["version"])) > VERSION:
        raise InputError(f"{path}: format version {version} is newer than this program; update it.")


def remedy(path: Path) -> str:
    """The end of a message about a damaged file: the command to give."""
    name = path.name.removesuffix(".partial").removesuffix(".h5")
    return f"`probe remove {name}` removes it, then extract it again."
