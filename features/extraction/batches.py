"""The rows of an extraction in batches, and the batches of several backbones in windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from features.arrays import Ints
from features.study.study import Study

Window = list[tuple[int, Ints]]
"""Batches of images that are close together: for each the number of its pass, and its rows."""


def blocks(study: Study, rows: Ints, batch_size: int) -> list[Ints]:
    """The batches of a run over `rows`; an image that is listed in several rows is in only one of them."""
    rows = np.unique(first_of_path(study)[rows])
    return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]


def first_of_path(study: Study) -> Ints:
    """The first row with the same path for every row, `(n,)`."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(p, i) for i, p in enumerate(study.paths)], dtype=np.int64)


def windows(todos: Sequence[Sequence[Ints]]) -> list[Window]:
    """The batches of several passes in windows, so that an image is decoded once for all passes."""
    every = [block for todo in todos for block in todo]
    if not every:
        return []
    rows, width = np.unique(np.concatenate(every)), max(map(len, every))
    by_place: dict[int, Window] = {}
    for number, todo in enumerate(todos):
        for block in todo:
            place = int(np.searchsorted(rows, block[0])) // width
            by_place.setdefault(place, []).append((number, block))
    return [by_place[place] for place in sorted(by_place)]


def rows_within(study: Study, limit: int | None) -> Ints:
    """All rows, or `limit` drawn ones: the same share of every fold and class.

    The draw is the same for every backbone and seed, so that their features can be compared.
    """
    n = len(study)
    if limit is None or limit >= n:
        return np.arange(n)
    rng = np.random.default_rng(0)
    first_task = next(source for task in study.tasks.values() for source in task.sources)
    groups = list(zip(study.columns.get("fold", [""] * n), study.columns[first_task], strict=True))
    shuffled = rng.permutation(n)
    place: dict[tuple[str, str], int] = {}
    turn = np.empty(n)
    sizes = Counter(groups)
    for row in shuffled:
        group = groups[row]
        turn[row] = place.get(group, 0) / sizes[group]  # so that every group has its share
        place[group] = place.get(group, 0) + 1
    return np.sort(shuffled[np.argsort(turn[shuffled], kind="stable")][:limit])
