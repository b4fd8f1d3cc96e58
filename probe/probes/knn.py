"""The nearest-neighbour probe: cosine or Euclidean, votes weighted as in DINO's protocol.

The k training rows nearest by cosine vote with exp(similarity / 0.07) (Caron et al. 2021, arXiv
2104.14294, after Wu et al. 2018). With the scale `none` they are the nearest in Euclidean distance d and
vote with exp(-d^2 / 2 v / 0.07), v being the mean squared distance of the training rows from their mean:
cosine's weights where rows have length one and the mean is near zero.

One search serves every k and every training set: each part of the data is searched once for the
neighbours of all rows, and a training set's neighbours are merged from those of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from features.arrays import Ints
from probe.folds.splits import Splits
from probe.probes.grid_fit import Scored
from probe.probes.layer import Source
from probe.probes.scorer import HeldOut, Left, Request, Scorer
from probe.probes.settings import ProbeSettings

TEMPERATURE = 0.07
_QUERIES = 4096

Neighbours = tuple[npt.NDArray[np.float32], Ints]
"""Similarities and rows, `(n, k)` each, the nearest first."""


@cache
def engine() -> str:
    """`faiss` where it is installed, else `torch`; both give the same neighbours."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        return "torch"
    return "faiss"


def neighbours(
    x: npt.NDArray[np.float32] | Source,
    part: Ints,
    k: int,
    search: str | None = None,
    cosine: bool = True,
    queries: Ints | None = None,
) -> dict[int, Neighbours]:
    """For each part, the similarity and the row of its k rows nearest to every row.

    Args:
        x: Features, `(n, dim)`.
        part: The part of each row, `(n,)`; rows with -1 are in none.
        k: Neighbours to find in each part, or as many as it has.
        search: `faiss` or `torch`; what `engine()` says by default; on a GPU `torch`.
        cosine: Else Euclidean.
        queries: Rows to find the neighbours of; by default all that are in a part.

    Returns:
        By part: similarities `(n, k)`, descending, and rows `(n, k)`. A similarity is the cosine, or
        minus half the squared distance.
    """
    source = x if isinstance(x, Source) else Source.of(x)
    on_faiss = (search or engine()) == "faiss"

    def read(rows: Ints) -> npt.NDArray[np.float32]:
        return _unit(source.rows(rows)) if cosine else np.ascontiguousarray(source.rows(rows))

    wanted = np.flatnonzero(part >= 0) if queries is None else queries
    by_part = {}
    for number in np.unique(part[part >= 0]).tolist():
        rows = np.flatnonzero(part == number)
        base, count = read(rows), min(k, len(rows))
        similarity = np.zeros((source.n, count), dtype=np.float32)
        place = np.zeros((source.n, count), dtype=np.int64)
        for start in range(0, len(wanted), _QUERIES):
            here = wanted[start : start + _QUERIES]
            if on_faiss:
                similarity[here], place[here] = _faiss(base, read(here), count, cosine)
            else:
                similarity[here], place[here] = _torch(
                    base, read(here), count, cosine, source.device
                )
        by_part[number] = (similarity, rows[place])
    return by_part


def vote(
    by_part: dict[int, Neighbours],
    left_out: frozenset[int],
    rows: Ints,
    y: Ints,
    classes: int,
    n_train: int,
    grid: Sequence[int],
    spread: float = 1.0,
) -> list[Scored]:
    """Class scores of `rows` from a training set of all parts but `left_out`, for every k of a grid.

    Of several labels an image, `y` of `(n, labels)`, the neighbours of which a label is known vote on it;
    where there is none its score is one half. Similarities count in units of `spread`. A k larger than the
    training set is left out of the grid, but for k = 1 where all are; scores are shares of the votes.
    """
    parts = [p for p in by_part if p not in left_out]
    similarity = np.concatenate([by_part[p][0][rows] for p in parts], axis=1)
    place = np.concatenate([by_part[p][1][rows] for p in parts], axis=1)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : grid[-1]]
    similarity = np.take_along_axis(similarity, order, axis=1)
    label = y[np.take_along_axis(place, order, axis=1)]
    # The nearest has weight 1, so that nothing overflows; shares are the same.
    weight = np.exp((similarity - similarity[:, :1]) / (TEMPERATURE * spread))
    result = []
    for k in [k for k in grid if k <= n_train] or [1]:
        if y.ndim == 2:
            share = _label_shares(weight[:, :k], label[:, :k])
        else:
            votes = np.stack(
                [(weight[:, :k] * (label[:, :k] == c)).sum(1) for c in range(classes)], axis=1
            )
            share = votes / votes.sum(1, keepdims=True)
        result.append(Scored(share.astype(np.float32), float(k)))
    return result


def _label_shares(weight: npt.NDArray[np.floating], label: Ints) -> npt.NDArray[np.floating]:
    """The share of the votes for each label among those cast, `(rows, labels)`; one half where none is."""
    shares = []
    for each in np.moveaxis(label, 2, 0):
        cast, given = (weight * (each >= 0)).sum(1), (weight * (each == 1)).sum(1)
        shares.append(np.divide(given, cast, out=np.full_like(given, 0.5), where=cast > 0))
    return np.stack(shares, axis=1)


def knn_scorer(
    source: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: ProbeSettings,
    held_out: HeldOut | None = None,
) -> Scorer:
    """The scorer that lets training sets vote on rows they leave out; arguments as of `linear_scorer`."""
    cosine = settings.scale != "none"
    grid = [int(k) for k in settings.grid]
    to_score = held_out or splits.held_out_rows
    queries = None
    if held_out is not None:
        queries = np.concatenate([held_out(splits.tested(fold)) for fold in splits.folds])
    by_part = neighbours(source, splits.part, grid[-1], settings.solver, cosine, queries)

    def spread(left: Left) -> float:
        parts = [part for part in by_part if part not in left]
        m = source.moments(splits.part, parts, False)
        return max(float(m.squares.sum()) / m.n, 1e-30)

    def score(requests: Sequence[Request]) -> list[list[Scored]]:
        result = []
        for request in requests:
            left = request.left
            n_train = len(splits.training_rows(left))
            unit = 1.0 if cosine else spread(left)
            made = vote(by_part, left, to_score(left), y, classes, n_train, grid, unit)
            asked = [made[point] for point in request.points if point < len(made)]
            result.append(request.judged(asked))
        return result

    return score


def _faiss(base: Any, queries: Any, k: int, cosine: bool) -> Neighbours:
    import faiss

    index = (faiss.IndexFlatIP if cosine else faiss.IndexFlatL2)(base.shape[1])
    index.add(base)
    similarity, place = index.search(queries, k)
    return (similarity if cosine else -similarity / 2), place


def _torch(base: Any, queries: Any, k: int, cosine: bool, device: torch.device) -> Neighbours:
    some, rows = torch.from_numpy(queries).to(device), torch.from_numpy(base).to(device)
    near = some @ rows.T if cosine else -torch.cdist(some, rows).square() / 2
    nearest = near.topk(k, dim=1)
    return nearest.values.cpu().numpy(), nearest.indices.cpu().numpy()


def _unit(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    x = np.ascontiguousarray(x, dtype=np.float32)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
