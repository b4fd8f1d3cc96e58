"""The table of accuracies at equal width: `best` rows on projected features beside those as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from features.errors import InputError
from features.study.study import Study
from probe.analysis.statistics import Interval, accuracy_interval, mean_interval
from probe.analysis.training_variance import cross_validated, widening
from probe.reporting.tables.table import Cell, Column, Table
from probe.results import predictions
from probe.results.protocol import outdated
from probe.results.rows import BEST, Row

_COLUMNS = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
    Column("own_width", "own width", "count"), Column("width", "projected to", "count"),
    Column("accuracy", "accuracy", "percent"), Column("interval", "95 % interval", "interval"),
    Column("projected", "at equal width", "percent"),
    Column("projected_interval", "95 % interval", "interval"),
    Column("difference", "difference", "points"),
    Column("difference_interval", "95 % interval", "interval"),
)  # fmt: skip


def width_table(study: Study, rows: Sequence[Row]) -> Table | None:
    """Every `best` row on projected features beside the one on features as they are; None without any."""
    lines = tuple(_lines(study, rows))
    note = (
        "A wide layer gives a probe more to fit with. Here every layer that is wider is projected at "
        "random to one width, and the layer is chosen anew; what stays of a lead does not come of width. "
        "The difference is what the projection costs, with its interval."
    )
    return Table("width", "Equal width", _COLUMNS, lines, note) if lines else None


def _lines(study: Study, rows: Sequence[Row]) -> Iterator[tuple[Cell, ...]]:
    best: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.layer == BEST and row.accuracy is not None:
            best.setdefault(row.stored, []).append(row)
    for folds in best.values():
        first = folds[0]
        own = best.get((first.task, first.backbone, BEST, first.method))
        if first.project is None or own is None or first.task not in study.tasks:
            continue
        try:
            keys = [own[0].stored, first.stored]
            stored = predictions.read_all(study.folder / predictions.STORE, keys)
        except InputError:
            continue  # without predictions there is nothing per image
        pair = [
            cross_validated(study, first.task, stored[key], made)
            for key, made in zip(keys, (own, folds), strict=True)
        ]
        if any(outdated(study, first.task, p.protocol, p.fold) for p in stored.values()):
            continue
        tested = ~np.isnan(pair[0].right) & ~np.isnan(pair[1].right)
        subjects = study.subjects[tested]
        a, b = (
            accuracy_interval(one.right[tested], subjects, widening([one], [1.0], study.subjects))
            for one in pair
        )
        apart = mean_interval(
            (pair[1].right - pair[0].right)[tested],
            subjects,
            widening([pair[1], pair[0]], [1.0, -1.0], study.subjects),
        )
        width = max(row.dim or 0 for row in own)
        yield (
            first.task, first.method, first.backbone, width, first.project,
            a.value, _ends(a), b.value, _ends(b), apart.value, _ends(apart),
        )  # fmt: skip


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high
