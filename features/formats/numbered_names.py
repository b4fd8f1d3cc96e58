"""Names with numbers in them, such as `conv2d_10`, in the order of the numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable


def numbers_in(name: str) -> tuple[str, tuple[int, ...]]:
    """A name without its numbers, and the numbers; `conv2d` comes before `conv2d_1`."""
    pattern = re.sub(r"\d+", "#", name)
    numbers = tuple(int(number) for number in re.findall(r"\d+", name))
    return (pattern, numbers) if pattern.endswith("#") else (f"{pattern}_#", (*numbers, 0))


def against_numbers(names: Iterable[str]) -> bool:
    """Whether names are in alphabetical order and their numbers are not (`conv2d_10` before `conv2d_2`).

    Such a list was sorted, and tells nothing of the order in which a network has its layers.
    """
    listed = list(names)
    numbers: dict[str, list[tuple[int, ...]]] = {}
    for name in listed:
        pattern, number = numbers_in(name)
        numbers.setdefault(pattern, []).append(number)
    return listed == sorted(listed) and any(n != sorted(n) for n in numbers.values())
