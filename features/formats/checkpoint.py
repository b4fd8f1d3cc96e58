"""PyTorch's files and plain pickles, read inertly: what they hold, and the numbers of its tensors.

A zip holds the pickle as `data.pkl` and each storage as `data/KEY`. Before zip there were four pickles
in a row, a number, a version, the machine's kind and the object, then the keys of the storages, and
behind each other their counts, int64, and numbers.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from features.formats.safe_pickle import Array, Bounded, Numbers, Rebuilt, Refused, Unpickler

_MAGIC = 0x1950A86A20F9469CFC6C  # the first number of a file of before zip


def content_of(path: Path) -> tuple[Any, Callable[[Any], Tensor | None]]:
    """The first object of a PyTorch file or a plain pickle, and a function that gives its tensors.

    That function takes what the object holds and returns a tensor, or None for what is none.

    Raises:
        Refused: It calls what nothing here calls.
        ValueError, OSError, KeyError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile: It is damaged.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    return _zipped(path) if zipped else _legacy(path)


def _zipped(path: Path) -> tuple[Any, Callable[[Any], Tensor | None]]:
    archive = zipfile.ZipFile(path)
    # packed ones, which only the text of a script is, are never read
    stored = {one.filename: one for one in archive.infolist() if not one.compress_type}
    name = next(name for name in stored if name.endswith("data.pkl"))
    folder = name.removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in stored and archive.read(stored[order]) != b"little":
        raise Refused("its numbers are big-endian")
    pickled = archive.read(stored[name])
    content = Unpickler(Bounded(io.BytesIO(pickled), len(pickled))).load()

    def read(numbers: Numbers) -> bytes:
        return archive.read(stored[f"{folder}data/{numbers.key}"])

    return content, _Storages(read).tensor


def _legacy(path: Path) -> tuple[Any, Callable[[Any], Tensor | None]]:
    size = path.stat().st_size
    with path.open("rb") as file:
        bounded = Bounded(file, size)
        first = Unpickler(bounded).load()
        if first != _MAGIC:
            return first, _Storages(_nothing).tensor
        for _ in range(2):  # the protocol's version, and the machine's kind
            Unpickler(bounded).load()
        unpickler = Unpickler(bounded)
        content = unpickler.load()
        keys = Unpickler(bounded).load()
        places: dict[str, tuple[int, int]] = {}
        for key in keys:
            numbers = unpickler.storages[str(key)]
            (count,) = struct.unpack("<q", bounded.read(8))
            if count != numbers.count:
                raise ValueError(f"a storage of {count} numbers is declared with {numbers.count}")
            length = count * numbers.dtype.itemsize
            places[str(key)] = (file.tell(), length)
            if not 0 <= length <= size - file.tell():
                raise EOFError("it ends in the middle of a storage")
            file.seek(length, 1)

    def read(numbers: Numbers) -> bytes:
        start, length = places[numbers.key]
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    return content, _Storages(read).tensor


def _nothing(numbers: Numbers) -> bytes:
    raise ValueError(f"it has no storage {numbers.key}")


class _Storages:
    """The numbers of a file's storages, each read once."""

    def __init__(self, read: Callable[[Numbers], bytes]) -> None:
        self._read = read
        self._held: dict[str, Tensor] = {}
        self._arrays: dict[int, tuple[Any, np.ndarray[Any, np.dtype[np.uint8]]]] = {}

    def tensor(self, value: Any) -> Tensor | None:
        """`value` as a tensor, if it stands for one."""
        if isinstance(value, Array):
            return torch.from_numpy(value.of(self._bytes_of(value.content)))
        if not isinstance(value, Rebuilt):
            return None
        numbers, sides, strides = value.numbers, value.sides, value.strides
        if 0 in sides:
            return torch.empty(sides, dtype=numbers.dtype)
        last = value.offset + sum((a - 1) * b for a, b in zip(sides, strides, strict=True))
        if min((*sides, *strides, value.offset), default=0) < 0 or last >= numbers.count:
            raise ValueError(f"a tensor of {sides} in {numbers.count} numbers")
        if prod(sides) > numbers.count:
            raise ValueError(f"a tensor of {sides} repeats {numbers.count} numbers")
        if numbers.key not in self._held:
            content = self._read(numbers)
            if len(content) != numbers.count * numbers.dtype.itemsize:
                raise ValueError(f"storage {numbers.key} is not as long as it is declared")
            self._held[numbers.key] = torch.frombuffer(bytearray(content), dtype=numbers.dtype)
        return self._held[numbers.key].as_strided(sides, strides, value.offset)

    def _bytes_of(self, content: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The bytes of an array, copied once however many arrays a file makes of them."""
        if not isinstance(content, bytes | str):
            raise Refused("it has an array of objects")
        if id(content) not in self._arrays:
            plain = content.encode("latin1") if isinstance(content, str) else content
            self._arrays[id(content)] = content, np.frombuffer(bytearray(plain), np.uint8)
        return self._arrays[id(content)][1]
