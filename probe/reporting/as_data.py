"""A report as plain data: what `probe report --json` prints."""

from __future__ import annotations

from typing import Any

from features.machine.strict_json import finite
from probe.analysis.answer import Contrast, answer
from probe.analysis.curves import TaskCurves
from probe.analysis.gaps import Gap
from probe.analysis.points import Curve
from probe.analysis.statistics import Interval
from probe.reporting.report import Report
from probe.reporting.tables.table import Table


def as_data(made: Report) -> dict[str, Any]:
    """Everything on the page as dictionaries, lists, numbers and text; unknown is null."""
    study = made.study
    data = {
        "index": str(made.index),
        "source": study.source,
        "synthetic": study.synthetic,
        "closest": study.closest,
        "tasks": [
            _task(task, study.closest)
            | {
                "sentence": section.sentence,
                "facts": dict(section.facts),
                "answer_words": list(section.answer),
                "words": list(section.findings),
            }
            for task, section in zip(made.tasks, made.contents.tasks, strict=True)
        ],
        "tables": {table.name: _table(table) for table in made.tables},
        "published": list(made.contents.first.words) if made.contents.first else None,
        "missing": list(made.contents.missing),
    }
    return {name: finite(value) for name, value in data.items()}


def _task(task: TaskCurves, closest: str | None) -> dict[str, Any]:
    made = answer(task, closest)
    return {
        "task": task.task,
        "ordered": task.ordered,
        "kind": task.outcomes.study.tasks[task.task].kind,
        "unit": task.unit,
        "classes": list(task.classes),
        "n": task.n,
        "subjects": task.subjects,
        "effective_subjects": task.effective_subjects,
        "folds": task.folds,
        "chance": task.chance,
        "majority": task.majority,
        "answer": None
        if made is None
        else {
            "leader": {
                "backbone": made.leader.backbone,
                "domain": made.leader.domain,
                "method": made.leader.method,
                "layers": list(made.leader.chosen),
                task.headline: _interval(made.leader.headline),
            },
            "wins": made.wins,
            "behind": [_contrast(c) for c in made.behind],
            "closest": _contrast(made.closest),
            "scratch": _contrast(made.scratch),
            "random": _contrast(made.random),
            "tuning": _contrast(made.tuning),
        },
        "panels": [
            {
                "method": panel.method,
                "pool": panel.pool,
                "curves": [_curve(curve) for curve in panel.curves],
                "gaps": [_gap(gap) for gap in panel.gaps],
            }
            for panel in task.panels
        ],
        "tuned": [_curve(curve) for curve in task.tuned],
    }


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "backbone": curve.backbone,
        "domain": curve.domain,
        "method": curve.method,
        "points": [
            {"layer": p.layer, "depth": p.depth}
            | {name: _interval(interval) for name, interval in p.metrics.items()}
            for p in curve.points
        ],
    }


def _gap(gap: Gap) -> dict[str, Any]:
    points = [
        {
            "layer": p.layer,
            "depth": p.depth,
            "gap": p.gap,
            "low": p.low,
            "high": p.high,
        }
        for p in gap.points
    ]
    return {"near": gap.near, "far": gap.far, "points": points, "slope": _interval(gap.slope)}


def _contrast(contrast: Contrast | None) -> dict[str, Any] | None:
    if contrast is None:
        return None
    return {"a": contrast.a, "b": contrast.b, "difference": _interval(contrast.difference)}


def _interval(interval: Interval) -> dict[str, Any]:
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
    }


def _table(table: Table) -> list[dict[str, Any]]:
    return [
        {
            column.name: cell
            for column, cell in zip(table.columns, row, strict=True)
            if column.kind != "label"
        }
        for row in table.rows
    ]
