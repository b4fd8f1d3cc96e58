"""What others have published on a data set, beside a study's own numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from probe.analysis.answer import whole
from probe.analysis.curves import TaskCurves
from probe.analysis.statistics import Interval
from probe.reporting.tables.reference import reference
from probe.reporting.tables.table import Cell, Column, Table

_COLUMNS = (
    Column("system", "system"), Column("year", "year"), Column("age", "age", "percent"),
    Column("one_off", "age, one-off", "percent"), Column("gender", "gender", "percent"),
    Column("source", "source"),
)  # fmt: skip


def _ours(task: TaskCurves) -> Iterator[tuple[str, str, str, Mapping[str, Interval]]]:
    """Backbone, method, how it was chosen, and metrics of `best` rows and of fine-tuned whole networks."""
    for best in task.best:
        how = "best layer, chosen inside the training folds"
        yield best.backbone, best.method, how, best.metrics
    for curve in task.tuned:
        point = whole(curve)
        if point is not None:
            yield curve.backbone, curve.method, "whole network", point.metrics


def literature_table(source: str, tasks: Sequence[TaskCurves]) -> Table | None:
    """This study's `best` rows above what is published on its data set; None where nothing is known.

    Args:
        source: The study's data source.
        tasks: The curves of its tasks.
    """
    if not source.startswith("adience"):
        return None
    ours: dict[tuple[str, str, str], dict[str, float]] = {}
    for task in tasks:
        for backbone, method, how, metrics in _ours(task):
            mine = ours.setdefault((backbone, method, f"{how}, {task.n:,} images"), {})
            if task.task in ("age", "gender"):
                mine[task.task] = metrics["accuracy"].value
            if task.task == "age" and "one_off" in metrics:
                mine["one_off"] = metrics["one_off"].value
    rows: list[tuple[Cell, ...]] = [
        (f"this study: {backbone}, {method}", "", mine.get("age"), mine.get("one_off"),
         mine.get("gender"), how)
        for (backbone, method, how), mine in ours.items()
        if mine
    ]  # fmt: skip
    rows += [
        (
            p.name, str(p.year), p.published("age", "accuracy"), p.published("age", "one_off"),
            p.published("gender", "accuracy"), p.source,
        )
        for p in reference("adience").system
    ]  # fmt: skip
    note = (
        "Accuracy in per cent over the five folds; blank: not known. Published systems differ in crops, "
        "alignment and training data, and some choose their settings on images of the same people."
    )
    return Table("literature", "Beside the literature", _COLUMNS, tuple(rows), note)
