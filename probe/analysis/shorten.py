"""Names shortened in the middle, for charts and tables."""

from __future__ import annotations

LONGEST = 12
"""Characters of a name on an axis."""


def shorten(name: str, longest: int = LONGEST) -> str:
    """A name with its middle left out where it is longer; both ends tell layers apart."""
    if len(name) <= longest:
        return name
    start = (longest - 1) // 2
    return f"{name[:start]}…{name[start + 1 - longest :]}"


def shorten_draws(name: str, longest: int) -> str:
    """`NETWORK@random, 3 draws` with the middle of the network alone left out: the rest stays."""
    network, mark, rest = name.partition("@random")
    if not mark or len(name) <= longest:
        return shorten(name, longest)
    tail = mark + rest.replace(" draws", "x")
    return shorten(network, max(5, longest - len(tail))) + tail
