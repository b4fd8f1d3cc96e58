"""The leading backbone by other methods: whether it matters which probe reads it, or that it is tuned."""

from __future__ import annotations

from probe.analysis.answer import Answer, Contrast, whole
from probe.analysis.curves import TaskCurves, difference


def rival_methods(task: TaskCurves, made: Answer) -> list[Contrast]:
    """The leader minus its backbone by every other probe, and by every fine-tune of the whole network.

    Each interval is of its comparison alone. What is of another protocol, or has no interval, is left out.
    """
    top = made.leader
    others = [
        (best.method, best.rows)
        for best in task.best
        if best.backbone == top.backbone and best.method != top.method
    ]
    others += [
        (curve.method, point.rows)
        for curve in task.tuned
        if curve.backbone == top.backbone and (point := whole(curve)) is not None
    ]
    contrasts = [
        Contrast(top.method, method, apart)
        for method, rows in others
        if (apart := difference(task.outcomes, top.rows, rows)) is not None
    ]
    known = [c for c in contrasts if c.difference.low == c.difference.low]
    return sorted(known, key=lambda c: c.difference.value)
