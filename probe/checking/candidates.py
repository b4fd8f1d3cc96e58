"""Pairs of images that may show one picture: the most similar of all, when each is seen small.

Up to 20,000 images, every one is compared with every other. Of more, they are sorted into cells of similar
ones (k-means, some tens in a cell), and an image is compared with those of the 64 cells whose centres are
the nearest to it, by the 64 numbers along which images differ most; the best by those are compared by all.
The pairs which that leaves out are the least similar ones: versions of one picture lie in one cell or in
neighbouring ones. The work grows as the images' number to the power of 1.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from features.arrays import Bools, Floats, Ints
from features.machine.device import thread_per_core, threads
from probe.probes.knn import neighbours

_ALL_PAIRS = 20_000
_PROBED = 64
_PER_CENTRE = 16
"""Rows of which k-means learns each centre."""
_STEPS = 6
_NUMBERS = 64
"""Numbers by which cells are made and searched."""
_SHORTLISTED = 2
"""Times as many candidates as wanted that are compared by all their numbers."""
_LOST = 0.1
"""By how much two rows may be less alike in those numbers than in all."""
_MOST = 1024
"""Rows of a cell that are compared at a time."""
_FIRST = 4
"""Cells in which a bound is looked for that spares the sorting in the others."""
_ROUNDING = 1e-5
_QUERIES = 8192
_BLOCK = 1024


@dataclass(frozen=True)
class Cells:
    """Rows of length 1, sorted into cells."""

    base: Tensor
    """`(n, dim)`, those of a cell one after the other."""
    short: Tensor
    """The same along the axes of their largest spread, of length 1 again, `(n, numbers)`."""
    axes: Tensor
    """`(dim, numbers)`, orthonormal."""
    row: Tensor
    """The number that each had, `(n,)`."""
    ends: list[int]
    """Where each cell ends."""
    centres: Tensor
    """`(cells, numbers)`, of length 1."""


def most_similar(base: Floats | Cells, queries: Floats, k: int, least: float) -> Ints:
    """Pairs `(m, 2)`: a query, and one of its `k` most similar rows of `base` above `least`.

    Args:
        base: Rows of length 1, `(n, dim)` float32, or the cells of them, `in_cells`.
        queries: Rows of length 1, `(q, dim)` float32.
        k: At most so many for each query.
        least: The cosine that a pair has to exceed.
    """
    if isinstance(base, Cells):
        return _of_cells(base, torch.from_numpy(queries), k, least)
    similarity, place = _of_all(base, queries, k)
    query, column = np.nonzero(similarity > least)
    return np.stack([query, place[query, column]], axis=1)


def in_cells(base: Floats) -> Floats | Cells:
    """Rows of length 1, `(n, dim)`, sorted into cells; as they are where they are few."""
    if len(base) <= _ALL_PAIRS:
        return base
    with threads(1):
        return _sorted(torch.from_numpy(base))


def _sorted(rows: Tensor) -> Cells:
    squares = sum(_of_blocks(lambda some: some.T @ some, rows))
    axes = torch.linalg.eigh(squares)[1][:, -_NUMBERS:]
    short = torch.cat(_of_blocks(lambda some: F.normalize(some @ axes), rows))
    draw = torch.Generator().manual_seed(0)
    order = torch.randperm(len(rows), generator=draw)
    count = min(4 * int(len(rows) ** 0.5), len(rows))
    centres, some = short[order[:count]].clone(), short[order[: _PER_CENTRE * count]]
    for _ in range(_STEPS):
        sums = torch.zeros_like(centres).index_add_(0, _nearest(some, centres), some)
        length = sums.norm(dim=1, keepdim=True)
        centres = torch.where(length > 0, sums / length.clamp(min=1e-12), centres)
    cell = _nearest(short, centres)
    order = cell.argsort(stable=True)
    ends = torch.bincount(cell, minlength=count).cumsum(0).tolist()
    return Cells(rows[order], short[order], axes, order, ends, centres)


def _of_all(base: Floats, queries: Floats, k: int) -> tuple[Floats, Ints]:
    """The similarities `(q, k)`, descending, and rows `(q, k)` of `base` most similar to each query."""
    both = np.concatenate([base, queries])
    part = np.repeat([0, -1], [len(base), len(queries)])
    asked = np.arange(len(base), len(both))
    similarity, place = neighbours(both, part, k, queries=asked)[0]
    return similarity[len(base) :], place[len(base) :]


def _of_cells(cells: Cells, queries: Tensor, k: int, least: float) -> Ints:
    """As `most_similar`, of rows in the cells nearest to each query."""
    every = torch.split(torch.arange(len(queries)), _QUERIES)
    with thread_per_core() as pool:
        found = pool.map(lambda some: _of_some(cells, queries[some], k, least), every)
        pairs = [pair + np.array([_QUERIES * i, 0]) for i, pair in enumerate(found)]
    return np.concatenate(pairs)


def _of_some(cells: Cells, queries: Tensor, k: int, least: float) -> Ints:
    short = F.normalize(queries @ cells.axes)
    near, first = _near_cells(short, cells)
    wanted = k if len(cells.axes) == cells.axes.shape[1] else _SHORTLISTED * k
    enough = _bound(cells, short, first, wanted, least - _LOST)
    query, place, alike = [], [], []
    for start, end, who in _asked(cells, near):
        each = short.index_select(0, who) @ cells.short[start:end].T
        here, column = _above(each, enough[who], wanted)
        query.append(who[here])
        place.append(start + column)
        alike.append(each[here, column])
    pairs = torch.stack([torch.cat(query), torch.cat(place)], 1)
    pairs, _ = _best(pairs, torch.cat(alike), wanted)
    exact = torch.cat([_cosines(cells, queries, some) for some in torch.split(pairs, _BLOCK)])
    pairs, similarity = _best(pairs, exact, k)
    pairs = pairs[similarity > least]
    return torch.stack([pairs[:, 0], cells.row[pairs[:, 1]]], 1).numpy()


def _near_cells(short: Tensor, cells: Cells) -> tuple[Bools, Bools]:
    """Whether each cell is among the nearest to a query, `(q, cells)`, and among the first of those."""
    near, first = [], []
    filled = torch.tensor([0, *cells.ends]).diff() > 0
    most = min(_PROBED, int(filled.sum()))
    for some in torch.split(short, _BLOCK):
        alike = (some @ cells.centres.T).masked_fill_(~filled, -2).numpy()
        highest = np.partition(alike, -most, axis=1)[:, -most:]
        near.append(alike >= highest[:, :1])
        few = min(_FIRST, most)
        first.append(alike >= np.partition(highest, -few, axis=1)[:, -few:][:, :1])
    return np.concatenate(near), np.concatenate(first)


def _cosines(cells: Cells, queries: Tensor, pairs: Tensor) -> Tensor:
    a, b = queries.index_select(0, pairs[:, 0]), cells.base.index_select(0, pairs[:, 1])
    return (a * b).sum(1)


def _above(alike: Tensor, least: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Where a row of `alike` is above its `least`; where many are, at the `k` highest of each row alone."""
    above = (alike > least[:, None]).numpy()
    place = np.flatnonzero(above)
    if alike.shape[1] > k and len(place) > k * len(alike):
        highest = np.argpartition(alike.numpy(), -k, axis=1)[:, -k:]
        among = np.zeros_like(above)
        np.put_along_axis(among, highest, True, axis=1)
        place = np.flatnonzero(above & among)
    here, column = np.divmod(place, alike.shape[1])
    return torch.from_numpy(here), torch.from_numpy(column)


def _asked(cells: Cells, near: Bools) -> Iterator[tuple[int, int, Tensor]]:
    """Where each cell begins and ends, in parts where it is large, and the queries `(m,)` near to it."""
    cell, query = np.divmod(np.flatnonzero(near.T), len(near))
    sizes = np.bincount(cell, minlength=len(cells.ends)).tolist()
    of_cell = torch.split(torch.from_numpy(query), sizes)
    for first, end, who in zip([0, *cells.ends], cells.ends, of_cell, strict=False):
        for start in range(first, end if len(who) else first, _MOST):
            yield start, min(start + _MOST, end), who


def _bound(cells: Cells, short: Tensor, near: Bools, k: int, least: float) -> Tensor:
    """A similarity `(q,)` that `k` rows of the nearest cells exceed; not below `least`."""
    best = np.full((len(short), _FIRST, k), least, dtype=np.float32)
    slot = np.zeros(len(short), dtype=np.int64)
    for start, end, who in _asked(cells, near):
        alike = (short.index_select(0, who) @ cells.short[start:end].T).numpy()
        most = min(k, end - start)
        best[who, slot[who] % _FIRST, :most] = np.partition(alike, -most, axis=1)[:, -most:]
        slot[who] += 1
    return torch.from_numpy(
        np.partition(best.reshape(len(best), -1), -k, axis=1)[:, -k] - _ROUNDING
    )


def _best(pairs: Tensor, similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` most similar pairs of each query, by query, and their similarities."""
    order = torch.from_numpy(np.argsort(4.0 * pairs[:, 0].numpy() - similarity.numpy()))
    pairs, similarity = pairs[order], similarity[order]
    count = torch.bincount(pairs[:, 0])
    rank = torch.arange(len(pairs)) - (count.cumsum(0) - count)[pairs[:, 0]]
    return pairs[rank < k], similarity[rank < k]


def _nearest(rows: Tensor, centres: Tensor) -> Tensor:
    """The number of the centre nearest to each row, `(n,)`."""
    return torch.cat(_of_blocks(lambda some: (some @ centres.T).argmax(1), rows))


def _of_blocks(work: Callable[[Tensor], Tensor], rows: Tensor) -> list[Tensor]:
    """What is made of the rows, in blocks, so that it does not depend on the number of threads."""
    with thread_per_core() as pool:
        return list(pool.map(work, torch.split(rows, _BLOCK)))
