"""What work of many kinds took on this machine: JSON files in the cache folder, to tell it beforehand.

It differs between runs that give the same numbers, and so stands in no study.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress

from features.errors import InputError
from features.machine.files import write_text
from features.machine.home import home, make
from features.machine.regular_files import read_regular
from features.machine.spent import Spent

_MOST = 300
"""Kinds of work that a file remembers, the latest."""


def read_spent(file: str) -> dict[str, Spent]:
    """What work took by the name of its kind, from a file of the cache folder; empty where none is kept."""
    try:
        by_name = json.loads(read_regular(home() / file))
        return {str(name): _spent(values) for name, values in by_name.items()}
    except (OSError, ValueError, TypeError, AttributeError, InputError):  # none, or damaged
        return {}


def note_spent(file: str, measured: Mapping[str, Spent]) -> None:
    """Remember what work took; where the cache folder cannot be written nothing is remembered."""
    if not measured:
        return
    known = {name: spent for name, spent in read_spent(file).items() if name not in measured}
    latest = [*known.items(), *measured.items()][-_MOST:]
    text = json.dumps(
        {name: [round(s.seconds, 4), round(s.processor, 4)] for name, s in latest}, indent=1
    )
    with suppress(OSError, InputError):
        make(home())
        write_text(home() / file, text + "\n")


def _spent(values: object) -> Spent:
    """Seconds by the clock and of the processor; of an older file only the first.

    Raises:
        ValueError: They are none.
    """
    both = values if isinstance(values, list) else [values]
    for value in both:
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ValueError("no time")
    return Spent(*map(float, both))
