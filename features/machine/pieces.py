"""Pieces of a command's work, each with a result that is a file: whole or absent, made once, anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """One of them."""

    name: str
    """What a person calls it: `rows 0 to 31 of mobilefacenet`. No other piece has it."""
    is_made: Callable[[], bool]
    make: Callable[[], object]
