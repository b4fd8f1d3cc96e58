"""What a data reader returns: one row per image with its labels, subject and fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from features.data.tasks import Task


@dataclass(frozen=True)
class Manifest:
    """A data set as its reader returns it."""

    source: str
    """The value of --data for it, with an absolute path."""
    root: Path
    """The folder to which the paths of the rows are relative."""
    columns: Mapping[str, list[str]]
    """`path`, the label columns, and `subject` and `fold` where known; all of one length."""
    tasks: Mapping[str, Task] = field(default_factory=dict)
    """Classes and their order where the reader knows them."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Files that are not rows, each with the reason."""
    closest: str | None = None
    """The domain nearest to these images, where the reader knows it."""
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    """What was taken for what, where it could be taken otherwise, in sentences."""

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.columns["path"])
