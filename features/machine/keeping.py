"""Work that has begun to be kept, which the program's end by a signal waits for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_begun: list[bool] = []
"""One for every such block that a thread is in."""


@contextmanager
def keeping() -> Iterator[None]:
    """Say, for the block, that results are written which would have to be made again."""
    _begun.append(True)
    try:
        yield
    finally:
        _begun.pop()


def is_keeping() -> bool:
    """Whether a thread is in such a block."""
    return bool(_begun)
