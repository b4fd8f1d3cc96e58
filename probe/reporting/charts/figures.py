"""The curves and gaps as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from probe.analysis.curves import Panel, TaskCurves
from probe.analysis.points import Curve
from probe.analysis.random_draws import merge_draws, network_of
from probe.analysis.standings import leader_of
from probe.reporting.charts.axis import layer_ticks, place
from probe.reporting.charts.figure_frame import (
    add_title_and_legend,
    figure_style,
    label_axes,
    new_figure,
)
from probe.reporting.charts.markers import DASHES, LIGHT, dash_of, shapes, slots
from probe.reporting.charts.metric_words import of_task
from probe.results.metrics import CURVES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "#6B6B6B"
_SHAPES = "osD^vPX*"
_CLOSE = 0.02
"""Levels nearer to each other than this are named on their outer sides, else each above itself."""
_NAME_BELOW = 2.5
"""Points of accuracy that the name of a level takes below it, at most."""


def curve_figure(task: TaskCurves, synthetic: bool, metric: str = "accuracy") -> Figure | None:
    """A metric over depth: a row per method, a column per pooling, a line per backbone."""
    rows = _by_method(task.panels)
    if not rows:
        return None
    with figure_style():
        figure, axes = new_figure(len(rows), max(map(len, rows)))
        drawn = [c for panel in task.panels for c in panel.curves]
        look = _look(drawn)
        ticks = layer_ticks([[(p.layer, p.depth) for p in c.points] for c in _networks(drawn)])
        leader = leader_of(task)
        handles: dict[str, Artist] = {}
        for across, panels in zip(axes, rows, strict=True):
            for ax, panel in zip(across, panels, strict=False):
                for curve in merge_draws(panel.curves):
                    colours = look[curve.backbone, curve.domain]
                    leads = leader in (None, curve.backbone)
                    _line(ax, curve, metric, colours, ticks, handles, leads=leads)
                for curve in task.tuned:
                    _tuned_marks(ax, curve, metric, ticks, handles)
                _levels(ax, task, metric)
                label_axes(ax, panel.title, ticks, of_task(task, metric).label)
        add_title_and_legend(
            figure,
            axes,
            handles,
            f"{task.task}: {of_task(task, metric).words} over depth",
            synthetic,
        )
    return figure


def gap_figure(task: TaskCurves, synthetic: bool) -> Figure | None:
    """The gap of every pair over depth with its simultaneous band; None without a pair."""
    rows = [[p for p in row if p.gaps] for row in _by_method(task.panels)]
    rows = [row for row in rows if row]
    if not rows:
        return None
    with figure_style():
        figure, axes = new_figure(len(rows), max(map(len, rows)))
        gaps = [g for row in rows for p in row for g in p.gaps]
        names = list(dict.fromkeys(g.title for g in gaps))
        ticks = layer_ticks([[(p.layer, p.depth) for p in g.points] for g in gaps])
        shades = (*LIGHT[4:], *LIGHT[:2])
        factor, unit = (1.0, task.unit) if task.is_number else (100.0, "points")
        handles: dict[str, Artist] = {}
        for across, panels in zip(axes, rows, strict=True):
            for ax, panel in zip(across, panels, strict=False):
                for gap in panel.gaps:
                    number = names.index(gap.title)
                    x = [place(p.layer, p.depth, ticks) for p in gap.points]
                    low, high = (
                        [factor * getattr(p, end) for p in gap.points] for end in ("low", "high")
                    )
                    shade = shades[number % len(shades)]
                    ax.fill_between(x, low, high, color=shade, alpha=0.16, linewidth=0)
                    y = [factor * p.gap for p in gap.points]
                    (line,) = ax.plot(x, y, color=shade, marker=_SHAPES[number % 8], markersize=3.5)
                    handles.setdefault(gap.title, line)
                ax.axhline(0, color="#000000", linewidth=0.6)
                label_axes(ax, panel.title, ticks, f"difference in {unit}")
        add_title_and_legend(
            figure,
            axes,
            handles,
            f"{task.task}: gap within pairs, 95 % band over all layers",
            synthetic,
        )
    return figure


def tuned_figure(task: TaskCurves, synthetic: bool, metric: str = "accuracy") -> Figure | None:
    """Fine-tunes by the depth of their cut; None where no fine-tune has a cut."""
    if not any(p.layer for curve in task.tuned for p in curve.points):
        return None
    with figure_style():
        figure, axes = new_figure(1, 1)
        ax = axes[0][0]
        cut = [c for c in task.tuned if any(p.layer for p in c.points)]
        ticks = layer_ticks([[(p.layer, p.depth) for p in c.points if p.layer] for c in cut])
        look = _look(task.tuned)
        handles: dict[str, Artist] = {}
        for curve in task.tuned:
            if curve in cut:
                _line(
                    ax,
                    curve,
                    metric,
                    look[curve.backbone, curve.domain],
                    ticks,
                    handles,
                    name=_tuned_name(curve),
                )
            else:
                value = CURVES[metric].factor * curve.points[0].metrics[metric].value
                style = _dashes(curve)
                colour = look[curve.backbone, curve.domain][0]
                line = ax.axhline(value, color=colour, linestyle=style, linewidth=1)
                handles.setdefault(_tuned_name(curve), line)
        _levels(ax, task, metric)
        label = of_task(task, metric).label
        label_axes(ax, "fine-tuning", ticks, label, "cut: frozen or copied through")
        add_title_and_legend(
            figure,
            axes,
            handles,
            f"{task.task}: {of_task(task, metric).words} by depth of the cut",
            synthetic,
        )
    return figure


def _look(drawn: Sequence[Curve]) -> dict[tuple[str, str], tuple[str, str]]:
    """Colour and shape of every backbone and domain."""
    names, domains = [c.backbone for c in drawn], [c.domain for c in drawn]
    place_of, shape_of = slots(domains), shapes(names)
    return {
        (c.backbone, c.domain): (LIGHT[place_of[c.domain]], _SHAPES[shape_of[c.backbone]])
        for c in drawn
    }


def _networks(drawn: Sequence[Curve]) -> list[Curve]:
    return [c for c in drawn if c.domain != "control"]


def _line(
    ax: Axes,
    curve: Curve,
    metric: str,
    look: tuple[str, str],
    ticks: Mapping[str, int] | None,
    handles: dict[str, Artist],
    name: str | None = None,
    leads: bool = True,
) -> None:
    """Draw a curve with its band, or with thin whiskers; a control of one number is a level line."""
    points = [p for p in curve.points if metric in p.metrics]
    if not points:
        return
    colour, shape = look
    style = _dashes(curve)
    label = name or _name(curve)
    scale = CURVES[metric].factor
    y = [scale * p.metrics[metric].value for p in points]
    if len(points) == 1 and curve.domain == "control":  # one number, whatever the depth
        handles.setdefault(label, ax.axhline(y[0], color=colour, linestyle=style))
        return
    x = [place(p.layer, p.depth, ticks) for p in points]
    low, high = (
        [scale * getattr(p.metrics[metric], end) for p in points] for end in ("low", "high")
    )
    if np.isfinite(low).all() and leads:
        ax.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    elif np.isfinite(low).all():
        ax.vlines(x, low, high, color=colour, alpha=0.55, linewidth=0.5)
    open_ = curve.kind == "copied"
    (line,) = ax.plot(
        x,
        y,
        color=colour,
        linestyle=style,
        marker=shape,
        markersize=3.5 if len(points) <= 24 else 2,
        markerfacecolor="white" if open_ else colour,
    )
    handles.setdefault(label, line)


def _tuned_marks(
    ax: Axes, curve: Curve, metric: str, ticks: Mapping[str, int] | None, handles: dict[str, Artist]
) -> None:
    """Draw a fine-tune in a probe's panel: a mark at each cut, a level line for the whole network."""
    colour = LIGHT[slots([curve.domain])[curve.domain]]
    scale = CURVES[metric].factor
    for point in curve.points:
        if metric not in point.metrics:
            continue
        y = scale * point.metrics[metric].value
        if not point.layer:
            style = _dashes(replace(curve, points=(point,)))
            line = ax.axhline(y, color=colour, linestyle=style, linewidth=0.9)
            handles.setdefault(_tuned_name(curve), line)
        elif ticks is None or point.layer in ticks:
            shape = "+" if curve.kind == "copied" else "x"
            x = place(point.layer, point.depth, ticks)
            (mark,) = ax.plot([x], [y], color=colour, marker=shape, linestyle="none")
            handles.setdefault(_tuned_name(curve), mark)


def _tuned_name(curve: Curve) -> str:
    return f"{curve.method} {curve.backbone}"


def _name(curve: Curve) -> str:
    """A backbone with its domain; of several draws of random weights, how many."""
    if curve.draws > 1:
        return f"{network_of(curve.backbone)}, {curve.draws} draws"
    return f"{curve.backbone} ({curve.domain})"


def _dashes(curve: Curve) -> Any:
    """Matplotlib's line style: dashes in multiples of the line's width."""
    dashes = DASHES[dash_of(curve)]
    return (0, tuple(length / 1.7 for length in dashes)) if dashes else "-"


def _levels(ax: Axes, task: TaskCurves, metric: str) -> None:
    """Draw what guessing reaches, each level named; of classes the accuracy alone has such a number."""
    if not task.has_classes and task.floor is not None:
        value = CURVES[metric].factor * task.floor.metrics[metric].value
        _level(ax, task.floor_words, value, "-.", "right")
    if metric != "accuracy" or task.chance is None:
        return
    levels = [("chance", task.chance, ":", "left")]
    if task.majority is not None:
        levels.append(("most frequent class", task.majority, "-.", "right"))
    values = [value for _, value, _, _ in levels]
    close = len(values) > 1 and max(values) - min(values) < _CLOSE
    for name, value, style, side in levels:
        _level(ax, name, 100 * value, style, side, below=close and value == min(values))


def _level(
    ax: Axes, name: str, value: float, style: str, side: str, *, below: bool = False
) -> None:
    """Draw a level and its name; that of the lower of two stands below it, else the upper crosses it."""
    ax.axhline(value, color=_GREY, linewidth=0.8, linestyle=style)
    if below:
        ax.axhline(value - _NAME_BELOW, alpha=0)  # unseen: the axis leaves room for the name
    ax.annotate(
        name, (0.01 if side == "left" else 0.99, value), (0, -1.5 if below else 1.5), fontsize=5.5,
        color=_GREY, xycoords=("axes fraction", "data"), textcoords="offset points", ha=side,
        va="top" if below else "bottom",
    )  # fmt: skip


def _by_method(panels: Sequence[Panel]) -> list[list[Panel]]:
    """The panels in rows, one row for each method."""
    methods = dict.fromkeys(p.method for p in panels)
    return [[p for p in panels if p.method == method] for method in methods]
