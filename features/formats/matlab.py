"""MATLAB's files as Python values, read in a separate process.

A numeric array is an array, text a str, a cell array a list, a struct a dict, an array of structs a
list of dicts.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from features.formats.hdf5 import ArrayReader, is_inside

_DEPTH = 12
_NODES = 100_000


@contextmanager
def variables(path: Path) -> Iterator[dict[str, Any]]:
    """The variables of a file of version 5 or 7.3, by name."""
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            reader = _Version73(path, file)
            yield {
                name: reader.value(file[name], 0)
                for name in file
                if not name.startswith("#") and is_inside(file, name)
            }
        return
    from scipy.io import loadmat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = loadmat(path, chars_as_strings=True, struct_as_record=True)
    yield {name: _version5(value, 0) for name, value in loaded.items() if name[0] != "_"}


def elements(value: Any) -> list[Any]:
    """The elements of a cell or struct array; for a single struct or text a list of it alone."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict | str):
        return [value]
    return []


def _version5(value: Any, depth: int) -> Any:
    if depth > _DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, np.void):  # one struct
        names = value.dtype.names or ()
        return {name: _version5(value[name], depth + 1) for name in names}
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.names is not None or value.dtype == object:
        values = [_version5(element, depth + 1) for element in value.ravel(order="F")]
        return values[0] if value.dtype.names is not None and len(values) == 1 else values
    if value.dtype.kind in "US":
        return "".join(str(text) for text in value.ravel())
    return value


class _Version73:
    """A file of version 7.3: HDF5, where cells and structs are references and every array is transposed."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._file, self._reader, self._left = file, ArrayReader(path), _NODES

    def value(self, node: Any, depth: int) -> Any:
        self._left -= 1
        if depth > _DEPTH or self._left < 0:
            raise ValueError("nested too deeply")
        if isinstance(node, h5py.Group):
            return self._struct(node, depth)
        if "MATLAB_empty" in node.attrs:
            return []
        if node.dtype.kind == "O":
            return [self.value(self._file[ref], depth + 1) for ref in self._references(node)]
        array = self._reader.numbers(node).T
        if _class(node) == "char":
            return "".join(map(chr, array.ravel(order="F").tolist()))
        return array

    def _struct(self, node: h5py.Group, depth: int) -> Any:
        """A struct, or a list of structs where the fields are arrays of references."""
        fields = {name: node[name] for name in node if is_inside(node, name)}
        several = fields and all(
            isinstance(field, h5py.Dataset)
            and field.dtype.kind == "O"
            and "MATLAB_class" not in field.attrs
            for field in fields.values()
        )
        if not several:
            return {name: self.value(field, depth + 1) for name, field in fields.items()}
        columns = {
            name: [self.value(self._file[ref], depth + 1) for ref in self._references(field)]
            for name, field in fields.items()
        }
        length = min(map(len, columns.values()))
        return [{name: column[i] for name, column in columns.items()} for i in range(length)]

    def _references(self, node: h5py.Dataset) -> list[Any]:
        if node.is_virtual or node.external or int(np.prod(node.shape, dtype=object)) > _NODES:
            raise ValueError("a cell array that no network has")
        return [
            ref for ref in node[()].T.ravel(order="F").tolist() if isinstance(ref, h5py.Reference)
        ]


def _class(node: h5py.Dataset) -> str:
    name = node.attrs.get("MATLAB_class", b"")
    return name.decode() if isinstance(name, bytes) else str(name)
