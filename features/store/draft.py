"""A new HDF5 file of which only what HDF5 writes, and chosen rows, take space on the disk.

HDF5 crashes where a write finds no space, so it writes into memory. Data sets that are never filled leave
gaps there, and the file has them as holes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py

_PAGE = 4096


class Draft(io.RawIOBase):
    """A file in memory that keeps only the pages that are written; the others are zeros."""

    def __init__(self) -> None:
        """The file is empty."""
        super().__init__()
        self.size = 0
        self._at = 0
        self._pages: dict[int, bytearray] = {}

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to another place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = start + offset
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """Give the file another size."""
        self.size = self._at if size is None else size
        return self.size

    def readinto(self, buffer: Any) -> int:
        """Read up to the end of the file."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self._at))
        for page, inside, done, many in self._pieces(count):
            data = self._pages.get(page, bytes(_PAGE))
            view[done : done + many] = data[inside : inside + many]
        self._at += count
        return count

    def write(self, data: Any) -> int:
        """Write and grow as needed."""
        view = memoryview(data).cast("B")
        for page, inside, done, many in self._pieces(len(view)):
            kept = self._pages.setdefault(page, bytearray(_PAGE))
            kept[inside : inside + many] = view[done : done + many]
        self._at += len(view)
        self.size = max(self.size, self._at)
        return len(view)

    def _pieces(self, count: int) -> Iterator[tuple[int, int, int, int]]:
        """Page, start in the page, start in the buffer and length, for `count` bytes from here."""
        done = 0
        while done < count:
            page, inside = divmod(self._at + done, _PAGE)
            many = min(_PAGE - inside, count - done)
            yield page, inside, done, many
            done += many

    def save(self, path: Path) -> None:
        """Write the pages into the new file `path`.

        Raises:
            OSError: The disk is full, or the file cannot be written.
        """
        with path.open("wb") as file:
            for page, data in sorted(self._pages.items()):
                start = page * _PAGE
                file.seek(start)
                file.write(data[: max(0, self.size - start)])
            file.truncate(self.size)


@contextmanager
def drafted(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file that is written to `path` when the block ends without an error.

    Raises:
        OSError: The disk is full, or the file cannot be written.
    """
    draft = Draft()
    with h5py.File(draft, "w") as file:
        yield file
    draft.save(path)


def reserve_spans(path: Path, spans: Iterable[tuple[int, int]]) -> None:
    """Reserve disk space for parts of a file, each an offset and a length in bytes.

    Raises:
        OSError: The disk is full.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    pages = sorted({p for start, size in spans for p in _pages(start, size)})
    with path.open("r+b") as file:
        size = path.stat().st_size
        for first, last in _runs(pages):
            end = min((last + 1) * _PAGE, size)
            os.posix_fallocate(file.fileno(), first * _PAGE, end - first * _PAGE)


def _pages(start: int, size: int) -> range:
    return range(start // _PAGE, (start + size - 1) // _PAGE + 1)


def _runs(pages: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of every run of consecutive numbers."""
    if not pages:
        return
    cuts = [i for i, (a, b) in enumerate(pairwise(pages), 1) if b != a + 1]
    edges = [0, *cuts, len(pages)]
    for start, end in pairwise(edges):
        yield pages[start], pages[end - 1]
