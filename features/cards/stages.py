"""The stages of a network: the few layers that a first look reads in the place of all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

MOST = 6
"""Stages at most."""
_FEWEST = 4
"""Sizes of maps, below which a network has no stages by size, as a transformer has none."""


def stages(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """Which of the layers end a stage, as positions in order: six at most, the last one among them.

    A stage ends where the next layer's map has another size, or no map follows. Where sizes tell less than
    four stages, or more than six, layers are taken at even distances.

    Args:
        shapes: The shape of every layer for one image, in depth order: (channels, height, width),
            (tokens, channels) or (dim,).
    """
    sides = [shape[1:] if len(shape) == 3 else shape[:-1] for shape in shapes]
    ends = [i for i, (here, after) in enumerate(pairwise(sides)) if here != after]
    ends += [len(shapes) - 1] if shapes else []
    if len(ends) < _FEWEST:
        ends = list(range(len(shapes)))
    if len(ends) <= MOST:
        return ends
    step = (len(ends) - 1) / (MOST - 1)
    return [ends[round(i * step)] for i in range(MOST)]
