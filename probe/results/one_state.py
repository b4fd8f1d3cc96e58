"""Reading a study that another process may be writing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from features.errors import InputError
from features.machine.regular_files import read_regular

_T = TypeVar("_T")
_TRIES = 5


@dataclass(frozen=True)
class _State:
    files: tuple[tuple[str, int, int, int], ...]
    """Name, inode, time of the last change and bytes of every file whose replacement is a new state."""
    rows: frozenset[bytes]
    """The lines of results.csv, since which tells what scores there are."""


def of_one_state(folder: Path, read: Callable[[], _T]) -> _T:
    """What `read` returns of the study in `folder`, none of which was replaced or removed meanwhile.

    A reader opens results.csv, scores and features one after the other, between which `probe remove` or
    `probe fit` may replace them; then it reads again. Scores are replaced only after their rows have left
    results.csv, so that they need no watching. A fit beside it that adds rows every few seconds
    would never let a long reading end; rows that were only added are no reason to read a last time.

    Args:
        folder: The study's folder.
        read: Reads whatever it needs; is called up to five times.

    Raises:
        InputError: The study was changed during every reading; or what `read` raises where it was not.
    """
    for last in (False,) * (_TRIES - 1) + (True,):
        before = _state(folder)
        try:
            made = read()
        except Exception:
            if _state(folder) == before:
                raise
            continue
        after = _state(folder)
        if after == before:
            return made
        if last and after.files == before.files and after.rows >= before.rows:
            return made
    raise InputError(
        f"{folder}: another process kept replacing results while they were read; wait until it has "
        "finished, or try again."
    )


def _state(folder: Path) -> _State:
    files = [folder / name for name in ("study.toml", "images.csv", "copies.json")]
    files += (folder / "features").glob("*.h5")
    seen = []
    for file in sorted(files):
        try:
            stat = file.stat()
        except OSError:
            continue
        seen.append((file.name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
    try:
        rows = frozenset(read_regular(folder / "results.csv").splitlines())
    except OSError:
        rows = frozenset()
    return _State(tuple(seen), rows)
