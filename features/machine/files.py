"""Files that are written completely or not at all, and names that every file system accepts."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

from features.machine.regular_files import NOT_A_FILE, open_regular

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would become larger than the file system or `ulimit -f` allows",
}
"""The error numbers that mean that there is no more space, in words."""

_LONGEST_NAME = 120


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; when the block ends without an error, it is renamed to `path`."""
    with _beside(path) as written:
        yield written
        _complete(written)
        written.replace(path)


def sweep(path: Path) -> None:
    """Remove the temporary files of processes that were killed; only the writer of `path` may call this."""
    for left in _left(path):
        left.unlink(missing_ok=True)


def sweep_folder(folder: Path) -> None:
    """Remove what killed processes left of replacing files in `folder`; only its writer may call this."""
    for left in folder.glob(".*"):
        match = re.fullmatch(r"\.(.+)\.[a-z0-9_]{8}(\.\w+)?", left.name)
        if match and Path(match[1]).suffix == (match[2] or ""):
            left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step; bytes of file names that are not UTF-8 are preserved."""
    write_texts({path: text})


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write a text to each path: once all are on disk, each replaces its file, in order.

    Raises:
        OSError: One could not be written; then none is replaced.
    """
    for path in texts:
        if path.is_dir():  # known before any other is replaced
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with ExitStack() as stack:
        written = {path: stack.enter_context(_beside(path)) for path in texts}
        for path, text in texts.items():
            written[path].write_bytes(text.encode("utf-8", errors="surrogateescape"))
            _complete(written[path])
        for path in texts:
            written[path].replace(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a new file in the folder of `path`; it is deleted after the block unless it was renamed.

    Those that killed processes left of `path` are removed.

    Raises:
        OSError: A device has that name; a file in its place would be the end of it.
    """
    if path.is_char_device() or path.is_block_device():
        raise OSError(errno.EINVAL, NOT_A_FILE, str(path))
    _sweep_unheld(path)
    handle, name = _new(path)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def _new(path: Path) -> tuple[int | None, str]:
    """A new file beside `path`, locked as long as the handle is open; on Windows, without a handle."""
    while True:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
        if os.name == "nt":  # where what is open cannot be renamed
            os.close(handle)
            return None, name
        with suppress(OSError):  # a file system without locks, where none is removed either
            lock_descriptor(handle, blocking=False)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # another process removed it before it was locked


def _sweep_unheld(path: Path) -> None:
    """Remove the temporary files of `path` that no process holds."""
    if os.name == "nt":
        return
    with suppress(OSError):
        for left in _left(path):
            with suppress(OSError), open_regular(left) as file:
                if lock_descriptor(file.fileno(), blocking=False):
                    left.unlink(missing_ok=True)


def _left(path: Path) -> list[Path]:
    """The temporary files of `path` that are in its folder."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}{re.escape(path.suffix)}")
    with suppress(FileNotFoundError):
        return [each for each in path.parent.iterdir() if name.fullmatch(each.name)]
    return []


def _complete(written: Path) -> None:
    """Sync a file to disk and give it the permissions of a new file."""
    with written.open("r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())
    written.chmod(0o666 & ~_umask())


def is_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full, also one of a library that keeps no errno."""
    return why_full(error) is not None


def why_full(error: BaseException) -> str | None:
    """Why an error, or a cause of it, means that there is no more space, in words; None if it does not."""
    for cause in causes(error):
        # the wording of Rust's libraries and of HDF5
        match = re.search(r"\(os error (\d+)\)|errno = (\d+)", str(cause))
        number = getattr(cause, "errno", None)
        if number not in FULL and match:
            number = int(match[1] or match[2])
        if number in FULL:
            return FULL[number]
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and then what it came of, one after the other."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def file_name(name: str) -> str:
    """`name` with every character that is unsafe in a file name replaced by `_`.

    A name that is too long for a file system is cut and ends in a hash of the full name.
    """
    safe = re.sub(r"[^A-Za-z0-9._@+-]", "_", name)
    if not safe.strip("."):  # the folder itself, or the one above
        safe = "_" * max(1, len(safe))
    if len(safe) <= _LONGEST_NAME:
        return safe
    mark = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{safe[: _LONGEST_NAME - 9]}-{mark}"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
