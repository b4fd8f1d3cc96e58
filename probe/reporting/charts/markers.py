"""Colours of domains and shapes of backbones, the same on the page and in every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from probe.analysis.points import Curve

# Okabe and Ito's palette (2008), safe for the colour-blind; a shape per backbone is the second cue.
_KNOWN = {"faces": 0, "objects": 1, "none": 2, "control": 3}
LIGHT = ("#0072B2", "#C44E00", "#6B6B6B", "#000000", "#00795A", "#A8487F", "#8A6100", "#2A7FB0")
"""On white: darkened where the original would be pale."""
DARK = ("#6CB8F0", "#FF9A57", "#B0B0B0", "#FFFFFF", "#2FD6A5", "#EE9CCB", "#F0BE3C", "#9AD4F7")
"""On near-black."""
Markers = Mapping[tuple[str, str], tuple[int, int]]
"""Colour and shape by backbone and domain: one trained here from scratch shares its card's name."""

DASHES: Mapping[str, tuple[float, ...]] = {
    "": (),
    "none": (5, 3),
    "flat": (2, 3),
    "tiny": (6, 2, 1, 2),
    "tuned": (9, 2, 2, 2),
    "scratch": (3, 1.5),
    "open": (9, 3),
}
"""How lines are dashed, on and off in pixels of a line 1.7 wide, on the page and in figures."""

SHAPES = 8
"""How many shapes there are; a backbone's is its place in the study, modulo this."""


def slots(domains: Sequence[str]) -> dict[str, int]:
    """The place of every domain in `LIGHT` and `DARK`."""
    others = [d for d in dict.fromkeys(domains) if d not in _KNOWN]
    free = len(LIGHT) - len(_KNOWN)
    return _KNOWN | {d: len(_KNOWN) + i % free for i, d in enumerate(others)}


def dash_of(curve: Curve) -> str:
    """The key in `DASHES` of a curve, by what it is of: a control, random weights or a fine-tune."""
    if curve.backbone == "control:tiny":
        return "tiny"
    if curve.domain in ("none", "control"):
        return "none" if curve.domain == "none" else "flat"
    if any(point.layer for point in curve.points):
        return "open" if curve.kind == "copied" else ""
    return "scratch" if curve.kind == "scratch" else "tuned"


def shapes(backbones: Sequence[str]) -> dict[str, int]:
    """A shape for every backbone: no two of the first eight are alike, whatever their colours."""
    return {name: i % SHAPES for i, name in enumerate(dict.fromkeys(backbones))}
