"""Repeated cross-validation: the same images on folds drawn anew, and what the folds alone change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from probe.results import predictions
from probe.results.protocol import mark, without_folds
from probe.results.rows import Row

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
