"""How long computing took: `NAME.seconds.json` beside a feature file.

It differs between runs that give the same numbers, and so is kept out of the feature file, which is the
same to the byte whoever computed it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from features.machine.regular import read_regular


@dataclass(frozen=True)
class Measured:
    """What passes over images took, from the first image read to the features on disk."""

    seconds: float
    images: int
    """Computed in these seconds."""
    device: str
    precision: str
    workers: int
    threads: int
    """Of all workers together, on a processor."""
    together: tuple[str, ...]
    """The backbones that shared the passes, and so the seconds."""

    @property
    def per_thousand(self) -> float:
        """Seconds for a thousand images."""
        return 1000 * self.seconds / self.images


def seconds_path(file: Path) -> Path:
    """Where the seconds of the feature file `file` are kept."""
    return file.with_suffix(".seconds.json")


def read_seconds(file: Path) -> dict[str, Measured]:
    """What was measured, by data set of the feature file `file`; nothing where nothing is known."""
    try:
        found = json.loads(read_regular(seconds_path(file)))
        return {
            key: Measured(**{**one, "together": tuple(one["together"])})
            for key, one in found.items()
        }
    except (OSError, ValueError):  # never measured, or killed while writing it
        return {}


def note_seconds(file: Path, keys: Iterable[str], measured: Measured) -> None:
    """Add a pass that computed the data sets `keys` to what earlier ones of the same kind took.

    A pass on another device, in another precision or with others replaces them.
    """
    if not measured.images:
        return
    found = read_seconds(file)
    for key in keys:
        found[key] = measured if key not in found else _together(found[key], measured)
    text = json.dumps({key: asdict(one) for key, one in found.items()}, indent=1)
    seconds_path(file).write_text(text + "\n", encoding="utf-8")


def _together(before: Measured, now: Measured) -> Measured:
    if before != replace(now, seconds=before.seconds, images=before.images):
        return now
    return replace(now, seconds=before.seconds + now.seconds, images=before.images + now.images)
