"""Pairs of images that may show one picture: the most similar of all, when each is seen small.

Up to 20,000 images, every one is compared with every other. Of more, they are sorted into cells of similar
ones (k-means, some tens in a cell), and an image is compared with those of the 64 cells whose centres are
the nearest to it. The pairs which that leaves out are the least similar ones: versions of one picture lie
in one cell or in neighbouring ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from features.arrays import Floats, Ints
from probe.probes.knn import neighbours

_ALL_PAIRS = 20_000
_PROBED = 64
_PER_CENTRE = 16
"""Rows of which k-means learns each centre."""
_STEPS = 6
_BLOCK = 4096


@dataclass(frozen=True)
class Cells:
    """Rows of length 1, sorted into cells."""

    base: Tensor
    """`(n, dim)`, those of a cell one after the other."""
    row: Tensor
    """The number that each had, `(n,)`."""
    ends: list[int]
    """Where each cell ends."""
    centres: Tensor
    """`(cells, dim)`, of length 1."""


def most_similar(base: Floats | Cells, queries: Floats, k: int, least: float) -> Ints:
    """Pairs `(m, 2)`: a query, and one of its `k` most similar rows of `base` above `least`.

    Args:
        base: Rows of length 1, `(n, dim)` float32, or the cells of them, `in_cells`.
        queries: Rows of length 1, `(q, dim)` float32.
        k: At most so many for each query.
        least: The cosine that a pair has to exceed.
    """
    if isinstance(base, Cells):
        similarity, place = _of_cells(base, torch.from_numpy(queries), k, least)
    else:
        similarity, place = _of_all(base, queries, k)
    query, column = np.nonzero(similarity > least)
    return np.stack([query, place[query, column]], axis=1)


def in_cells(base: Floats) -> Floats | Cells:
    """Rows of length 1, `(n, dim)`, sorted into cells; as they are where they are few."""
    if len(base) <= _ALL_PAIRS:
        return base
    rows = torch.from_numpy(base)
    draw = torch.Generator().manual_seed(0)
    order = torch.randperm(len(rows), generator=draw)
    count = 4 * int(len(rows) ** 0.5)
    centres, some = rows[order[:count]].clone(), rows[order[: _PER_CENTRE * count]]
    for _ in range(_STEPS):
        sums = torch.zeros_like(centres).index_add_(0, _nearest(some, centres), some)
        length = sums.norm(dim=1, keepdim=True)
        centres = torch.where(length > 0, sums / length.clamp(min=1e-12), centres)
    cell = _nearest(rows, centres)
    order = cell.argsort(stable=True)
    ends = torch.bincount(cell, minlength=count).cumsum(0).tolist()
    return Cells(rows[order], order, ends, centres)


def _of_all(base: Floats, queries: Floats, k: int) -> tuple[Floats, Ints]:
    """The similarities `(q, k)`, descending, and rows `(q, k)` of `base` most similar to each query."""
    both = np.concatenate([base, queries])
    part = np.repeat([0, -1], [len(base), len(queries)])
    asked = np.arange(len(base), len(both))
    similarity, place = neighbours(both, part, k, queries=asked)[0]
    return similarity[len(base) :], place[len(base) :]


def _of_cells(cells: Cells, queries: Tensor, k: int, least: float) -> tuple[Floats, Ints]:
    """As `_of_all`, of rows above `least` in the cells nearest to a query; -1 where there are fewer."""
    probed = min(_PROBED, len(cells.centres))
    near = [(some @ cells.centres.T).topk(probed)[1] for some in torch.split(queries, _BLOCK)]
    asked, of_cell = torch.cat(near).ravel().sort(stable=True)
    sizes = torch.bincount(asked, minlength=len(cells.ends)).tolist()
    who = torch.split(of_cell // probed, sizes)
    best = torch.full((len(queries), k), least)
    place = torch.full((len(queries), k), -1)
    for start, end, here in zip([0, *cells.ends], cells.ends, who, strict=False):
        if start == end or not len(here):
            continue
        similarity = queries[here] @ cells.base[start:end].T
        better = similarity.amax(1) > best[here, -1]
        here, similarity = here[better], similarity[better]
        both = torch.cat([best[here], similarity], 1)
        rows = torch.cat([place[here], cells.row[start:end].expand(len(here), -1)], 1)
        best[here], column = both.topk(k)
        place[here] = rows.gather(1, column)
    return best.numpy(), place.numpy()


def _nearest(rows: Tensor, centres: Tensor) -> Tensor:
    """The number of the centre nearest to each row, `(n,)`."""
    return torch.cat([(some @ centres.T).argmax(1) for some in torch.split(rows, _BLOCK)])
