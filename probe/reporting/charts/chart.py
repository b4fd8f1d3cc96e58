"""The charts of the page as data: what is drawn where, and the numbers under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.arrays import Doubles
from probe.reporting.charts.axis import layer_ticks
from probe.reporting.charts.legend import Sign, backbone_sign
from probe.reporting.charts.plane import WIDTH, Plane, band, path, plane_of

_SQUARE_LEFT, _SQUARE_TOP = 130, 6


@dataclass(frozen=True)
class Level:
    """A value that is drawn across the whole chart: zero, chance, the majority class."""

    value: float
    kind: str
    """Its classes in page.css."""
    name: str = ""
    at_start: bool = True
    """Whether its name stands at the left end, so that two levels close to each other can be read."""
    below: bool = False
    """Whether its name stands below it: that of the lower of two, which the upper one would cross."""


@dataclass(frozen=True)
class Stroke:
    """A line as it is drawn; paths in SVG's notation, empty where there is nothing to draw."""

    name: str
    colour: int
    shape: int
    """The number of its marks' outline."""
    faint: bool
    """Whether it is of random weights, or otherwise of second rank, and so dashed."""
    line: str
    style: str = ""
    """How else the line is dashed, a class of page.css."""
    band: str = ""
    whiskers: str = ""
    """The intervals again, as they are drawn where the band is not."""
    leads: bool = True
    """Whether its band is always drawn; that of another line is drawn under the pointer."""
    marks: Sequence[tuple[float, float]] = ()
    """Where its marks stand."""

    @property
    def mark_path(self) -> str:
        """The path whose corners are the marks; one point alone needs a second corner to be drawn."""
        return path(self.marks) + ("l0 0" if len(self.marks) == 1 else "")


@dataclass(frozen=True)
class EndLabel:
    """The name of a line beside its end."""

    backbone: str
    name: str
    colour: int
    y: float


@dataclass(frozen=True)
class Plot:
    """Lines over depth or over epochs."""

    plane: Plane
    strokes: tuple[Stroke, ...]
    levels: tuple[Level, ...] = ()
    labels: tuple[EndLabel, ...] = ()

    @property
    def scale(self) -> tuple[float, float]:
        """The numbers of y = scale[0] + scale[1] * value, as the page's script is told them."""
        offset, factor = self.plane.scale
        return round(offset, 2), round(factor, 3)


@dataclass(frozen=True)
class Square:
    """Numbers between every two of some layers, as shades."""

    names: Sequence[str]
    values: Doubles
    """`(names, names)`, from 0 to 1."""

    scale = (0.0, 0.0)

    @property
    def side(self) -> float:
        """The width of a cell, in pixels."""
        return min(16.0, (WIDTH - _SQUARE_LEFT - 4) / len(self.names))

    @property
    def height(self) -> int:
        """The height of the whole chart, in pixels."""
        return round(_SQUARE_TOP + self.side * len(self.names) + 6)

    def x(self, column: int) -> float:
        """The left end of a column; that of the first is the right end of the names."""
        return _SQUARE_LEFT + self.side * column

    def y(self, row: int) -> float:
        """The top of a row."""
        return _SQUARE_TOP + self.side * row

    def shade(self, row: int, column: int) -> float:
        """How dark a cell is, 0 to 1."""
        return float(np.clip(self.values[row, column], 0, 1))


Point = tuple[str, float, float, float, float]
"""Layer, depth (or x in pixels), value, and both ends of its interval."""


@dataclass(frozen=True)
class LineNumbers:
    """The numbers of a line, for the pointer and the filters of the page."""

    backbone: str
    name: str
    points: Sequence[Point]
    """With x in pixels; what is not known is not a number."""


@dataclass(frozen=True)
class Chart:
    """One chart of the page."""

    title: str
    drawing: Plot | Square
    metric: str
    """A metric of probe/analysis/outcomes.py, `gap`, or another word."""
    lines: tuple[LineNumbers, ...] = ()
    """The numbers of every line, in the order of the strokes."""
    task: str | None = None
    """None where it is of the study as a whole, whatever task the page is filtered by."""
    method: str | None = None
    pool: str | None = None
    unit: str = "%"
    legend: tuple[tuple[Sign, str], ...] = ()
    """The signs and names of its lines, where the legend of the task does not have them."""
    over: str = " over depth"
    """What its lines run over, for those who have the page read to them."""


@dataclass(frozen=True)
class ChartLine:
    """A line of a chart that is of no metric of the results."""

    backbone: str
    name: str
    look: tuple[int, int]
    """Colour and shape."""
    faint: bool
    points: Sequence[Point]
    """With depths."""


def line_chart(
    title: str,
    what: str,
    lines: Sequence[ChartLine],
    unit: str = "",
    zero: bool = False,
    along: Sequence[str] = (),
) -> Chart:
    """A chart of any lines over depth, or over epochs, with their bands.

    Args:
        title: The title above the chart.
        what: The title of its y axis.
        lines: The lines.
        unit: `points` or `%` where values are fractions, else empty.
        zero: Whether to draw a line at 0.
        along: The names of all epochs, if the points' layers are epochs.
    """
    names = layer_ticks([[(p[0], p[1]) for p in line.points] for line in lines])
    if along:
        names = {name: i for i, name in enumerate(along)}
    values = [v for line in lines for p in line.points for v in p[2:]]
    plane = plane_of([*values, 0.0], what, factor=100 if unit else 1, names=names)
    strokes, numbers, legend = [], [], []
    for line in lines:
        colour, shape = line.look
        points = [
            (layer, plane.x(layer, depth), value, low, high)
            for layer, depth, value, low, high in line.points
        ]
        through = [(x, plane.y(value)) for _, x, value, _, _ in points]
        ends = [
            (x, plane.y(low), plane.y(high))
            for _, x, _, low, high in points
            if np.isfinite([low, high]).all()
        ]
        strokes.append(
            Stroke(
                line.name,
                colour,
                shape,
                line.faint,
                line=path(through),
                band=band(ends),
                marks=through,
            )
        )
        numbers.append(LineNumbers(line.backbone, line.name, points))
        legend.append((backbone_sign(line.look, "none" if line.faint else ""), line.name))
    return Chart(
        title,
        Plot(plane, tuple(strokes), (Level(0.0, "zero"),) if zero else ()),
        metric=what,
        lines=tuple(numbers),
        unit=unit,
        legend=tuple(legend),
        over="" if along else " over depth",
    )
