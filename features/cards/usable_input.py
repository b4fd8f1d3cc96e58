"""What an input must have so that an image can be prepared for it."""

from __future__ import annotations

from math import inf, isfinite

from features.cards.card import Input

MOST_PIXELS = 8192
"""The longest side of a network's input; a batch of larger images would not fit into any memory."""


def is_usable(wanted: Input) -> bool:
    """Whether an input that no card described has sizes and numbers as a card may have them.

    Raises:
        TypeError: Something of it is no number.
    """
    assert not isinstance(wanted.mean, str)
    return (
        all(map(are_sides, (wanted.size, wanted.resize or wanted.size)))
        and len(wanted.mean) == len(wanted.std) == 3
        and all(map(isfinite, wanted.mean))
        and all(0 < value < inf for value in (*wanted.std, wanted.scale))
    )


def are_sides(sides: tuple[int, int] | int) -> bool:
    """Whether a height and width, or a number for both, are those of an image."""
    pair = (sides,) if isinstance(sides, int) else sides
    return all(1 <= side <= MOST_PIXELS for side in pair)
