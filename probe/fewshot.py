"""Few-shot probes: nested draws of so many training images per class, and their mean and spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from probe.crossval import Outcome, Settings, Shared, cross_validate
from probe.folds import Splits
from probe.results import BEST, Row
from probe.source import Source
from probe.tables import Column, Table

Ints = npt.NDArray[np.int64]
_INNER_PARTS = 3  # of a draw, or as many as there are images of a class

_COLUMNS = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
    Column("layer", "layer"), Column("pool", "pool"), Column("shots", "images per class", "count"),
    Column("draws", "draws", "count"), Column("accuracy", "mean", "percent"),
    Column("sd", "SD over draws", "percent"), Column("lowest", "lowest", "percent"),
    Column("highest", "highest", "percent"),
)  # fmt: skip


def drawn(splits: Splits, y: Ints, fold: int, shots: int, draw: int, seed: int) -> Splits:
    """The splits of one fold with `shots` images of every class to train on, or all that it has.

    Images are drawn from the training rows of the fold alone, and the first of a draw are those of the
    same draw with fewer shots. C is chosen between as many parts of them as a class has images, three
    at most; one image per class cannot be parted, so nothing validates there.
    """
    random = np.random.default_rng([seed, draw, fold])
    order = random.permutation(splits.training_rows(splits.tested(fold)))
    parts = min(_INNER_PARTS, shots)
    part = np.full(len(y), -1, dtype=np.int64)
    for one in np.unique(y[order]).tolist():
        rows = order[y[order] == one][:shots]
        part[rows] = np.arange(len(rows)) % parts
    part[splits.held_out_rows(splits.tested(fold))] = parts
    choosing = tuple(range(parts)) if parts > 1 else ()
    return Splits(part, np.array([-1] * parts + [0]), choosing, validates=parts > 1)


def few_shot(
    x: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: Settings,
    shots: int,
    draw: int,
    seed: int,
) -> Outcome:
    """Choose C, train and test with one draw in every fold; as `cross_validate`."""
    scores = np.full((len(y), classes), np.nan, dtype=np.float32)
    folds = []
    for fold in splits.folds:
        own = drawn(splits, y, fold, shots, draw, seed)
        found = cross_validate(x, y, classes, own, settings, Shared(0))
        tested = own.fold == 0
        scores[tested] = found.scores[tested]
        folds.append(replace(found.folds[0], fold=fold))
    return Outcome(scores, tuple(folds))


def few_shot_table(rows: Sequence[Row], *, only_best: bool = False) -> Table | None:
    """The accuracy over draws, each pooled over its folds; None where there is no draw.

    `only_best` leaves out the layers one by one where there are rows of the best layer.
    """
    found = list(_lines([row for row in rows if row.shots is not None and row.draw is not None]))
    if only_best:
        found = [line for line in found if BEST in line] or found
    note = "Draws share images, so their SD is not that of other data."
    return Table("shots", "Few images per class", _COLUMNS, tuple(found), note) if found else None


def _lines(rows: Sequence[Row]) -> Iterator[tuple[str | int | float | None, ...]]:
    groups: dict[tuple[str, str, str, str, str, int], dict[int, list[Row]]] = {}
    for row in rows:
        key = (row.task, row.method, row.backbone, row.layer, row.pool, row.shots or 0)
        groups.setdefault(key, {}).setdefault(row.draw or 0, []).append(row)
    for key, draws in groups.items():
        each = [
            float(np.average([r.accuracy for r in folds], weights=[r.n_test for r in folds]))
            for folds in draws.values()
        ]
        sd = float(np.std(each, ddof=1)) if len(each) > 1 else None
        yield (*key, len(each), float(np.mean(each)), sd, min(each), max(each))
