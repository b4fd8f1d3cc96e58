"""Opening files by name: regular files only.

Reading a pipe or a terminal could wait for ever, and a device may have no end.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MOST_BYTES = 1 << 31
"""Of a file that is read whole: a table, a picture, a card."""
NOT_A_FILE = "a device or a pipe, not a file"
_OF_SOCKETS = (errno.ENXIO, errno.EOPNOTSUPP)
"""What opening a socket by its name says, on Linux and on macOS."""


def open_regular(path: Path) -> BufferedReader:
    """The file `path`, or what it links to, open for reading bytes.

    Raises:
        OSError: It does not exist, cannot be read, or is not a regular file.
        ValueError: The name contains a NUL.
    """
    # O_NONBLOCK opens a pipe without waiting for its other end, and has no effect on a file.
    try:
        handle = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except OSError as error:
        if error.errno in _OF_SOCKETS:
            raise OSError(errno.EINVAL, NOT_A_FILE, str(path)) from error
        raise
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, NOT_A_FILE, str(path))


def is_of_the_disk(error: Exception) -> bool:
    """Whether a file could not be read; of one that is damaged a library may seek to no place (EINVAL)."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def read_regular(path: Path) -> bytes:
    """The bytes of the file `path`.

    Raises:
        OSError, ValueError: As in `open_regular`, or the file is larger than MOST_BYTES.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise OSError(errno.EINVAL, f"more than {MOST_BYTES >> 30} GiB", str(path))
        return file.read()


def check_regular(path: Path) -> None:
    """Refuse `path` unless it is a regular file, before a library opens it by its name.

    Raises:
        OSError, ValueError: As in `open_regular`.
    """
    open_regular(path).close()
