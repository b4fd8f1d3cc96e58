"""The plane that a chart of the page is drawn in: where values, depths and layers lie, in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probe.analysis.shorten import shorten
from probe.reporting.charts.axis import place

WIDTH, HEIGHT = 480, 330
LEFT, RIGHT, TOP = 44, WIDTH - 12, 10
_BELOW = 42
"""Room under the x axis for numbers and a title, or for two lines of names."""
_LETTER, _SPACE = 6.0, 6.0
"""The width of a letter, and the least space between two names, in pixels."""
_UPRIGHT = 48
"""Letters of the y axis's title for which a chart is high enough."""


@dataclass(frozen=True)
class Plane:
    """A rectangle with two axes; y runs from the top of the chart downwards."""

    low: float
    high: float
    """The values at the bottom and at the top."""
    factor: float
    """What values are multiplied by on the axis: 100 for fractions, 1 for everything else."""
    what: str
    """The title of the y axis."""
    along: str = "depth"
    """The title of the x axis, if that is of depth."""
    names: Mapping[str, int] | None = None
    """The place of every layer's (or epoch's) name on the x axis; None where the axis is of depth."""
    right: int = RIGHT
    """The right end of the x axis; what is right of it has room for the names of lines."""

    @property
    def bottom(self) -> int:
        """The y of the x axis."""
        return HEIGHT - _BELOW

    @property
    def scale(self) -> tuple[float, float]:
        """The numbers of y = scale[0] + scale[1] * value."""
        factor = (TOP - self.bottom) / (self.high - self.low)
        return self.bottom - factor * self.low, factor

    @property
    def title(self) -> str:
        """The title of the y axis with its unit."""
        return self.what + ("" if self.factor == 1 or "points" in self.what else " (%)")

    def x(self, layer: str, depth: float) -> float:
        """Where a layer lies along the x axis."""
        span = self.right - LEFT
        if self.names is None:
            return LEFT + 8 + depth * (span - 16)
        step = span / (len(self.names) + 0.5)
        return LEFT + step * (place(layer, depth, self.names) + 0.75)

    def y(self, value: float) -> float:
        """Where a value lies along the y axis."""
        offset, factor = self.scale
        return offset + factor * value

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Round numbers along the y axis, at most seven steps: where they stand, and their text."""
        from matplotlib.ticker import MaxNLocator  # slow to import

        low, high = self.factor * self.low, self.factor * self.high
        ticks = MaxNLocator(nbins=7, steps=[1, 2, 5, 10]).tick_values(low, high)
        shown = (round(float(tick), 6) + 0.0 for tick in ticks if low <= tick <= high)  # no -0
        return [(self.y(tick / self.factor), f"{tick:g}") for tick in shown]

    @property
    def x_ticks(self) -> list[tuple[float, str, int]]:
        """The names along the x axis, or depths: where they stand, their text, and the line of text.

        Names stand in two lines in turn; where they would touch, every second or third is left out.
        """
        if self.names is None:
            return [(self.x("", depth), f"{depth:g}", 0) for depth in (0, 0.25, 0.5, 0.75, 1)]
        names = list(self.names)
        wide = _LETTER * max(len(shorten(name)) for name in names) + _SPACE
        step = (self.right - LEFT) / (len(names) + 0.5)
        lines = 1 if wide <= step else 2
        every = max(1, math.ceil(wide / (lines * step)))
        return [
            (self.x(name, 0.0), shorten(name), i % lines) for i, name in enumerate(names[::every])
        ]


def plane_of(
    values: Iterable[float],
    what: str,
    *,
    factor: float,
    along: str = "depth",
    names: Mapping[str, int] | None = None,
    right: int = RIGHT,
) -> Plane:
    """The plane that holds `values` with a little room above and below; the rest as in `Plane`."""
    known = [value for value in values if np.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = max(high - low, 0.02) * 0.06
    return Plane(low - room, high + room, factor, shorten(what, _UPRIGHT), along, names, right)


def path(points: Iterable[tuple[float, float]]) -> str:
    """A line through points `(x, y)`, in SVG's notation."""
    return "M" + _through(points)


def band(ends: Sequence[tuple[float, float, float]]) -> str:
    """The area between the lower and upper ends at each x, `(x, low y, high y)`; empty without ends."""
    if not ends:
        return ""
    upper = _through((x, high) for x, _, high in ends)
    lower = _through((x, low) for x, low, _ in reversed(ends))
    return f"M{upper} {lower}Z"


def _through(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f} {y:.1f}" for x, y in points)


def whiskers(ends: Sequence[tuple[float, float, float]]) -> str:
    """An upright line from the lower to the upper end at each x, `(x, low y, high y)`."""
    return "".join(f"M{x:.1f} {low:.1f}V{high:.1f}" for x, low, high in ends)


def spaced(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Places moved apart until neighbours are `least` from each other, in their order, within both ends.

    Where there is not room for all, they are evenly spaced from `low` to `high`.
    """
    if not places:
        return []
    if (len(places) - 1) * least > high - low:
        step = (high - low) / (len(places) - 1)
        order = np.argsort(places, kind="stable")
        moved = np.empty(len(places))
        moved[order] = low + step * np.arange(len(places))
        return moved.tolist()
    order = np.argsort(places, kind="stable")
    moved = np.array([places[i] for i in order])
    for i in range(1, len(moved)):  # down the page
        moved[i] = max(moved[i], moved[i - 1] + least)
    moved[-1] = min(moved[-1], high)
    for i in range(len(moved) - 2, -1, -1):  # and up again
        moved[i] = min(moved[i], moved[i + 1] - least)
    result = np.empty(len(moved))
    result[order] = np.maximum(moved, low + least * np.arange(len(moved)))
    return [float(y) for y in result]
