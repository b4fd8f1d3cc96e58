"""The page's own charts: one SVG per task, method, pooling and metric, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np

from probe.analysis.curves import TaskCurves
from probe.analysis.gaps import Gap
from probe.analysis.outcomes import METRICS
from probe.analysis.points import Curve
from probe.reporting.charts.axis import layer_ticks
from probe.reporting.charts.legend import CROSS, PLUS
from probe.reporting.charts.looks import Looks
from probe.reporting.charts.svg import (
    _LEFT,
    _RIGHT,
    WIDTH,
    Chart,
    Line,
    _axes,
    _chart,
    _level,
    _Plane,
    _plane,
    _short,
    line_chart,
)

_MARKED = 26
"""A curve of more points than this has its marks thinned out."""


def charts(found: TaskCurves, looks: Looks) -> list[Chart]:
    """Every panel of one task.

    Args:
        found: The task.
        looks: Colour and shape of every backbone, as probe/reporting/charts/looks.py numbers them.
    """
    made = []
    for panel in found.panels:
        for metric in found.metrics:
            made.append(_curves(found, panel.method, panel.pool, metric, panel.curves, looks))
        if panel.gaps:
            made.append(_gaps(found, panel.method, panel.pool, panel.gaps, looks))
    if any(p.layer for curve in found.tuned for p in curve.points):
        for metric in found.metrics:
            made.append(_curves(found, "fine-tuning", "none", metric, (), looks))
    return made


def _curves(
    found: TaskCurves,
    method: str,
    pool: str,
    metric: str,
    curves: Sequence[Curve],
    looks: Looks,
) -> Chart:
    tuned = [_with(c, metric) for c in found.tuned]
    lines = [_with(c, metric) for c in curves]
    alone = not curves  # the panel of fine-tunes, in which the cuts are joined
    there = [c for c in (*lines, *tuned) if c.points]
    shared = layer_ticks(
        [
            [(p.layer, p.depth) for p in c.points if p.layer]
            for c in (tuned if alone else lines)
            if c.domain != "control" and any(p.layer for p in c.points)
        ]
    )
    levels = {}
    if metric == "accuracy":
        levels["chance"] = found.chance
        if found.majority is not None:
            levels["majority class"] = found.majority
    values = [v for c in there for p in c.points for v in _ends(p.metrics[metric])]
    plane = _plane(shared, [*values, *levels.values()], 1 if metric == "mae" else 100)
    numbers = []
    _axes(plane, "depth of the cut" if alone else "depth", METRICS[metric])
    for number, (name, level) in enumerate(levels.items()):
        _level(plane, level, f"level l{number}", name)
    for curve in (*lines, *tuned):
        if not curve.points:
            continue
        is_cut = curve.method not in (method,)
        numbers.append(
            _line(plane, curve, metric, looks[curve.backbone, curve.domain], alone, is_cut)
        )
    title = method if pool == "none" else f"{method}, pooling {pool}"
    unit = "classes" if metric == "mae" else "%"
    title = f"{METRICS[metric]}: {title}"
    return _chart(found.task, method, pool, metric, title, plane, numbers, unit)


def _line(
    plane: _Plane,
    curve: Curve,
    metric: str,
    look: tuple[int, int],
    alone: bool,
    is_cut: bool,
) -> dict[str, Any]:
    """A curve as a group: its band, its line, its marks."""
    colour, shape = look
    name = f"{curve.method} {curve.backbone}" if is_cut else curve.backbone
    points = [(p.layer, plane.x(p.layer, p.depth), p.metrics[metric]) for p in curve.points]
    classes = f"curve c{colour}" + (" none" if curve.domain == "none" else "")
    single = len(points) == 1 and (curve.domain == "control" or not points[0][0])
    group = [f'<g class="{classes}" data-name="{escape(name, quote=True)}">']
    if single:  # one number, whatever the depth
        y = plane.y(points[0][2].value)
        kind = "scratch" if curve.kind == "scratch" else "flat"
        group.append(f'<path class="line {kind}" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        points = [(points[0][0], (_LEFT + WIDTH - _RIGHT) / 2, points[0][2])]
    else:
        band = [(x, i) for _, x, i in points if np.isfinite(i.low)]
        if len(band) == len(points) > 1 and (alone or not is_cut):
            upper = " ".join(f"{x:.1f} {plane.y(i.high):.1f}" for x, i in band)
            lower = " ".join(f"{x:.1f} {plane.y(i.low):.1f}" for x, i in reversed(band))
            group.append(f'<path class="band" d="M{upper} {lower}Z"/>')
        if alone or not is_cut:
            style = " open" if curve.kind == "copied" else ""
            joined = " ".join(f"{x:.1f} {plane.y(i.value):.1f}" for _, x, i in points)
            group.append(f'<path class="line{style}" d="M{joined}"/>')
        every = -(-len(points) // _MARKED)
        marked = " ".join(f"{x:.1f} {plane.y(i.value):.1f}" for _, x, i in points[::every])
        if is_cut and not alone:
            shape = PLUS if curve.kind == "copied" else CROSS
        mark = f"url(#m{colour}-{shape})"
        ends = f'marker-start="{mark}" marker-mid="{mark}" marker-end="{mark}"'
        if " " in marked.partition(" ")[2]:
            group.append(f'<path class="marks" {ends} d="M{marked}"/>')
        else:  # a path of one point would draw its marker twice
            group.append(f'<path class="marks" marker-start="{mark}" d="M{marked}l0 0"/>')
    plane.parts += [*group, "</g>"]
    return {
        "b": curve.backbone,
        "name": name,
        "p": [
            [layer or "whole network", round(x, 1), *(_short(v) for v in (i.value, i.low, i.high))]
            for layer, x, i in points
        ],
    }


def _gaps(
    found: TaskCurves,
    method: str,
    pool: str,
    gaps: Sequence[Gap],
    looks: Looks,
) -> Chart:
    lines = [
        Line(
            gap.near,
            gap.title,
            looks[gap.near, gap.near_domain],
            gap.far_domain == "none",
            [(p.layer, p.depth, p.gap, p.low, p.high) for p in gap.points],
        )
        for gap in gaps
    ]
    title = method if pool == "none" else f"{method}, pooling {pool}"
    made = line_chart(f"gap within pairs: {title}", "difference in points", lines, "points", True)
    return replace(made, task=found.task, method=method, pool=pool, metric="gap")


def _with(curve: Curve, metric: str) -> Curve:
    points = tuple(p for p in curve.points if metric in p.metrics)
    return Curve(curve.backbone, curve.domain, curve.method, points)


def _ends(interval: Any) -> tuple[float, ...]:
    return (interval.value, interval.low, interval.high)
