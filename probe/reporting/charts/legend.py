"""The signs of the page's charts: marks along the lines, and the same beside names in the legends."""

from __future__ import annotations

import re
from collections.abc import Sequence

from probe.analysis.curves import TaskCurves
from probe.reporting.charts.looks import SHAPES


def markers(drawn: Sequence[str]) -> str:
    """The marks that the SVGs in `drawn` refer to, one per colour and shape in use."""
    used = {two for svg in drawn for two in re.findall(r"url\(#m(\d+)-(\d+)\)", svg)}
    made = [
        f'<marker id="m{colour}-{shape}" class="mark c{colour}" viewBox="-6 -6 12 12" '
        f'markerWidth="9" markerHeight="9" markerUnits="userSpaceOnUse">'
        f"{_OUTLINES[int(shape)]}</marker>"
        for colour, shape in sorted(used)
    ]
    return f'<svg class="defs" aria-hidden="true" width="0" height="0"><defs>{"".join(made)}</defs></svg>'


def key(look: tuple[int, int], domain: str = "") -> str:
    """The sign of a backbone of a domain beside its name."""
    colour, shape = look
    style = {"none": " none", "control": " flat"}.get(domain, "")
    return _key(f"c{colour}", f'<path class="line{style}" d="M0 6H28"/>{_mark(shape)}')


def tuned_keys(found: TaskCurves) -> list[tuple[str, str]]:
    """The signs of the fine-tunes that a task's charts hold, in any colour, and what they mean."""
    whole = {c.kind == "scratch" for c in found.tuned if any(not p.layer for p in c.points)}
    cuts = {c.kind == "copied" for c in found.tuned if any(p.layer for p in c.points)}
    signs = (
        (False in whole, '<path class="line flat" d="M0 6H28"/>', "fine-tuned"),
        (True in whole, '<path class="line scratch" d="M0 6H28"/>', "trained from scratch"),
        (False in cuts, _mark(CROSS), "frozen through a layer"),
        (True in cuts, _mark(PLUS), "copied through a layer"),
    )
    return [(_key("any", drawn), words) for there, drawn, words in signs if there]


def _mark(shape: int) -> str:
    return f'<g transform="translate(14 6) scale(.8)">{_OUTLINES[shape]}</g>'


def _key(colour: str, drawn: str) -> str:
    return (
        f'<svg class="key {colour}" viewBox="0 0 28 12" width="28" height="12" '
        f'aria-hidden="true">{drawn}</svg>'
    )


_OUTLINES = (
    '<circle r="4.4"/>',
    '<path d="M-4 -4H4V4H-4Z"/>',
    '<path d="M0 -5.6L5.6 0L0 5.6L-5.6 0Z"/>',
    '<path d="M0 -5L5 4.2H-5Z"/>',
    '<path d="M0 5L5 -4.2H-5Z"/>',
    '<path d="M-1.8 -5H1.8V-1.8H5V1.8H1.8V5H-1.8V1.8H-5V-1.8H-1.8Z"/>',
    '<path d="M-5 0L5 -5V5Z"/>',
    '<path d="M0 -5.6L1.6 -1.8L5.6 -1.6L2.5 1L3.5 5L0 2.8L-3.5 5L-2.5 1L-5.6 -1.6L-1.6 -1.8Z"/>',
    '<path class="cross" d="M-4 -4L4 4M-4 4L4 -4"/>',
    '<path class="cross" d="M-5 0H5M0 -5V5"/>',
)
CROSS, PLUS = SHAPES, SHAPES + 1
"""The marks of fine-tunes: frozen or tuned, and copied."""
