"""The plane that a chart of the page is drawn in: where values, depths and layers lie, in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from probe.reporting.charts.axis import place

WIDTH, HEIGHT = 480, 330
LEFT, RIGHT, TOP = 44, WIDTH - 12, 10
_BELOW = 42
"""Room for numbers and a title under the x axis; names take as much as the longest needs."""
_LONGEST = 12
"""Characters of a name on the x axis; a longer name is cut."""
_NAMED = 24
"""How many names the x axis can hold; of more, as epochs can be, every second or third is written."""


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

    @property
    def bottom(self) -> int:
        """The y of the x axis."""
        if self.names is None:
            return HEIGHT - _BELOW
        return HEIGHT - 20 - 5 * min(max(map(len, self.names)), _LONGEST)

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
        span = RIGHT - LEFT
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
    def x_ticks(self) -> list[tuple[float, str]]:
        """The names along the x axis, or depths: where they stand, and their text."""
        if self.names is None:
            return [(self.x("", depth), f"{depth:g}") for depth in (0, 0.25, 0.5, 0.75, 1)]
        every = -(-len(self.names) // _NAMED)
        return [(self.x(name, 0.0), _cut(name)) for name in list(self.names)[::every]]


def plane_of(
    values: Iterable[float],
    what: str,
    *,
    factor: float,
    along: str = "depth",
    names: Mapping[str, int] | None = None,
) -> Plane:
    """The plane that holds `values` with a little room above and below; the rest as in `Plane`."""
    known = [value for value in values if np.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = max(high - low, 0.02) * 0.06
    return Plane(low - room, high + room, factor, what, along, names)


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


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
