"""The tables of tasks with several labels an image: a row per layer, per fold, and per label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probe.analysis.curves import TaskCurves
from probe.analysis.statistics import mean_interval
from probe.reporting.tables.results import (
    FOLD,
    OF_FOLDS,
    RESULT,
    WHERE,
    end_cells,
    fold_cells,
    fold_columns,
    interval_cells,
    key_of,
    result_cells,
    results_of,
    spread_cells,
    spread_columns,
)
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


def labels_table(tasks: Sequence[TaskCurves]) -> Table:
    """All results of each task: `best` rows, the prevalences, layers in depth order, fine-tunes."""
    columns = (
        *RESULT, *(column for name in OF_LABELS for column in _interval_columns(name)),
        *spread_columns("percent"), *OF_FOLDS,
    )  # fmt: skip
    rows = {
        key_of(folds[0]): (
            *result_cells(folds), *interval_cells(metrics, OF_LABELS),
            *spread_cells([row.mean_ap for row in folds]), *end_cells(folds),
        )
        for task in tasks
        for folds, metrics in results_of(task)
    }  # fmt: skip
    note = (
        "mAP is the mean over labels of the average precision, AUC and F1 are means over labels too. "
        "Average precision and AUC are means over folds, F1 is of all folds together, at one half of the "
        "probability (at a margin of 0 for an SVM). The mean and SD of folds are those of the mAP."
    )
    return Table("labels", "All layers", columns, tuple(rows.values()), note)


def labels_fold_table(tasks: Sequence[TaskCurves]) -> Table:
    """All results of each task, fold by fold."""
    columns = (
        *FOLD, *(Column(metric.column, metric.heading, "percent") for metric in OF_LABELS.values()),
        Column("log_loss", "log loss", "decimal"), *fold_columns("C or k"),
    )  # fmt: skip
    return Table("labels-folds", "Per fold", columns, fold_cells(tasks, columns))


def each_label_table(tasks: Sequence[TaskCurves]) -> Table:
    """Every label by the highest `best` row of each task: how frequent it is, and its own numbers."""
    columns = (
        *WHERE, Column("label", "label"), Column("known", "images", "count"),
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
