"""`--limit`: a few rows that stand for all, spread evenly over folds and classes."""

from __future__ import annotations

import numpy as np

from features.extraction.pipeline import Rows
from features.study.study import Study


def rows_within(study: Study, limit: int | None, seed: int) -> Rows:
    """All rows, or `limit` of them drawn by `seed`: the same share of every fold and class."""
    n = len(study)
    if limit is None or limit >= n:
        return np.arange(n)
    rng = np.random.default_rng(seed)
    first_task = next(iter(study.tasks))
    groups = list(zip(study.columns.get("fold", [""] * n), study.columns[first_task], strict=True))
    shuffled = rng.permutation(n)
    place: dict[tuple[str, str], int] = {}
    turn = np.empty(n)
    sizes = {group: groups.count(group) for group in set(groups)}
    for row in shuffled:
        group = groups[row]
        turn[row] = place.get(group, 0) / sizes[group]  # so that each group gives its share
        place[group] = place.get(group, 0) + 1
    return np.sort(shuffled[np.argsort(turn[shuffled], kind="stable")][:limit])
