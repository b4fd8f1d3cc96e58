"""The contents of a feature file except its features, read at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import Ints
from features.store.featurefile import FeatureFile


@dataclass(frozen=True)
class FileContents:
    """A finished or partial feature file at one moment."""

    attributes: Mapping[str, Any]
    """The root attributes."""
    poolings: Mapping[str, tuple[str, str, str]]
    """Layer, pooling and view of every data set by its key, in depth order."""
    status: npt.NDArray[np.uint8]
    """0 pending, 1 done, 2 unreadable; `(n,)`."""
    aim: Ints
    """The rows that its last run was to compute."""
    reasons: Mapping[int, str]
    """The reason by unreadable row."""
    compression: str
    """How the features are compressed: `none`, `gzip` or `lzf`."""
    read_as: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """The module of every data set and the kind of its output, by key; the kind is empty in older files."""
    canvases: Mapping[str, str] = field(default_factory=dict)
    """What the crops of every data set of ten crops were cut from, by key; empty in older files."""

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.status)


def contents_of(path: Path) -> FileContents | None:
    """The contents of the feature file at `path`; None where there is no file.

    Raises:
        InputError: It is not a feature file, or another process is writing it.
    """
    if not os.path.lexists(path):
        return None
    with FeatureFile(path) as file:
        return FileContents(
            attributes=file.attributes,
            poolings={key: file.pooling(key) for key in file.stored},
            status=file.status,
            aim=file.aim,
            reasons=file.reasons(),
            compression=file.compression,
            read_as={key: file.read_as(key) for key in file.stored},
            canvases={
                key: file.canvas(key) for key in file.stored if file.pooling(key)[2] == "10crop"
            },
        )
