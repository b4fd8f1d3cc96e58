"""Files that are either whole or not there, and names that every file system takes."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would become larger than the file system or `ulimit -f` allows",
}
"""What says that there is no more room, in words."""

_LONGEST_NAME = 120


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; when the block ends well, it becomes `path` in one step."""
    with _beside(path) as written:
        yield written
        _complete(written)
        written.replace(path)


def sweep(path: Path) -> None:
    """Remove what processes that were killed left of replacing `path`; only its writer may call this."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}{re.escape(path.suffix)}")
    for left in path.parent.glob(".*"):
        if name.fullmatch(left.name):
            left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step; bytes of odd file names survive."""
    write_texts({path: text})


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write a text to each path; none is replaced before all are on disk, then each in its order.

    Raises:
        OSError: One could not be written; then none is replaced.
    """
    with ExitStack() as stack:
        written = {path: stack.enter_context(_beside(path)) for path in texts}
        for path, text in texts.items():
            written[path].write_bytes(text.encode("utf-8", errors="surrogateescape"))
            _complete(written[path])
        for path in texts:
            written[path].replace(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a new file in the folder of `path`; it is gone after the block unless it was renamed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _complete(written: Path) -> None:
    """Have the disk hold what was written, with the permissions that a new file gets."""
    with written.open("r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())
    written.chmod(0o666 & ~_umask())


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no more room, also one of a library that keeps no errno."""
    return why_full(error) is not None


def why_full(error: BaseException) -> str | None:
    """Which want of room an error, or what it came of, tells of, in words; None if of none."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        # As Rust's libraries, and HDF5, put it into words.
        told = re.search(r"\(os error (\d+)\)|errno = (\d+)", str(cause))
        number = getattr(cause, "errno", None)
        if number not in FULL and told:
            number = int(told[1] or told[2])
        if number in FULL:
            return FULL[number]
        cause = cause.__cause__ or cause.__context__
    return None


def file_name(name: str) -> str:
    """`name` with every character that is unsafe in a file name replaced by `_`.

    A long one, which file systems would refuse, is cut and told from others by a hash.
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
