"""The tables of tasks with several labels an image: a row per layer, per fold, and per label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from probe.analysis.curves import TaskCurves
from probe.analysis.statistics import Interval, mean_interval
from probe.reporting.tables.layers import results_of
from probe.reporting.tables.table import Cell, Column, Table
from probe.results import predictions
from probe.results.label_metrics import (
    LabelledImages,
    auc_by_image,
    by_image,
    f1_by_image,
    precision_by_image,
)
from probe.results.metrics import OF_LABELS, kind_of
from probe.results.rows import BEST, Row

_WHERE = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
)  # fmt: skip


def labels_table(tasks: Sequence[TaskCurves]) -> Table:
    """All results of each task: `best` rows, the prevalences, layers in depth order, fine-tunes."""
    columns = (
        *_WHERE, Column("domain", "domain"), Column("layer_shown", "layer", "label"),
        Column("layer", "layer", "hidden"), Column("pool", "pool"), Column("depth", "depth", "decimal"),
        Column("dim", "dim", "hidden"),
        *(column for name in OF_LABELS for column in _interval_columns(name)),
        Column("fold_mean", "mean of folds", "percent"), Column("fold_sd", "SD", "percent"),
        Column("images", "images", "hidden"), Column("at_edge", "at edge", "hidden"),
        Column("chosen", "chosen", "hidden"),
    )  # fmt: skip
    rows = {
        _key(folds[0]): _cells(folds, metrics)
        for task in tasks
        for folds, metrics in results_of(task)
    }
    note = (
        "mAP is the mean over labels of the average precision, AUC and F1 are means over labels too. "
        "Average precision and AUC are means over folds, F1 is of all folds together, at one half of the "
        "probability (at a margin of 0 for an SVM). The mean and SD of folds are those of the mAP."
    )
    return Table("labels", "All layers", columns, tuple(rows.values()), note)


def labels_fold_table(tasks: Sequence[TaskCurves]) -> Table:
    """All results of each task, fold by fold."""
    columns = (
        *_WHERE, Column("layer", "layer"), Column("pool", "pool"), Column("fold", "fold", "count"),
        *(Column(metric.column, metric.heading, "percent") for metric in OF_LABELS.values()),
        Column("log_loss", "log loss", "decimal"), Column("n_test", "test images", "count"),
        Column("n_train", "training images", "count"), Column("C", "C or k", "decimal"),
        Column("chosen", "chosen"),
    )  # fmt: skip
    groups = {_key(rows[0]): rows for task in tasks for rows, _ in results_of(task)}
    rows = tuple(
        tuple(getattr(row, column.name) for column in columns)
        for folds in groups.values()
        for row in folds
    )
    return Table("labels-folds", "Per fold", columns, rows)


def each_label_table(tasks: Sequence[TaskCurves]) -> Table:
    """Every label by the highest `best` row of each task: how frequent it is, and its own numbers."""
    columns = (
        *_WHERE, Column("label", "label"), Column("known", "images", "count"),
        Column("with", "with it", "count"), Column("prevalence", "with it", "percent"),
        Column("average_precision", "average precision", "percent"),
        Column("interval", "95 % interval", "interval"), Column("auc", "AUC", "percent"),
        Column("f1", "F1", "percent"),
    )  # fmt: skip
    lines = [line for task in tasks if task.best for line in _of_each(task)]
    note = (
        "Of each label the images of which it is known, and the average precision, AUC and F1 of the row "
        "named. Guessing has the prevalence as its average precision."
    )
    return Table("each-label", "Labels", columns, tuple(lines), note)


def _of_each(task: TaskCurves) -> list[tuple[Cell, ...]]:
    leader = max(task.best, key=lambda best: best.worth)
    outcomes = task.outcomes
    key = leader.rows[0].stored
    if not outcomes.has(key[1:]):
        return []
    stored = predictions.read(outcomes.study.folder / predictions.STORE, key)
    tested = stored.fold >= 0
    images = LabelledImages(
        stored.scores[tested], outcomes.y[tested], stored.fold[tested], kind_of(leader.method)
    )
    precision, auc = by_image(images, precision_by_image), by_image(images, auc_by_image)
    f1, wider = f1_by_image(images), outcomes.wider({key[1:]: 1.0})
    lines: list[tuple[Cell, ...]] = []
    for number, label in enumerate(task.classes):
        known = images.y[:, number] >= 0
        has = int((images.y[:, number] == 1).sum())
        ends: tuple[float, float] | None = None
        if not np.isnan(precision[:, number]).any():
            mean = mean_interval(precision[:, number], outcomes.subjects[tested], wider)
            ends = (max(0.0, mean.low), min(1.0, mean.high))
        numbers = [
            None if np.isnan(values[:, number]).any() else float(values[:, number].mean())
            for values in (precision, auc, f1)
        ]
        lines.append(
            (task.task, leader.method, leader.backbone, label, int(known.sum()), has,
             has / max(1, int(known.sum())), numbers[0], ends, numbers[1], numbers[2])
        )  # fmt: skip
    return lines


def _interval_columns(name: str) -> tuple[Column, Column]:
    metric = OF_LABELS[name]
    shown = Column(metric.column, metric.heading, "percent")
    return shown, Column(f"{metric.column}_interval", "95 % interval", "interval")


def _cells(rows: Sequence[Row], metrics: Mapping[str, Interval]) -> tuple[Cell, ...]:
    first = rows[0]
    folds = np.array([row.mean_ap for row in rows], dtype=np.float64)
    best = first.layer == BEST
    chosen = ", ".join(dict.fromkeys(row.chosen for row in rows))
    measured = [metrics.get(name) for name in OF_LABELS]
    return (
        first.task, first.method, first.backbone, first.domain,
        f"best: {chosen}" if best else first.layer or "whole network", first.layer, first.pool,
        first.depth, None if best else first.dim,
        *(
            cell
            for m in measured
            for cell in ((None, None) if m is None else (m.value, (m.low, m.high)))
        ),
        float(folds.mean()), float(folds.std(ddof=1)) if len(folds) > 1 else None,
        sum(row.n_test for row in rows), sum(row.at_edge for row in rows), chosen,
    )  # fmt: skip


def _key(row: Row) -> tuple[str, ...]:
    return (row.task, row.method, row.backbone, row.layer, row.pool)
