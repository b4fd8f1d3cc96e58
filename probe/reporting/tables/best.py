"""The table that a paper quotes: every backbone at its best layer, and every fine-tune."""

from __future__ import annotations

from collections.abc import Sequence

from probe.analysis.curves import TaskCurves
from probe.analysis.standings import layers_words, references, standings
from probe.reporting.tables.table import Column, Table

_COLUMNS = (
    Column("task", "task"), Column("backbone", "backbone"), Column("domain", "domain"),
    Column("method", "method"), Column("layers", "layer"), Column("accuracy", "accuracy", "percent"),
    Column("interval", "95 % interval", "interval"),
)  # fmt: skip


def best_table(tasks: Sequence[TaskCurves]) -> Table:
    """Each task's rows from the highest accuracy down, then what they are held against."""
    rows = []
    for task in tasks:
        rows += [
            (
                task.task, row.backbone, row.domain, row.method,
                layers_words(task, row.backbone, row.layers), row.accuracy.value,
                (row.accuracy.low, row.accuracy.high),
            )
            for row in standings(task)
        ]  # fmt: skip
        rows += [
            (task.task, held.name, "", "", "", held.accuracy.value, (held.accuracy.low, held.accuracy.high))
            for held in reversed(references(task))
        ]  # fmt: skip
    return Table("best", "Best rows", _COLUMNS, tuple(rows))
