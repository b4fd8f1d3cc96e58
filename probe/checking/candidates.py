"""Pairs of images that may show one picture: the most similar of all, when each is seen small.

Up to 20,000 images, every one is compared with every other. Of more, they are sorted into cells of similar
ones (k-means, some tens in a cell), and an image is compared with those of the 64 cells whose centres are
the nearest to it, by the 64 numbers along which images differ most; the best by those are compared by all.
The pairs which that leaves out are the least similar ones: versions of one picture lie in one cell or in
neighbouring ones. The work grows as the images' number to the power of 1.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from features.arrays import Floats, Ints
from features.machine.device import cores, threads
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
_BLOCK = 4096


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
    rows = torch.from_numpy(base)
    axes = torch.linalg.eigh(rows.T @ rows)[1][:, -_NUMBERS:]
    short = F.normalize(rows @ axes)
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
    with (
        threads(1),
        ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):  # a cell is too small to be shared
        found = pool.map(lambda some: _of_some(cells, queries[some], k, least), every)
        pairs = [pair + np.array([_QUERIES * i, 0]) for i, pair in enumerate(found)]
    return np.concatenate(pairs)


def _of_some(cells: Cells, queries: Tensor, k: int, least: float) -> Ints:
    short = F.normalize(queries @ cells.axes)
    probed = min(_PROBED, len(cells.centres))
    near = torch.cat([_near_cells(some, cells, probed) for some in torch.split(short, _BLOCK)])
    wanted = k if len(cells.axes) == cells.axes.shape[1] else _SHORTLISTED * k
    enough = _bound(cells, short, near[:, :_FIRST], wanted, least - _LOST)
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


def _near_cells(short: Tensor, cells: Cells, count: int) -> Tensor:
    """The cells nearest to each query, `(q, count)`; those without rows come last."""
    alike = short @ cells.centres.T
    alike[:, torch.tensor([0, *cells.ends]).diff() == 0] = -2
    return alike.topk(count)[1]


def _cosines(cells: Cells, queries: Tensor, pairs: Tensor) -> Tensor:
    a, b = queries.index_select(0, pairs[:, 0]), cells.base.index_select(0, pairs[:, 1])
    return (a * b).sum(1)


def _above(alike: Tensor, least: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Where a row of `alike` is above its `least`; where many are, at the `k` highest of each row alone."""
    above = alike > least[:, None]
    if alike.shape[1] > k and int(above.sum()) > k * len(alike):
        above &= torch.zeros_like(above).scatter_(1, alike.topk(k)[1], True)
    here, column = torch.nonzero(above, as_tuple=True)
    return here, column


def _asked(cells: Cells, near: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Where each cell begins and ends, in parts where it is large, and the queries `(m,)` near to it."""
    asked, order = near.ravel().sort(stable=True)
    sizes = torch.bincount(asked, minlength=len(cells.ends)).tolist()
    of_cell = torch.split(order // near.shape[1], sizes)
    for first, end, who in zip([0, *cells.ends], cells.ends, of_cell, strict=False):
        for start in range(first, end if len(who) else first, _MOST):
            yield start, min(start + _MOST, end), who


def _bound(cells: Cells, short: Tensor, near: Tensor, k: int, least: float) -> Tensor:
    """A similarity `(q,)` that `k` rows of the nearest cells exceed; not below `least`."""
    best = torch.full((len(short), near.shape[1], k), least)
    slot = torch.zeros(len(short), dtype=torch.int64)
    for start, end, who in _asked(cells, near):
        alike = (short.index_select(0, who) @ cells.short[start:end].T).topk(min(k, end - start))[0]
        best[who, slot[who] % near.shape[1], : alike.shape[1]] = alike
        slot[who] += 1
    return best.flatten(1).topk(k)[0][:, -1] - _ROUNDING


def _best(pairs: Tensor, similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` most similar pairs of each query, by query, and their similarities."""
    order = np.lexsort((-similarity.numpy(), pairs[:, 0].numpy()))
    pairs, similarity = pairs[order], similarity[order]
    query = pairs[:, 0].contiguous()
    rank = torch.arange(len(query)) - torch.searchsorted(query, query)
    return pairs[rank < k], similarity[rank < k]


def _nearest(rows: Tensor, centres: Tensor) -> Tensor:
    """The number of the centre nearest to each row, `(n,)`."""
    return torch.cat([(some @ centres.T).argmax(1) for some in torch.split(rows, _BLOCK)])
