"""Colours of domains and shapes of backbones, the same on the page and in every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Okabe and Ito's palette (2008), safe for the colour-blind; a shape per backbone is the second cue.
_KNOWN = {"faces": 0, "objects": 1, "none": 2, "control": 3}
LIGHT = ("#0072B2", "#C44E00", "#6B6B6B", "#000000", "#00795A", "#A8487F", "#8A6100", "#2A7FB0")
"""On white: darkened where the original would be pale."""
DARK = ("#6CB8F0", "#FF9A57", "#B0B0B0", "#FFFFFF", "#2FD6A5", "#EE9CCB", "#F0BE3C", "#9AD4F7")
"""On near-black."""
Markers = Mapping[tuple[str, str], tuple[int, int]]
"""Colour and shape by backbone and domain: one trained here from scratch shares its card's name."""

SHAPES = 8
"""How many shapes there are; a backbone's is its place in the study, modulo this."""


def slots(domains: Sequence[str]) -> dict[str, int]:
    """The place of every domain in `LIGHT` and `DARK`."""
    others = [d for d in dict.fromkeys(domains) if d not in _KNOWN]
    free = len(LIGHT) - len(_KNOWN)
    return _KNOWN | {d: len(_KNOWN) + i % free for i, d in enumerate(others)}


def shapes(backbones: Sequence[str]) -> dict[str, int]:
    """A shape for every backbone: no two of the first eight are alike, whatever their colours."""
    return {name: i % SHAPES for i, name in enumerate(dict.fromkeys(backbones))}
