"""The one door for files that are opened by name: regular files only.

A pipe or a terminal would be waited for, for ever, and a device may have no end.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

NOT_A_FILE = "a device or a pipe, not a file"


def open_regular(path: Path) -> BufferedReader:
    """The file `path`, or what it links to, open for reading bytes.

    Raises:
        OSError: There is none, it cannot be read, or it is no regular file.
        ValueError: There is a NUL in the name.
    """
    # O_NONBLOCK opens a pipe without waiting for its other end, and changes nothing of a file.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, NOT_A_FILE, str(path))


def read_regular(path: Path) -> bytes:
    """The bytes of the file `path`.

    Raises:
        OSError, ValueError: As `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def check_regular(path: Path) -> None:
    """Make sure that a library which opens `path` by its name meets a regular file.

    Raises:
        OSError, ValueError: As `open_regular`.
    """
    open_regular(path).close()
