"""The `best` rows: in each fold the layer that was chosen inside its training rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from probe.results import predictions
from probe.results.rows import BEST, Row


def best_rows(
    rows: list[Row], store: Path, key: predictions.Key, under: str
) -> tuple[predictions.Prediction, list[Row]] | None:
    """The `best` rows: in each fold the layer and pooling with the best inner score.

    Among equals it is the shallowest, then the first by name, whatever order they were fitted in. None
    where nothing validated in some fold, as with one image per class, so that nothing can choose.

    Args:
        rows: Those of results.csv.
        store: predictions/.
        key: Any result of the same task, backbone and method.
        under: The hash of the protocol that the layers compared were made under.
    """
    name, backbone, _, method = key
    mine = [
        r
        for r in rows
        if (r.task, r.backbone, r.method + r.variant) == (name, backbone, method)
        and r.layer != BEST
        and r.protocol == under
    ]
    if any(row.selection is None for row in mine):
        return None
    winners = []
    for fold in sorted({row.fold for row in mine}):
        candidates = [row for row in mine if row.fold == fold]
        winners.append(min(candidates, key=_rank))
    keys = [row.stored for row in winners]
    stored = predictions.read_all(store, list(dict.fromkeys(keys)))
    fold_of = stored[keys[0]].fold
    scores = np.full_like(stored[keys[0]].scores, np.nan)
    inner = [stored[at].inner for at in keys]
    chosen_inner = None
    if all(of_layer is not None for of_layer in inner):
        chosen_inner = np.full_like(inner[0], -1)
    for row, at, of_layer in zip(winners, keys, inner, strict=True):
        tested = fold_of == row.fold
        scores[tested] = stored[at].scores[tested]
        if chosen_inner is not None and of_layer is not None:
            chosen_inner[:, row.fold] = of_layer[:, row.fold]
    best = [replace(r, layer=BEST, pool="", depth=None, chosen=r.features_key) for r in winners]
    protocol = stored[keys[0]].protocol
    return predictions.Prediction(scores, fold_of, protocol, inner=chosen_inner), best


def _rank(row: Row) -> tuple[float, float, str]:
    return (-(row.selection or 0.0), row.depth or 0.0, row.features_key)
