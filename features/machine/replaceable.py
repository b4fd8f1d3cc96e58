"""Files that a person names to be written: only what the same command wrote before is replaced."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from features.errors import InputError
from features.machine.regular_files import open_regular


def check_replaceable(path: Path, option: str, marks: Sequence[bytes]) -> None:
    """Refuse to replace a file that is not one of the command's own.

    Args:
        path: The file to be written, which need not exist.
        option: The option that names it.
        marks: The command's own files have one of these somewhere; an empty file may be replaced.

    Raises:
        InputError: It is another file, a folder, a device or a pipe, or its folder is not there.
    """
    if not path.absolute().parent.is_dir():
        raise InputError(
            f"{option} {path}: there is no folder {path.parent}; make it, or name another file."
        )
    if path.is_dir():
        raise InputError(f"{option} {path}: a folder where a file belongs; name a file.")
    if not os.path.lexists(path):
        return
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size == 0:
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
                if any(held.find(mark) >= 0 for mark in marks):
                    return
    except OSError as error:
        raise InputError(
            f"{option} {path}: cannot be replaced ({error.strerror}); name another file."
        ) from error
    raise InputError(
        f"{option} {path}: is there already and was not written by this command; name another file, or "
        "delete it."
    )
