"""Reading a foreign HDF5 file in a separate process: no link out of the file is followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from features.errors import InputError

_INFLATION = 100


class ArrayReader:
    """Reads arrays of one file, in all no more than a file of its size can hold."""

    def __init__(self, path: Path) -> None:
        """A reader of the file `path`."""
        self._left = max(1 << 26, _INFLATION * path.stat().st_size)

    def inside(self, group: Any, path: str) -> Any:
        """The node at `path` under `group`, each step of it inside this file.

        Raises:
            InputError: A step is missing or leads to another file.
        """
        for step in path.strip("/").split("/"):
            if not is_inside(group, step):
                raise InputError(f"{path} is missing in it")
            group = group[step]
        return group

    def numbers(self, dataset: Any) -> npt.NDArray[Any]:
        """The numbers of a data set that lie in the file itself.

        Raises:
            InputError: They lie elsewhere, are not numbers, or are too many.
        """
        if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
            raise InputError(f"{dataset.name} is not an array of numbers")
        if dataset.is_virtual or dataset.external:
            raise InputError(f"{dataset.name} refers to another file")
        size = int(np.prod(dataset.shape or (0,), dtype=object)) * dataset.dtype.itemsize
        self._left -= size
        if self._left < 0:
            raise InputError(f"{dataset.name} has {size:,} bytes, more than the file can hold")
        return np.asarray(dataset[()])


def names(group: Any) -> list[str]:
    """The names in a group."""
    return list(group.keys())


def is_inside(group: Any, name: str) -> bool:
    """Whether `name` is in `group` and not a link to another file."""
    if not isinstance(group, h5py.Group) or name not in group:
        return False
    return isinstance(group.get(name, getlink=True), h5py.HardLink)
