"""The signs of the page's legends, and the outlines of the marks that stand on lines and in signs."""

from __future__ import annotations

from dataclasses import dataclass

from probe.analysis.curves import TaskCurves
from probe.reporting.charts.markers import SHAPES

OUTLINES = (
    "M-4.4 0A4.4 4.4 0 1 0 4.4 0A4.4 4.4 0 1 0 -4.4 0Z",
    "M-4 -4H4V4H-4Z",
    "M0 -5.6L5.6 0L0 5.6L-5.6 0Z",
    "M0 -5L5 4.2H-5Z",
    "M0 5L5 -4.2H-5Z",
    "M-1.8 -5H1.8V-1.8H5V1.8H1.8V5H-1.8V1.8H-5V-1.8H-1.8Z",
    "M-5 0L5 -5V5Z",
    "M0 -5.6L1.6 -1.8L5.6 -1.6L2.5 1L3.5 5L0 2.8L-3.5 5L-2.5 1L-5.6 -1.6L-1.6 -1.8Z",
    "M-4 -4L4 4M-4 4L4 -4",
    "M-5 0H5M0 -5V5",
)
"""The marks by number, within 12 x 12 pixels around 0: one per shape of a backbone, then those of cuts."""
CROSS, PLUS = SHAPES, SHAPES + 1
"""The marks of fine-tunes with frozen layers, and with copied ones."""


@dataclass(frozen=True)
class Sign:
    """What stands beside a name in a legend: a line, a mark, or a mark on a line."""

    colour: int | None
    """A place in `LIGHT` and `DARK`; None where the sign stands for any colour."""
    line: str | None = None
    """How the line is dashed, a class of page.css or nothing; None where there is no line."""
    shape: int | None = None
    """The number of the mark; None where there is no mark."""


def backbone_sign(look: tuple[int, int], domain: str = "") -> Sign:
    """The sign of a backbone's line and marks."""
    colour, shape = look
    return Sign(colour, {"none": "none", "control": "flat"}.get(domain, ""), shape)


def tuned_signs(task: TaskCurves) -> list[tuple[Sign, str]]:
    """The signs of the fine-tunes in the charts of a task, and what they mean."""
    whole = {c.kind == "scratch" for c in task.tuned if any(not p.layer for p in c.points)}
    cuts = {c.kind == "copied" for c in task.tuned if any(p.layer for p in c.points)}
    signs = (
        (False in whole, Sign(None, line="tuned"), "fine-tuned"),
        (True in whole, Sign(None, line="scratch"), "trained from scratch"),
        (False in cuts, Sign(None, shape=CROSS), "frozen through a layer"),
        (True in cuts, Sign(None, shape=PLUS), "copied through a layer"),
    )
    return [(sign, words) for drawn, sign, words in signs if drawn]
