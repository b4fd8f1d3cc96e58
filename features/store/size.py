"""The bytes that a feature file will take on the disk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.arrays import Ints
from features.store.featurefile import REASON_BYTES
from features.store.few_rows import are_few
from features.store.making import rows_of_chunk

_PAGE = 4096
_FILE_BYTES = 15_000
"""Attributes and indices of a file with one data set, measured."""
_ARRAY_BYTES = 3_600
"""The same of every data set and its checksums, measured."""
_CHUNK_BYTES = 245
"""The same of every chunk of a file with gaps, whose index takes whole pages, measured."""


def bytes_to_be(n: int, rows: Ints, dims: Sequence[int], width: int) -> int:
    """The bytes of a file that is not compressed.

    Args:
        n: The rows of the study.
        rows: Those that will be computed.
        dims: The numbers per row of every data set.
        width: The bytes of one number.
    """
    few = are_few(len(rows), n)
    size = _FILE_BYTES + (REASON_BYTES + 2) * n + _ARRAY_BYTES * len(dims)
    for each in (*(dim * width for dim in dims), *([4] * len(dims))):
        chunk = rows_of_chunk(n, each)
        chunks = -(-n // chunk)
        size += _PAGE * _pages(rows, each) + _CHUNK_BYTES * chunks if few else chunks * chunk * each
    return size


def _pages(rows: Ints, width: int) -> int:
    """The pages of the disk that rows of `width` bytes lie on."""
    if not len(rows):
        return 0
    start = np.sort(rows) * width + _PAGE // 2  # a data set begins anywhere in a page
    first, last = start // _PAGE, (start + width - 1) // _PAGE
    shared = int((first[1:] <= last[:-1]).sum())
    return int((last - first + 1).sum()) - shared
