"""The page's section on fine-tunes: their training epoch by epoch, and what it changed in each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from features.store.featurefile import DONE
from features.study.study import Study
from probe.finetuning import history
from probe.finetuning.history import TrainingEpoch
from probe.finetuning.saved_network import origin_of
from probe.reporting.charts.chart import Chart, ChartLine, line_chart
from probe.reporting.charts.markers import LIGHT, SHAPES
from probe.reporting.page.contents import Section
from probe.reporting.tables.table import Cell, Column, Table
from probe.scoring.cka import alignment, linear_gram, u_centred

_IMAGES = 500
"""How many images CKA is computed on, evenly spread over the rows; its error falls with their root."""
_MOST = 12
"""How many results a chart shows; of more, the first."""
_EPOCHS = (
    Column("task", "task"), Column("method", "method"), Column("backbone", "backbone"),
    Column("layer", "layer"), Column("stage", "stage"), Column("epoch", "epoch", "count"),
    Column("folds", "folds", "count"), Column("loss", "loss", "precise"),
    Column("accuracy", "accuracy", "percent"), Column("inner_loss", "inner loss", "precise"),
    Column("inner_accuracy", "inner accuracy", "percent"),
)  # fmt: skip
_CHANGES = (
    Column("backbone", "backbone"), Column("origin", "before"), Column("layer", "layer"),
    Column("depth", "depth", "decimal"), Column("cka", "CKA", "decimal"),
    Column("images", "images", "count"),
)  # fmt: skip

FineTune = tuple[str, str, str, str]
"""Task, method, backbone and cut."""
Change = tuple[str, str, str, float, float, int]
"""Backbone, its origin, layer, depth, CKA of the layer between the two, and images."""


def training_section(study: Study) -> Section | None:
    """Loss and accuracy of every fine-tune by epoch, and CKA of layers before and after it.

    None where nothing was fine-tuned.
    """
    lines = _chosen(history.read(study.folder / "training.csv"))
    changes = _changes(study)
    if not lines and not changes:
        return None
    words, charts, tables = [], [], []
    if lines:
        words.append(
            "Training epoch by epoch, the mean over folds; bands reach from the lowest fold to the "
            "highest. Solid lines are of the training images, with dropout and crops; dashed lines are of "
            "the inner part, which chose the number of epochs and was not trained on. A solid line may "
            "show the higher loss, since dropout and crops make the images harder. No line is of a test "
            "fold."
        )
        for task in dict.fromkeys(line.task for line in lines):
            of_task = [line for line in lines if line.task == task]
            has_classes = any(math.isfinite(line.epoch.accuracy) for line in of_task)
            shown = ("loss", "accuracy") if has_classes else ("loss",)
            charts += [_chart(task, of_task, what) for what in shown]
        tables.append(Table("training", "Training by epoch", _EPOCHS, _rows(lines)))
    if changes:
        words.append(
            "What fine-tuning changed: debiased linear CKA between each layer before and after it, on "
            "the same images; 1 is unchanged but for rotation and scale."
        )
        charts.append(_change_chart(changes))
        tables.append(
            Table("changes", "Layers before and after fine-tuning", _CHANGES, tuple(changes))
        )
    return Section("Fine-tuning", words, charts, tables)


def _chosen(lines: list[TrainingEpoch]) -> list[TrainingEpoch]:
    """The lines without those of learning rates that a search tried and did not choose."""
    chosen = {(_fine_tune(x), x.fold): x.rate for x in lines if x.stage == "whole"}
    return [x for x in lines if x.rate == chosen.get((_fine_tune(x), x.fold), x.rate)]


def _fine_tune(line: TrainingEpoch) -> FineTune:
    return (line.task, line.method, line.backbone, line.layer)


def _rows(lines: Sequence[TrainingEpoch]) -> tuple[tuple[Cell, ...], ...]:
    """A row for every fine-tune, stage and epoch, the mean over folds."""
    groups: dict[tuple[FineTune, str, int], list[TrainingEpoch]] = {}
    for line in lines:
        groups.setdefault((_fine_tune(line), line.stage, line.epoch.epoch), []).append(line)
    return tuple(
        (
            *fine_tune, stage, epoch + 1, len(folds),
            *(_mean([getattr(x.epoch, what) for x in folds])
              for what in ("loss", "accuracy", "inner_loss", "inner_accuracy")),
        )
        for (fine_tune, stage, epoch), folds in groups.items()
    )  # fmt: skip


def _mean(values: list[float | None]) -> float | None:
    numbers = [v for v in values if v is not None and math.isfinite(v)]
    return float(np.mean(numbers)) if numbers else None


def _chart(task: str, lines: Sequence[TrainingEpoch], what: str) -> Chart:
    """Loss or accuracy over epochs: for each fine-tune the training images, and dashed the inner part."""
    drawn = []
    trained = sorted({x.epoch.epoch for x in lines})
    for i, fine_tune in enumerate(list(dict.fromkeys(map(_fine_tune, lines)))[:_MOST]):
        of_this = [x for x in lines if _fine_tune(x) == fine_tune]
        _, method, backbone, layer = fine_tune
        name = f"{method} {backbone}" + (f" at {layer}" if layer else "")
        for stage, field, dashed in (("whole", what, False), ("inner", f"inner_{what}", True)):
            points = []
            for epoch in trained:
                values = [
                    v
                    for x in of_this
                    if x.stage == stage and x.epoch.epoch == epoch
                    if (v := getattr(x.epoch, field)) is not None
                ]
                if values:
                    points.append(
                        (str(epoch + 1), 0.0, float(np.mean(values)), min(values), max(values))
                    )
            if points:
                shown = f"{name}, inner part" if dashed else name
                drawn.append(
                    ChartLine(backbone, shown, (i % len(LIGHT), i % SHAPES), dashed, points)
                )
    unit = "%" if what == "accuracy" else ""
    epochs = [str(epoch + 1) for epoch in trained]
    has_classes = any(math.isfinite(line.epoch.accuracy) for line in lines)
    loss = "loss in nats" if has_classes else "absolute error in mean distances from the median"
    axis = what if unit else loss
    return line_chart(f"{task}: {what} by epoch", axis, drawn, unit, along=epochs)


def _changes(study: Study) -> list[Change]:
    """The changes of every layer of the trained networks that are extracted, as is their origin."""
    there = study.backbones()
    changes = []
    for name in there:
        origin = origin_of(name)
        if origin not in there:
            continue
        with study.features(origin) as before, study.features(name) as after:
            both = np.flatnonzero((before.status == DONE) & (after.status == DONE) & study.used)
            rows = both[np.linspace(0, len(both) - 1, min(_IMAGES, len(both))).round().astype(int)]
            if len(rows) < 4:
                continue
            for key in before.keys:
                if key in after.keys and ":" not in key:
                    about = before.about(key)
                    grams = [u_centred(linear_gram(x.read(key, rows))) for x in (before, after)]
                    depth = float(about["depth"])
                    changes.append((name, origin, key, depth, alignment(*grams), len(rows)))
    return changes


def _change_chart(changes: Sequence[Change]) -> Chart:
    lines = []
    for i, name in enumerate(list(dict.fromkeys(c[0] for c in changes))[:_MOST]):
        points = [
            (layer, depth, value, math.nan, math.nan)
            for backbone, _, layer, depth, value, _ in changes
            if backbone == name
        ]
        lines.append(ChartLine(name, name, (i % len(LIGHT), i % SHAPES), False, points))
    return line_chart("layers before and after fine-tuning", "debiased linear CKA", lines)
