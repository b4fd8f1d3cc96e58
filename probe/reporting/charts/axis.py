"""Where a layer stands on the axis: by name for one architecture, by depth across several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_MOST = 24


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
