"""The tables of how accuracy varies: with views of a test image, repeated folds, draws of few images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from features.errors import InputError
from features.study.study import Study
from probe.analysis.label_efficiency import FewImages
from probe.analysis.statistics import mean_interval
from probe.analysis.training_variance import cross_validated, widening
from probe.probes.methods import METHODS
from probe.reporting.tables.table import Cell, Column, Table
from probe.results import predictions
from probe.results.protocol import outdated
from probe.results.rows import BEST, Row

_VIEWS = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
    Column("layer", "layer or cut"), Column("views", "view"), Column("crops", "crops", "count"),
    Column("accuracy", "accuracy", "percent"), Column("centre", "centre crop", "percent"),
    Column("difference", "difference", "points"), Column("n_test", "images", "count"),
)  # fmt: skip


def views_table(rows: Sequence[Row]) -> Table | None:
    """The accuracy of `best` rows and fine-tunes under other views than the centre; None without any."""
    groups: dict[tuple[str, str, str, str], dict[tuple[str, int], list[Row]]] = {}
    for row in rows:
        if row.accuracy is None:  # a number
            continue
        plain = not row.is_drawn and not row.repeat and row.project is None
        if plain and (row.layer == BEST or row.method not in METHODS):
            key = (row.task, row.method, row.backbone, row.layer)
            groups.setdefault(key, {}).setdefault((row.views, row.crops), []).append(row)
    lines: list[tuple[Cell, ...]] = []
    for key, views in groups.items():
        centre = views.get(("center", 1))
        for (view, crops), folds in views.items():
            if view != "center":
                accuracy = _pooled(folds)
                at_centre = None if centre is None else _pooled(centre)
                difference = None if at_centre is None else accuracy - at_centre
                n = sum(row.n_test for row in folds)
                lines.append((*key, view, crops, accuracy, at_centre, difference, n))
    note = (
        "Fine-tunes are scored by the mean softmax over the crops, probes on the mean of a layer's "
        "features over them; everything else on this page is of the centre crop. Corner crops move what a "
        "shallow layer reads by place, which costs accuracy where images are aligned, as faces are."
    )
    title = "Views of a test image"
    return Table("views", title, _VIEWS, tuple(lines), note) if lines else None


def _pooled(rows: Sequence[Row]) -> float:
    return float(np.average([r.accuracy for r in rows], weights=[r.n_test for r in rows]))


_REPEATS = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
    Column("layer", "layer"), Column("pool", "pool"), Column("repeats", "repeats", "count"),
    Column("accuracy", "accuracy", "percent"), Column("interval", "95 % interval", "interval"),
    Column("sd", "SD over repeats", "percent"), Column("lowest", "lowest", "percent"),
    Column("highest", "highest", "percent"),
)  # fmt: skip


def repeats_table(study: Study, rows: Sequence[Row]) -> Table | None:
    """The accuracy over repeats of the cross-validation; None where nothing is repeated.

    The interval is of each image's mean over the repeats: repeats add no images, so all they take out of
    it is the chance of the folds.
    """
    lines = tuple(_repeat_lines(study, rows))
    note = (
        "All repeats are of the same images: their SD is that of the folds, not that of other data."
    )
    return Table("repeats", "Repeated cross-validation", _REPEATS, lines, note) if lines else None


def _repeat_lines(study: Study, rows: Sequence[Row]) -> Iterator[tuple[Cell, ...]]:
    groups: dict[tuple[str, ...], dict[int, list[Row]]] = {}
    for row in rows:
        if not row.is_drawn and row.project is None and row.accuracy is not None:
            key = (
                row.task,
                row.method,
                row.backbone,
                row.layer,
                row.pool,
                row.views,
                str(row.crops),
            )
            groups.setdefault(key, {}).setdefault(row.repeat, []).append(row)
    for (task, method, backbone, layer, pool, *_), repeats in groups.items():
        if len(repeats) < 2:
            continue
        keys = [folds[0].stored for folds in repeats.values()]
        try:
            stored = predictions.read_all(study.folder / predictions.STORE, keys)
        except InputError:
            continue  # without predictions there is nothing per image
        if any(outdated(study, task, p.protocol, p.fold) for p in stored.values()):
            continue
        y = study.labels(task)
        right = np.stack([prediction.correct(y) for prediction in stored.values()])
        tested = ~np.isnan(right).any(0)
        each = right[:, tested].mean(1)
        wider = np.mean(
            [
                widening([cross_validated(study, task, stored[at], folds)], [1.0], study.subjects)
                for at, folds in zip(keys, repeats.values(), strict=True)
            ]
        )
        pooled = mean_interval(right[:, tested].mean(0), study.subjects[tested], float(wider))
        yield (
            task, method, backbone, layer, pool, len(each), pooled.value,
            (max(0.0, pooled.low), min(1.0, pooled.high)), float(each.std(ddof=1)),
            float(each.min()), float(each.max()),
        )  # fmt: skip


_SHOTS = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
    Column("layer", "layer"), Column("pool", "pool"), Column("shots", "images per class asked", "hidden"),
    Column("fraction", "share of the images", "percent"),
    Column("images_per_class", "images per class", "count"), Column("draws", "draws", "count"),
    Column("accuracy", "mean", "percent"), Column("interval", "95 % interval", "interval"),
    Column("sd", "SD over draws", "percent"), Column("lowest", "lowest", "percent"),
    Column("highest", "highest", "percent"),
)  # fmt: skip


def few_shot_table(made: Sequence[FewImages], *, only_best: bool = False) -> Table | None:
    """The accuracy with few images per class, over the draws of them; None where there is no draw.

    With `only_best`, single layers are left out where there is a `best` row.
    """
    few = [one for one in made if one.asked[0] != "all"]
    if only_best:
        chosen = {
            (one.task, one.method, one.backbone, one.asked) for one in few if one.layer == BEST
        }
        few = [
            one
            for one in few
            if one.layer == BEST or (one.task, one.method, one.backbone, one.asked) not in chosen
        ]
    lines = tuple(_few_line(one) for one in few)
    note = (
        "The interval is of the mean over draws and counts that other images might have been tested and "
        "others drawn. The draws share images, so their SD is smaller than that of other data."
    )
    return Table("shots", "Few images per class", _SHOTS, lines, note) if lines else None


def _few_line(one: FewImages) -> tuple[Cell, ...]:
    kind, asked = one.asked
    each = one.accuracies
    return (
        one.task, one.method, one.backbone, one.layer, one.pool,
        round(asked) if kind == "shots" else None, asked if kind == "fraction" else None,
        round(one.per_class), len(each), one.interval.value, (one.interval.low, one.interval.high),
        float(np.std(each, ddof=1)) if len(each) > 1 else None, min(each), max(each),
    )  # fmt: skip
