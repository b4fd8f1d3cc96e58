"""Where a layer stands on the axis: by name for one architecture, by depth across several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from probe.analysis.curves import TaskCurves
from probe.analysis.points import Curve

_MOST = 24


def has_depth(task: TaskCurves, curves: Sequence[Curve]) -> bool:
    """Whether a chart of these curves and the task's fine-tunes has a point at a depth.

    Controls alone, and networks trained as a whole, are level lines: their values stand in the other chart.
    """
    cuts = any(point.layer for curve in task.tuned for point in curve.points)
    return cuts or any(curve.domain != "control" for curve in curves)


def layer_ticks(lines: Sequence[Sequence[tuple[str, float]]]) -> dict[str, int] | None:
    """Places of the layers' names, if all lines are of one architecture and few enough; else None.

    Args:
        lines: Layer and depth of the points of every line.
    """
    depths: dict[str, float] = {}
    for line in lines:
        for layer, depth in line:
            if depths.setdefault(layer, depth) != depth:
                return None
    longest = max(lines, key=len, default=[])
    names = [layer for layer, _ in longest]
    if not names or set(names) != set(depths) or len(names) > _MOST:
        return None
    return {name: i for i, name in enumerate(names)}


def place(layer: str, depth: float, ticks: Mapping[str, int] | None) -> float:
    """The place of a layer; the whole network (no layer) stands one before the first name."""
    if ticks is None:
        return depth
    return float(ticks[layer]) if layer in ticks else -1.0
