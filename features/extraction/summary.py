"""What a run of `extract` is about to write, and what it has written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """What a run is about to write of one backbone."""

    backbone: str
    file: Path
    rows: int
    layers: tuple[str, ...]
    bytes: int
    seconds: float
    """The time that the run will take, by its first batch."""
    licence: str | None


@dataclass
class Extraction:
    """What a run has written of one backbone."""

    backbone: str
    file: Path
    layers: list[str]
    rows: int
    computed: int = 0
    """Rows computed in this run; the others were there already."""
    seconds: float = 0.0
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why a row of the file is unreadable, by path."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why the data reader took a file for no row, by file."""
    pending: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds that reading, decoding, computing (summed over the lanes) and writing took, for all the
    backbones of the run together."""
    bottleneck: str = ""
    """The stage that was busiest."""
    lanes: int = 1
    """Batches computed at the same time, in each worker."""
    workers: int = 1
    """Processes."""
    batch_size: int = 0
    precision: str = "float32"
    notes: list[str] = field(default_factory=list)
