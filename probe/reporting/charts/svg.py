"""Charts as SVG: axes, lines, bands and a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from probe.reporting.charts.axis import layer_ticks, place
from probe.reporting.charts.legend import key

WIDTH, HEIGHT = 480, 330


_LEFT, _RIGHT, _TOP = 44, 12, 10


_BELOW = 42
"""Room for numbers and a label under the axis; for names as much as the longest needs."""


_LONGEST = 12


_NAMED = 24
"""Names on an axis at most; of more, as epochs can be, every second or third is written."""


@dataclass(frozen=True)
class Chart:
    """One panel: what it is of, its SVG, and the numbers under the pointer."""

    task: str | None
    """None: of the study as a whole, whatever is filtered."""
    method: str | None
    pool: str | None
    metric: str
    """As in probe/analysis/outcomes.py, or `gap`, or another word."""
    title: str
    svg: str
    lines: list[dict[str, Any]]
    """For each line: `b` its backbone, `name`, and `p`, points as [layer, x, value, low, high]."""
    scale: tuple[float, float]
    """y = scale[0] + scale[1] * value, in the SVG's units."""
    unit: str = "%"
    legend: tuple[tuple[str, str], ...] = ()
    """Sign and name of the lines, where they are no backbones."""


@dataclass
class _Plane:
    """The plot's rectangle and its two axes."""

    ticks: Mapping[str, int] | None
    low: float
    high: float
    unit: float
    """What a value is multiplied by for people: 100 for fractions, 1 for classes."""
    parts: list[str] = field(default_factory=list)

    @property
    def bottom(self) -> float:
        if self.ticks is None:
            return HEIGHT - _BELOW
        longest = min(max(map(len, self.ticks)), _LONGEST)
        return HEIGHT - 20 - 5 * longest

    def x(self, layer: str, depth: float) -> float:
        span = WIDTH - _LEFT - _RIGHT
        if self.ticks is None:
            return _LEFT + 8 + depth * (span - 16)
        step = span / (len(self.ticks) + 0.5)
        return _LEFT + step * (place(layer, depth, self.ticks) + 0.75)

    @property
    def scale(self) -> tuple[float, float]:
        factor = (_TOP - self.bottom) / (self.high - self.low)
        return self.bottom - factor * self.low, factor

    def y(self, value: float) -> float:
        offset, factor = self.scale
        return offset + factor * value


@dataclass(frozen=True)
class Line:
    """A line of a chart that is not of metrics."""

    backbone: str
    name: str
    look: tuple[int, int]
    dashed: bool
    points: list[tuple[str, float, float, float, float]]
    """Layer, depth, value, and both ends of its interval."""


def line_chart(
    title: str,
    what: str,
    lines: Sequence[Line],
    unit: str = "",
    zero: bool = False,
    along: Sequence[str] = (),
) -> Chart:
    """Any lines over depth, or over epochs, with their bands.

    Args:
        title: Above the chart.
        what: On its axis.
        lines: What to draw.
        unit: `points` or `%` of fractions, or none.
        zero: Whether to draw a line at 0.
        along: The names of all epochs, if that is what the points' layers are.
    """
    ticks = layer_ticks([[(p[0], p[1]) for p in line.points] for line in lines])
    if along:
        ticks = {name: i for i, name in enumerate(along)}
    values = [v for line in lines for p in line.points for v in p[2:]]
    plane = _plane(ticks, [*values, 0.0], 100 if unit else 1)
    _axes(plane, "depth", what)
    if zero:
        _level(plane, 0.0, "zero", "")
    numbers, legend = [], []
    for line in lines:
        legend.append((key(line.look, "none" if line.dashed else ""), line.name))
        at = [(p[0], plane.x(p[0], p[1]), *p[2:]) for p in line.points]
        banded = [p for p in at if np.isfinite(p[3:]).all()]
        upper = " ".join(f"{x:.1f} {plane.y(high):.1f}" for _, x, _, _, high in banded)
        lower = " ".join(f"{x:.1f} {plane.y(low):.1f}" for _, x, _, low, _ in reversed(banded))
        band = f'<path class="band" d="M{upper} {lower}Z"/>' if banded else ""
        middle = " ".join(f"{x:.1f} {plane.y(value):.1f}" for _, x, value, _, _ in at)
        mark = f"url(#m{line.look[0]}-{line.look[1]})"
        ends = f'marker-start="{mark}" marker-mid="{mark}" marker-end="{mark}"'
        plane.parts.append(
            f'<g class="curve c{line.look[0]}{" none" if line.dashed else ""}" '
            f'data-name="{escape(line.name, quote=True)}">'
            f'{band}<path class="line" d="M{middle}"/>'
            f'<path class="marks" {ends} d="M{middle}"/></g>'
        )
        rows = [[layer, round(x, 1), *map(_short, three)] for layer, x, *three in at]
        numbers.append({"b": line.backbone, "name": line.name, "p": rows})
    return _chart(
        None,
        None,
        None,
        what,
        title,
        plane,
        numbers,
        unit,
        tuple(legend),
        "" if along else " over depth",
    )


def square_chart(title: str, names: Sequence[str], values: npt.NDArray[np.float64]) -> Chart:
    """A square of numbers from 0 to 1 as shades, names down the left side.

    Args:
        title: Above the chart.
        names: Of rows and columns, alike.
        values: `(names, names)`.
    """
    left, top = 130, 6
    size = min(16.0, (WIDTH - left - 4) / len(names))
    parts = []
    for i, name in enumerate(names):
        y = top + size * i
        if size >= 7 or i % 2 == 0:
            shown = name if len(name) <= 24 else "…" + name[-23:]
            parts.append(
                f'<text class="small" x="{left - 4}" y="{y + size / 2 + 2.5:.1f}" '
                f'text-anchor="end">{escape(shown)}</text>'
            )
        for j, other in enumerate(names):
            value = float(np.clip(values[i, j], 0, 1))
            parts.append(
                f'<rect class="c0" x="{left + size * j:.1f}" y="{y:.1f}" width="{size:.1f}" '
                f'height="{size:.1f}" fill-opacity="{value:.2f}">'
                f"<title>{escape(name)} and {escape(other)}: {values[i, j]:.2f}</title></rect>"
            )
    height = round(top + size * len(names) + 6)
    svg = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title, quote=True)}; the numbers are in similarity.csv">'
        f"{''.join(parts)}</svg>"
    )
    return Chart(None, None, None, "similarity", title, svg, [], (0.0, 0.0), "")


def _chart(
    task: str | None,
    method: str | None,
    pool: str | None,
    metric: str,
    title: str,
    plane: _Plane,
    numbers: list[dict[str, Any]],
    unit: str,
    legend: tuple[tuple[str, str], ...] = (),
    over: str = " over depth",
) -> Chart:
    label = f"{title}{over}" + (f", task {task}" if task else "")
    svg = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label, quote=True)}; the numbers are in the tables">'
        f"{''.join(plane.parts)}</svg>"
    )
    offset, factor = plane.scale
    scale = (round(offset, 2), round(factor, 3))
    return Chart(task, method, pool, metric, title, svg, numbers, scale, unit, legend)


def _plane(ticks: Mapping[str, int] | None, values: Sequence[float], unit: float) -> _Plane:
    known = [v for v in values if np.isfinite(v)] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = max(high - low, 0.02) * 0.06
    return _Plane(ticks, low - room, high + room, unit)


def _axes(plane: _Plane, along: str, what: str) -> None:
    low, high = plane.low * plane.unit, plane.high * plane.unit
    for tick in _ticks(low, high):
        y = plane.y(tick / plane.unit)
        plane.parts.append(
            f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
            f'<text class="tick" x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{tick:g}</text>'
        )
    bottom = plane.bottom
    plane.parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{WIDTH - _RIGHT}"/>')
    unit = "" if plane.unit == 1 or "points" in what else " (%)"
    middle = (_TOP + bottom) / 2
    plane.parts.append(
        f'<text class="label" transform="translate(11 {middle:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(what)}{unit}</text>'
    )
    if plane.ticks is None:
        for tick in (0, 0.25, 0.5, 0.75, 1):
            x = plane.x("", tick)
            plane.parts.append(
                f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>'
            )
        plane.parts.append(
            f'<text class="label" x="{(_LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
            f"{along} (0 input, 1 end of the network)</text>"
        )
        return
    for name in list(plane.ticks)[:: -(-len(plane.ticks) // _NAMED)]:
        x = plane.x(name, 0.0)
        shown = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
        plane.parts.append(
            f'<text class="tick" transform="translate({x + 3:.1f} {bottom + 12}) rotate(-45)" '
            f'text-anchor="end">{escape(shown)}</text>'
        )


def _level(plane: _Plane, value: float, kind: str, name: str) -> None:
    y = plane.y(value)
    plane.parts.append(f'<path class="{kind}" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
    if name:
        # At either end, so that two levels close to each other can both be read.
        x, anchor = (_LEFT + 3, "start") if name == "chance" else (WIDTH - _RIGHT, "end")
        plane.parts.append(
            f'<text class="level" x="{x}" y="{y - 3:.1f}" text-anchor="{anchor}">{name}</text>'
        )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between the ends, about six of them."""
    step = 10 ** np.floor(np.log10((high - low) / 5))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 6.5)
    first = int(np.ceil(low / step))
    return [round(float(i * step), 6) for i in range(first, int(np.floor(high / step)) + 1)]


def _short(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
