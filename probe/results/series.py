"""Repeated cross-validation: the same images on folds drawn anew, and what the folds alone change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from features.errors import InputError
from features.study.study import Study
from probe.analysis.statistics import mean_interval
from probe.reporting.tables.table import Cell, Column, Table
from probe.results import predictions
from probe.results.protocol import mark, outdated, without_folds
from probe.results.rows import Row

_COLUMNS = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
    Column("layer", "layer"), Column("pool", "pool"), Column("repeats", "repeats", "count"),
    Column("accuracy", "accuracy", "percent"), Column("interval", "95 % interval", "interval"),
    Column("sd", "SD over repeats", "percent"), Column("lowest", "lowest", "percent"),
    Column("highest", "highest", "percent"),
)  # fmt: skip


Series = tuple[str, ...]
"""Task, backbone, layer and method: what its repeats, draws and views share."""


def series_of(stored: predictions.Key) -> Series:
    """The series of a result, given where predictions.h5 holds its scores."""
    *layer, method = stored
    return (*layer, method.partition(",")[0])


def without_unlike(
    rows: Sequence[Row], made: Mapping[Series, str], stored: Mapping[predictions.Key, str]
) -> list[Row]:
    """`rows` without those of a series that were made otherwise than the run at hand makes it.

    A run with fewer repeats, draws or views than the one before makes only some of a series anew; the
    rest, of other settings or another seed, would be averaged with it. So the rows of a series differ
    in nothing but the images of their folds, or they go.

    Args:
        rows: Of results.csv.
        made: The protocol of every series that the run has come to.
        stored: The protocols in predictions.h5; a row goes too where its own is not there.
    """
    wanted = {series: without_folds(said) for series, said in made.items()}
    marks = {
        key: mark(said)
        for key, said in stored.items()
        if said and series_of(key) in wanted and without_folds(said) == wanted[series_of(key)]
    }
    return [
        row
        for row in rows
        if series_of(row.stored) not in wanted or marks.get(row.stored) == row.protocol
    ]


def repeats_table(study: Study, rows: Sequence[Row]) -> Table | None:
    """The accuracy over repeats; None where nothing is repeated.

    The repeats of an image are one value, their mean, and only then are subjects counted: repeating
    adds no images, so it does not narrow the interval beyond what the folds' own chance adds to it.
    """
    found = tuple(_lines(study, rows))
    note = "Repeats share all images, so their SD is that of the folds, not that of other data."
    return Table("repeats", "Repeated cross-validation", _COLUMNS, found, note) if found else None


def _lines(study: Study, rows: Sequence[Row]) -> Iterator[tuple[Cell, ...]]:
    groups: dict[tuple[str, ...], dict[int, predictions.Key]] = {}
    for row in rows:
        if row.shots is None:
            key = (
                row.task,
                row.method,
                row.backbone,
                row.layer,
                row.pool,
                row.views,
                str(row.crops),
            )
            groups.setdefault(key, {})[row.repeat] = row.stored
    for (task, method, backbone, layer, pool, *_), repeats in groups.items():
        if len(repeats) < 2:
            continue
        try:
            stored = predictions.read_all(study.folder / "predictions.h5", list(repeats.values()))
        except InputError:
            continue  # without predictions there is nothing per image
        if any(outdated(study, task, one.protocol, one.fold) for one in stored.values()):
            continue
        y = study.labels(task)
        right = np.stack([one.correct(y) for one in stored.values()])
        tested = ~np.isnan(right).any(0)
        each = right[:, tested].mean(1)
        pooled = mean_interval(right[:, tested].mean(0), study.subjects[tested])
        yield (
            task, method, backbone, layer, pool, len(each), pooled.value,
            (max(0.0, pooled.low), min(1.0, pooled.high)), float(each.std(ddof=1)),
            float(each.min()), float(each.max()),
        )  # fmt: skip
