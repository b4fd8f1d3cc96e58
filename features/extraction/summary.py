"""The plan of an extraction, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """The features of one backbone that a run is going to write."""

    backbone: str
    file: Path
    rows: int
    layers: tuple[str, ...]
    bytes: int
    licence: str | None


@dataclass
class Extraction:
    """The features of one backbone that a run has written."""

    backbone: str
    file: Path
    layers: list[str]
    rows: int
    computed: int = 0
    """Rows computed in this run; the others existed already."""
    taken: int = 0
    """Rows that shares or the tasks of an engine had computed, and that this run has taken in."""
    seconds: float = 0.0
    unreadable: dict[str, str] = field(default_factory=dict)
    """The reason by path of unreadable rows."""
    left_out: dict[str, str] = field(default_factory=dict)
    """The reason by file that the data reader left out."""
    pending: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds of reading, decoding, computing (summed over the lanes) and writing, for all the backbones
    of the run together."""
    bottleneck: str = ""
    """The stage that was busiest."""
    lanes: int = 1
    """Batches computed at the same time, in each worker."""
    workers: int = 1
    """The number of processes."""
    batch_size: int = 0
    precision: str = "float32"
    notes: list[str] = field(default_factory=list)
