"""The time that computing took: `NAME.seconds.json` beside a feature file.

It differs between runs that give the same numbers, and so is not in the feature file, which is the same to
the byte on any run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from features.machine.files import write_text
from features.machine.regular_files import read_regular
from features.machine.spent import Spent
from features.machine.strict_json import from_json


@dataclass(frozen=True)
class Timing:
    """The time of passes over images, from the first image read to the features on disk."""

    seconds: float
    images: int
    """The number computed in these seconds."""
    device: str
    precision: str
    workers: int
    threads: int
    """The computing threads of all workers together, on a processor."""
    together: tuple[str, ...]
    """The backbones that shared the passes and so the seconds."""
    processor: float = 0.0
    """Seconds of all cores together; 0 where they were not measured."""

    @property
    def spent(self) -> Spent:
        """What the passes took."""
        return Spent(self.seconds, self.processor)

    @property
    def per_thousand(self) -> float:
        """Seconds for a thousand images."""
        return 1000 * self.seconds / self.images


def seconds_path(file: Path) -> Path:
    """The path of the seconds of the feature file `file`."""
    return file.with_suffix(".seconds.json")


def read_seconds(file: Path) -> dict[str, Timing]:
    """The timing by data set of the feature file `file`; empty where none is recorded."""
    try:
        by_key = from_json(read_regular(seconds_path(file)))
        return {key: _timing(values) for key, values in by_key.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # never measured, or damaged
        return {}


def _timing(values: Any) -> Timing:
    """The values of one data set.

    Raises:
        TypeError: One is of another kind, or missing.
        ValueError: Seconds are not a finite number, or of no images.
    """
    timing = Timing(**{**values, "together": tuple(values.get("together", ()))})
    kinds = {"device": str, "precision": str, "images": int, "workers": int, "threads": int}
    for name, kind in kinds.items():
        if type(getattr(timing, name)) is not kind:
            raise TypeError(name)
    if not math.isfinite(timing.seconds + timing.processor) or timing.images < 1:
        raise ValueError("no time")
    if not all(isinstance(name, str) for name in timing.together):
        raise TypeError("together")
    return timing


def note_seconds(file: Path, keys: Iterable[str], measured: Timing) -> None:
    """Add the time of a pass that computed the data sets `keys` to that of earlier passes.

    A pass on another device, in another precision or with other backbones replaces them.
    """
    if not measured.images:
        return
    by_key = read_seconds(file)
    for key in keys:
        by_key[key] = _sum(by_key[key], measured) if key in by_key else measured
    text = json.dumps({key: asdict(values) for key, values in by_key.items()}, indent=1)
    with suppress(IsADirectoryError):  # how long it took is not worth stopping for
        write_text(seconds_path(file), text + "\n")


def _sum(before: Timing, now: Timing) -> Timing:
    if replace(before, processor=0.0) != replace(
        now, seconds=before.seconds, images=before.images, processor=0.0
    ):
        return now
    both = before.spent + now.spent
    images = before.images + now.images
    return replace(now, seconds=both.seconds, processor=both.processor, images=images)
