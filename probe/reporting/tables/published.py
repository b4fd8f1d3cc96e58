"""This study's results beside the published numbers that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from features.cards.reading import shipped
from features.study.study import Study
from features.weights import here, how_to_get
from probe.analysis.compare import typed_name
from probe.analysis.outcomes import Outcomes
from probe.reporting.tables.reference import Reference, ReferenceRow
from probe.reporting.tables.table import Cell, Column, Table
from probe.results.metrics import CURVES
from probe.results.rows import Row

_COLUMNS = (
    Column("row", "network and method"), Column("task", "task"), Column("metric", "metric"),
    Column("mean", "this study", "percent"), Column("sd", "SD over folds", "percent"),
    Column("interval", "95 % interval", "interval"), Column("published", "published", "percent"),
    Column("published_source", "source of the published number"), Column("result", "of this study"),
)  # fmt: skip
_NOTE = (
    "Per cent: the mean over folds, their SD, and the interval of all images together over subjects. A "
    "published number that is blank is not known."
)


def published_table(study: Study, rows: Sequence[Row], wanted: Reference) -> Table:
    """A row for each result, task and metric of the reference; what is not here is blank and named.

    Args:
        study: The study.
        rows: Those of its results.csv.
        wanted: The published numbers.
    """
    lines: list[tuple[Cell, ...]] = []
    for row in wanted.row:
        system = wanted.named(row.system)
        found = found_as(rows, row.result)
        for task, metrics in wanted.measures.items():
            of_task = [r for r in rows if r.task == task and typed_name(r) == found]
            measured = Outcomes(study, task, of_task) if of_task and task in study.tasks else None
            stands = measured is not None and not measured.outdated
            pooled = measured.measure(of_task) if measured is not None and stands else {}
            for metric in metrics:
                values = [getattr(r, CURVES[metric].column) for r in of_task] if stands else []
                known = bool(values) and None not in values
                ends = pooled.get(metric)
                number = None if system is None else system.published(task, metric)
                lines.append(
                    (
                        row.name, task, CURVES[metric].words,
                        mean(values) if known else None,
                        stdev(values) if known and len(values) > 1 else None,
                        (ends.low, ends.high) if ends is not None and known else None,
                        number,
                        system.source if system is not None and number is not None else "not known",
                        _said(study, row, task, found if of_task else None, known),
                    )
                )  # fmt: skip
    note = " ".join(part for part in (_NOTE, wanted.note) if part)
    return Table("published", "Beside the published numbers", _COLUMNS, tuple(lines), note)


def found_as(rows: Sequence[Row], result: str) -> str | None:
    """The name under which `rows` have a result: its own, or that of other weights of the same backbone."""
    names = dict.fromkeys(typed_name(row) for row in rows)
    backbone, rest = result.split("/", 1)
    others = (name for name in names if name.startswith(f"{backbone}@"))
    return next(
        (name for name in (result, *others) if name in names and name.split("/", 1)[1] == rest),
        None,
    )


def _said(study: Study, row: ReferenceRow, task: str, found: str | None, known: bool) -> str:
    """The result that the numbers are of, or why there are none."""
    if known and found is not None:
        return found
    if task not in study.tasks:
        return f"no task {task} in this study"
    if found is not None:
        return f"{found}: the study has changed since, or {task} has no such metric"
    return missing(row.result)


def missing(result: str) -> str:
    """Why a result is not in a study, in words: its weights are not here, or nobody asked for it."""
    backbone, _, method = result.split("/", 2)
    card = shipped().get(backbone)
    if card is not None and card.weights and not method.startswith("scratch") and not here(card):
        return how_to_get(card)
    return f"{result} is not in this study"
