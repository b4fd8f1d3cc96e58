"""The report's section on fine-tunes: their training epoch by epoch, and what it changed in each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from features.store.featurefile import DONE
from features.study.study import Study
from probe.finetuning import history
from probe.finetuning.history import Line as Trained
from probe.finetuning.saved_network import origin_of
from probe.reporting.charts.chart import Chart, ChartLine, line_chart
from probe.reporting.charts.looks import LIGHT, SHAPES
from probe.reporting.page.contents import Section
from probe.reporting.tables.table import Cell, Column, Table
from probe.scoring.cka import alignment, linear_gram, u_centred

_IMAGES = 500
"""That CKA looks at, evenly spread over the rows; its error falls with their root."""
_MOST = 12
"""Lines of a chart; of more results the first are drawn."""
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

Result = tuple[str, str, str, str]
"""Task, method, backbone and cut."""


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
            "Training, epoch by epoch, mean over folds; bands reach from the lowest fold to the highest. "
            "Solid lines are training images as they were seen, dropout and crops included, so they may "
            "lie above the dashed ones, which are the inner part that chose the epochs and took no part "
            "in training. No line is of a test fold."
        )
        for task in dict.fromkeys(line.task for line in lines):
            mine = [line for line in lines if line.task == task]
            charts += [_chart(task, mine, what) for what in ("loss", "accuracy")]
        tables.append(Table("training", "Training by epoch", _EPOCHS, _rows(lines)))
    if changes:
        words.append(
            "What a fine-tune changed: debiased linear CKA between each layer before and after it, on "
            "the same images; 1 is unchanged up to rotation and scale."
        )
        charts.append(_change_chart(changes))
        tables.append(
            Table("changes", "Layers before and after fine-tuning", _CHANGES, tuple(changes))
        )
    return Section("Fine-tuning", words, charts, tables)


def _chosen(lines: list[Trained]) -> list[Trained]:
    """Without the rates that a search tried and did not take."""
    taken = {(_result(x), x.fold): x.rate for x in lines if x.stage == "whole"}
    return [x for x in lines if x.rate == taken.get((_result(x), x.fold), x.rate)]


def _result(line: Trained) -> Result:
    return (line.task, line.method, line.backbone, line.layer)


def _rows(lines: Sequence[Trained]) -> tuple[tuple[Cell, ...], ...]:
    groups: dict[tuple[Result, str, int], list[Trained]] = {}
    for line in lines:
        groups.setdefault((_result(line), line.stage, line.epoch.epoch), []).append(line)
    return tuple(
        (
            *result, stage, epoch + 1, len(folds),
            *(_mean([getattr(x.epoch, what) for x in folds])
              for what in ("loss", "accuracy", "inner_loss", "inner_accuracy")),
        )
        for (result, stage, epoch), folds in groups.items()
    )  # fmt: skip


def _mean(values: list[float | None]) -> float | None:
    there = [v for v in values if v is not None]
    return float(np.mean(there)) if there else None


def _chart(task: str, lines: Sequence[Trained], what: str) -> Chart:
    """Loss or accuracy over epochs: for each result all training rows, and the inner part dashed."""
    drawn = []
    last = max(x.epoch.epoch for x in lines) + 1
    for i, result in enumerate(list(dict.fromkeys(map(_result, lines)))[:_MOST]):
        mine = [x for x in lines if _result(x) == result]
        _, method, backbone, layer = result
        name = f"{method} {backbone}" + (f" at {layer}" if layer else "")
        for stage, field, dashed in (("whole", what, False), ("inner", f"inner_{what}", True)):
            points = []
            for epoch in range(last):
                values = [
                    v
                    for x in mine
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
    epochs = [str(i + 1) for i in range(last)]
    said = what if unit else "loss in nats"
    return line_chart(f"{task}: {what} by epoch", said, drawn, unit, along=epochs)


def _changes(study: Study) -> list[tuple[str, str, str, float, float, int]]:
    """CKA by layer of every trained network whose origin is extracted too."""
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


def _change_chart(changes: Sequence[tuple[str, str, str, float, float, int]]) -> Chart:
    lines = []
    for i, name in enumerate(list(dict.fromkeys(c[0] for c in changes))[:_MOST]):
        points = [
            (layer, depth, value, math.nan, math.nan)
            for backbone, _, layer, depth, value, _ in changes
            if backbone == name
        ]
        lines.append(ChartLine(name, name, (i % len(LIGHT), i % SHAPES), False, points))
    return line_chart("layers before and after fine-tuning", "debiased linear CKA", lines)
