"""The geometry of an input: which part of an image a network sees, and at what size.

What is subtracted and divided is each network's own and counts as no difference, and so does the filter
of the resizing.
"""

from __future__ import annotations

import re
from dataclasses import replace

from features.cards.card import Input

_GEOMETRY = re.compile(
    r"resized to (?P<to>.+?) \(.*?\), centre crop (?P<crop>\d+ x \d+) \((?P<how>.*?)\)"
)


def geometry_of(preprocessing: str) -> str:
    """The geometry in words, from the preprocessing that a feature file records; else all of the words."""
    match = _GEOMETRY.search(preprocessing)
    if match is None:
        return preprocessing
    floored = ", offset rounded down" if "rounded down" in match["how"] else ""
    return f"resized to {match['to']}, centre crop {match['crop']}{floored}"


def with_geometry(wanted: Input, other: Input) -> Input:
    """`wanted` with the size, the resizing and the crops of `other`."""
    return replace(
        wanted,
        size=other.size,
        resize=other.resize,
        canvas=other.canvas,
        crop_offset=other.crop_offset,
    )
