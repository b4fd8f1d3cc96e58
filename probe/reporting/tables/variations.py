"""Accuracy by what is scored of a test image: the centre crop beside its mirror and ten crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probe.fitting.crossval import METHODS
from probe.reporting.tables.table import Cell, Column, Table
from probe.results.rows import BEST, Row

_COLUMNS = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
    Column("layer", "layer or cut"), Column("views", "view"), Column("crops", "crops", "count"),
    Column("accuracy", "accuracy", "percent"), Column("centre", "centre crop", "percent"),
    Column("difference", "difference", "points"), Column("n_test", "images", "count"),
)  # fmt: skip


def views_table(rows: Sequence[Row]) -> Table | None:
    """`best` rows and fine-tunes under other views than the centre; None where there are none."""
    groups: dict[tuple[str, str, str, str], dict[tuple[str, int], list[Row]]] = {}
    for row in rows:
        plain = row.shots is None and not row.repeat
        if plain and (row.layer == BEST or row.method not in METHODS):
            key = (row.task, row.method, row.backbone, row.layer)
            groups.setdefault(key, {}).setdefault((row.views, row.crops), []).append(row)
    found: list[tuple[Cell, ...]] = []
    for key, views in groups.items():
        centre = views.get(("center", 1))
        for (view, crops), folds in views.items():
            if view != "center":
                made, beside = _pooled(folds), None if centre is None else _pooled(centre)
                apart = None if beside is None else made - beside
                n = sum(row.n_test for row in folds)
                found.append((*key, view, crops, made, beside, apart, n))
    note = (
        "Fine-tunes are scored by the mean softmax over the crops, probes on the mean of a layer's "
        "features over them; everything else on this page is of the centre crop."
    )
    title = "Views of a test image"
    return Table("views", title, _COLUMNS, tuple(found), note) if found else None


def _pooled(rows: Sequence[Row]) -> float:
    return float(np.average([r.accuracy for r in rows], weights=[r.n_test for r in rows]))
