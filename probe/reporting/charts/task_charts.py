"""The page's charts of one task: one per method, pooling and metric, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from probe.analysis.curves import Panel, TaskCurves
from probe.analysis.points import Curve
from probe.analysis.random_draws import merge_draws, network_of
from probe.analysis.shorten import shorten, shorten_draws
from probe.analysis.standings import leader_of, standings
from probe.analysis.statistics import Interval
from probe.reporting.charts.axis import has_depth, layer_ticks
from probe.reporting.charts.chart import (
    Chart,
    ChartLine,
    EndLabel,
    Level,
    LineNumbers,
    Plot,
    Stroke,
    line_chart,
)
from probe.reporting.charts.legend import CROSS, PLUS
from probe.reporting.charts.markers import Markers, dash_of
from probe.reporting.charts.metric_words import of_task
from probe.reporting.charts.plane import (
    LEFT,
    RIGHT,
    TOP,
    Plane,
    band,
    path,
    plane_of,
    spaced,
    whiskers,
)

TUNING = "fine-tuning"
"""What stands for the method of the charts of fine-tunes."""
_NAME_ROOM, _NAME_HEIGHT, _NAME_LONGEST = 146, 12, 20
"""Pixels right of the axis for the names of lines, pixels of a line of text, and characters of a name."""
_FIRST = 6
"""How many trained backbones are drawn beside the answer."""
_CROWDED = 8
"""Whiskers of more lines than this would hide them; bands are still drawn under the pointer."""
_MARKED = 26
"""A curve of more points than this has a mark at every second or third point only."""


def answer_panel(task: TaskCurves) -> Panel | None:
    """The panel of the curve that stands beside the answer: the leader's method, and the pooling it chose.

    The leader is that of the sentence: what has seen the test images leads where nothing else is there.
    """
    if not task.best:
        return task.panels[0] if task.panels else None
    leader = max(task.best, key=lambda best: (best.backbone not in task.have_seen, best.worth))
    pools = [key.partition(":")[2] or "auto" for key in leader.chosen]
    panels = [panel for panel in task.panels if panel.method == leader.method]
    return max(panels, key=lambda panel: pools.count(panel.pool), default=None)


def answer_chart(task: TaskCurves, looks: Markers) -> Chart | None:
    """The accuracy over depth beside the answer, its lines named at their ends; None without probes.

    Of many trained backbones the first are drawn.
    """
    panel = answer_panel(task)
    if panel is None or not has_depth(task, panel.curves):
        return None
    first = list(dict.fromkeys(row.backbone for row in standings(task) if row.layers))[:_FIRST]
    curves = [c for c in panel.curves if c.backbone in first or c.domain in ("none", "control")]
    drawn = _curve_chart(
        task, replace(panel, curves=tuple(curves or panel.curves)), task.headline, looks, named=True
    )
    if len(curves) in (0, len(panel.curves)):
        return drawn
    return replace(drawn, title=f"{drawn.title}; the first {_FIRST} backbones")


def charts(task: TaskCurves, looks: Markers) -> list[Chart]:
    """All charts of one task but the one beside the answer.

    Args:
        task: The task's curves.
        looks: Colour and shape of every backbone, as probe/reporting/charts/markers.py numbers them.
    """
    made = []
    first = answer_panel(task)
    for panel in task.panels:
        if not has_depth(task, panel.curves):
            continue
        shown = [m for m in task.metrics if not (panel is first and m == task.headline)]
        made += [_curve_chart(task, panel, metric, looks) for metric in shown]
        if panel.gaps:
            made.append(_gap_chart(task, panel, looks))
    if has_depth(task, ()):
        tuning = Panel(TUNING, "none", (), ())
        made += [_curve_chart(task, tuning, metric, looks) for metric in task.metrics]
    return made


def _curve_chart(
    task: TaskCurves, panel: Panel, metric: str, looks: Markers, named: bool = False
) -> Chart:
    """A metric of a panel's curves over depth, fine-tunes among them; in a panel of none, of these.

    With `named` each line's name stands at its end.
    """
    tuned = [_measured(curve, metric) for curve in task.tuned]
    lines = [_measured(curve, metric) for curve in merge_draws(panel.curves)]
    only_tuned = not panel.curves
    shown = [curve for curve in (*lines, *tuned) if curve.points]
    names = layer_ticks(
        [
            [(p.layer, p.depth) for p in curve.points if p.layer]
            for curve in (tuned if only_tuned else lines)
            if curve.domain != "control" and any(p.layer for p in curve.points)
        ]
    )
    about = of_task(task, metric)
    levels = _levels(task, metric)
    values = [end for curve in shown for p in curve.points for end in _ends(p.metrics[metric])]
    plane = plane_of(
        [*values, *(level.value for level in levels)],
        about.label,
        factor=about.factor,
        along="depth of the cut" if only_tuned else "depth",
        names=names,
        right=RIGHT - (_NAME_ROOM if named else 0),
    )
    leader = leader_of(task)
    drawn_curves = [
        _DrawnCurve(
            curve,
            is_cut=curve.method != panel.method,
            joined=only_tuned or curve.method == panel.method,
            leads=leader is None or only_tuned or curve.backbone == leader,
            crowded=len(shown) > _CROWDED,
        )
        for curve in shown
    ]
    strokes = tuple(
        _stroke(plane, drawn, metric, looks[drawn.curve.backbone, drawn.curve.domain])
        for drawn in drawn_curves
    )
    return Chart(
        f"{about.words}: {panel.title}",
        Plot(
            plane,
            strokes,
            levels,
            _end_labels(plane, drawn_curves, strokes, metric) if named else (),
        ),
        metric,
        tuple(_numbers(plane, drawn, metric) for drawn in drawn_curves),
        task.task,
        panel.method,
        panel.pool,
        unit=task.unit if task.is_number and about.unit else about.unit,
    )


@dataclass(frozen=True)
class _DrawnCurve:
    """A curve in a chart."""

    curve: Curve
    is_cut: bool
    """Whether it is a fine-tune in the chart of something else, so that its name needs the method."""
    joined: bool
    """Whether its points are joined by a line."""
    leads: bool = True
    """Whether it is of the backbone whose band is always drawn."""
    crowded: bool = False
    """Whether there is no room for whiskers."""

    @property
    def name(self) -> str:
        curve = self.curve
        if curve.draws > 1:
            return f"{network_of(curve.backbone)}, {curve.draws} draws"
        return f"{curve.method} {curve.backbone}" if self.is_cut else curve.backbone

    @property
    def end(self) -> str:
        """What stands at the line's end."""
        if self.curve.kind == "finetune":
            return shorten(f"tuned {self.curve.backbone}", _NAME_LONGEST)
        return shorten_draws(self.name.removeprefix("control:"), _NAME_LONGEST)

    @property
    def is_level(self) -> bool:
        """Whether it is one number, whatever the depth."""
        points = self.curve.points
        return len(points) == 1 and (self.curve.domain == "control" or not points[0].layer)


def _points(plane: Plane, drawn: _DrawnCurve, metric: str) -> list[tuple[str, float, Interval]]:
    """Layer, x and value of every point; a level's point lies in the middle."""
    points = [(p.layer, plane.x(p.layer, p.depth), p.metrics[metric]) for p in drawn.curve.points]
    if drawn.is_level:
        return [(points[0][0], (LEFT + plane.right) / 2, points[0][2])]
    return points


def _numbers(plane: Plane, drawn: _DrawnCurve, metric: str) -> LineNumbers:
    return LineNumbers(
        drawn.curve.backbone,
        drawn.name,
        [
            (layer or "whole network", x, *_ends(value))
            for layer, x, value in _points(plane, drawn, metric)
        ],
    )


def _stroke(plane: Plane, drawn: _DrawnCurve, metric: str, look: tuple[int, int]) -> Stroke:
    """A curve with its band and marks, or the line of a level."""
    curve, (colour, shape) = drawn.curve, look
    points = _points(plane, drawn, metric)
    faint = curve.domain == "none"
    if drawn.is_level:
        y = plane.y(points[0][2].value)
        level = f"M{LEFT} {y:.1f}H{plane.right}"
        return Stroke(drawn.name, colour, shape, faint, line=level, style=dash_of(curve))
    through = [(x, plane.y(value.value)) for _, x, value in points]
    ends = [
        (x, plane.y(value.low), plane.y(value.high))
        for _, x, value in points
        if np.isfinite(value.low)
    ]
    if not drawn.joined:
        shape = PLUS if curve.kind == "copied" else CROSS
    has_band = drawn.joined and len(ends) == len(points) > 1
    # A point alone spans no band: its interval is a whisker, the leader's too.
    has_whiskers = drawn.joined and not (drawn.leads and has_band) and not drawn.crowded
    return Stroke(
        drawn.name,
        colour,
        shape,
        faint,
        line=path(through) if drawn.joined else "",
        style=dash_of(curve),
        band=band(ends) if has_band else "",
        whiskers=whiskers(ends) if has_whiskers else "",
        leads=drawn.leads,
        marks=through[:: -(-len(through) // _MARKED)],
    )


def _end_labels(
    plane: Plane, drawn: Sequence[_DrawnCurve], strokes: Sequence[Stroke], metric: str
) -> tuple[EndLabel, ...]:
    """The name of every joined line at the height of its last point, moved apart where they meet."""
    ends = [
        (curve, stroke, plane.y(_points(plane, curve, metric)[-1][2].value))
        for curve, stroke in zip(drawn, strokes, strict=True)
        if stroke.line
    ]
    places = spaced([y for *_, y in ends], _NAME_HEIGHT, TOP + 4, plane.bottom)
    return tuple(
        EndLabel(curve.curve.backbone, curve.end, stroke.colour, y)
        for (curve, stroke, _), y in zip(ends, places, strict=True)
    )


def _gap_chart(task: TaskCurves, panel: Panel, looks: Markers) -> Chart:
    lines = [
        ChartLine(
            gap.near,
            gap.title,
            looks[gap.near, gap.near_domain],
            gap.far_domain == "none",
            [(p.layer, p.depth, p.gap, p.low, p.high) for p in gap.points],
        )
        for gap in panel.gaps
    ]
    title = f"gap within pairs: {panel.title}"
    what = f"difference in {task.unit if task.is_number else 'points'}"
    made = line_chart(title, what, lines, "" if task.is_number else "points", zero=True)
    return replace(made, task=task.task, method=panel.method, pool=panel.pool, metric="gap")


def _levels(task: TaskCurves, metric: str) -> tuple[Level, ...]:
    """The accuracies that guessing reaches; of a number and of labels what their floor reaches."""
    if not task.has_classes and task.floor is not None:
        value, name = task.floor.metrics[metric].value, task.floor_words
        return () if np.isnan(value) else (Level(value, "level l1", name, at_start=False),)
    if metric != "accuracy" or task.chance is None:
        return ()
    if task.majority is None:
        return (Level(task.chance, "level l0", "chance"),)
    lower = task.majority < task.chance
    return (
        Level(task.chance, "level l0", "chance", below=not lower),
        Level(task.majority, "level l1", "most frequent class", at_start=False, below=lower),
    )


def _measured(curve: Curve, metric: str) -> Curve:
    """A curve without the points that lack the metric."""
    return replace(curve, points=tuple(p for p in curve.points if metric in p.metrics))


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high
