"""Counts with their nouns, for sentences: `1 array`, `2 arrays`."""

from __future__ import annotations


def count(n: int, noun: str) -> str:
    """The count and its noun, in the plural where it is not one; thousands have commas."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
