"""Pictures of 16 bits that use few of them, as cameras of 10 or 12 bits write, which look dark."""

from __future__ import annotations

from collections.abc import Iterable

from features.backbone import Backbone
from features.errors import Stopped
from features.images.bit_depth import values_of
from features.images.decode import Unreadable, read_bytes
from features.study.copies import sampled
from features.study.study import Study

_LOOKED_AT = 8
_EIGHT_BITS, _DARK = 255, 65536 // 4
"""Largest values: below the one numbers are of eight bits or floats, above the other not dark."""


def nearly_black(study: Study, backbones: Iterable[Backbone]) -> list[str]:
    """In a sentence, the first of a few pictures whose values are far from 65535, which is read as white.

    None where every backbone has a range.
    """
    if all(backbone.architecture.input.range is not None for backbone in backbones):
        return []
    rows = sampled(study.paths)
    for row in rows[:: max(1, len(rows) // _LOOKED_AT)]:
        try:
            values = values_of(read_bytes(study.root / study.paths[row]))
        except (Unreadable, Stopped):  # which are told of where all pictures are read
            continue
        if values is not None and _EIGHT_BITS < values[1] < _DARK:
            white = 2 ** int(values[1]).bit_length() - 1
            return [
                f"{study.paths[row]} is of 16 bits with values from {values[0]:g} to {values[1]:g}, and is "
                f"read as nearly black, since 65535 is white; if {white} is white, begin a new study with "
                f"`probe extract --range 0,{white}`"
            ]
    return []
