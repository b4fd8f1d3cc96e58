"""How long computing took: `NAME.seconds.json` beside a feature file.

It differs between runs that give the same numbers, and so is kept out of the feature file, which is the
same to the byte whoever computed it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from features.machine.files import write_text
from features.machine.regular_files import read_regular


@dataclass(frozen=True)
class Timing:
    """What passes over images took, from the first image read to the features on disk."""

    seconds: float
    images: int
    """How many were computed in these seconds."""
    device: str
    precision: str
    workers: int
    threads: int
    """The threads that computed, in all workers together, on a processor."""
    together: tuple[str, ...]
    """The backbones that shared the passes, and so the seconds."""

    @property
    def per_thousand(self) -> float:
        """Seconds for a thousand images."""
        return 1000 * self.seconds / self.images


def seconds_path(file: Path) -> Path:
    """Where the seconds of the feature file `file` are kept."""
    return file.with_suffix(".seconds.json")


def read_seconds(file: Path) -> dict[str, Timing]:
    """What was measured, by data set of the feature file `file`; nothing where nothing is known."""
    try:
        by_key = json.loads(read_regular(seconds_path(file)))
        return {
            key: Timing(**{**values, "together": tuple(values["together"])})
            for key, values in by_key.items()
        }
    except (OSError, ValueError):  # never measured, or killed while writing it
        return {}


def note_seconds(file: Path, keys: Iterable[str], measured: Timing) -> None:
    """Add a pass that computed the data sets `keys` to what earlier ones of the same kind took.

    A pass on another device, in another precision or with others replaces them.
    """
    if not measured.images:
        return
    by_key = read_seconds(file)
    for key in keys:
        by_key[key] = _sum(by_key[key], measured) if key in by_key else measured
    text = json.dumps({key: asdict(values) for key, values in by_key.items()}, indent=1)
    write_text(seconds_path(file), text + "\n")


def _sum(before: Timing, now: Timing) -> Timing:
    if before != replace(now, seconds=before.seconds, images=before.images):
        return now
    return replace(now, seconds=before.seconds + now.seconds, images=before.images + now.images)
