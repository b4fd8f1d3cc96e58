"""PyTorch's files and plain pickles, read without running anything: their objects and tensors.

A zip file holds the pickle as `data.pkl` and each storage as `data/KEY`. The older format is four pickles
one after the other, a number, a version, the kind of machine and the object, then the keys of the
storages, and after them their counts, int64, and numbers.
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

from features.formats.safe_pickle import Array, Bounded, Rebuilt, Refused, Storage, Unpickler
from features.machine.regular_files import open_regular

_MAGIC = 0x1950A86A20F9469CFC6C  # the first number of a file in the older format


def content_of(path: Path) -> tuple[Any, Callable[[Any], Tensor | None]]:
    """The first object of a PyTorch file or a plain pickle, and a function that gives its tensors.

    That function takes a value inside the object and returns its tensor, or None if it is none.

    Raises:
        Refused: It calls a function that is not allowed.
        ValueError, OSError, KeyError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile: It is damaged.
    """
    with open_regular(path) as file:
        zipped = file.read(2) == b"PK"
    return _zipped(path) if zipped else _legacy(path)


def _zipped(path: Path) -> tuple[Any, Callable[[Any], Tensor | None]]:
    archive = zipfile.ZipFile(path)
    # compressed members, which only hold the text of a script, are never read
    stored = {member.filename: member for member in archive.infolist() if not member.compress_type}
    name = next(name for name in stored if name.endswith("data.pkl"))
    folder = name.removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in stored and archive.read(stored[order]) != b"little":
        raise Refused("its numbers are big-endian")
    pickled = archive.read(stored[name])
    content = Unpickler(Bounded(io.BytesIO(pickled), len(pickled))).load()

    def read(storage: Storage) -> bytes:
        return archive.read(stored[f"{folder}data/{storage.key}"])

    return content, _Storages(read).tensor


def _legacy(path: Path) -> tuple[Any, Callable[[Any], Tensor | None]]:
    size = path.stat().st_size
    with open_regular(path) as file:
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
            storage = unpickler.storages[str(key)]
            (count,) = struct.unpack("<q", bounded.read(8))
            if count != storage.count:
                raise ValueError(f"a storage of {count} numbers is declared with {storage.count}")
            length = count * storage.dtype.itemsize
            places[str(key)] = (file.tell(), length)
            if not 0 <= length <= size - file.tell():
                raise EOFError("it ends in the middle of a storage")
            file.seek(length, 1)

    def read(storage: Storage) -> bytes:
        start, length = places[storage.key]
        with open_regular(path) as file:
            file.seek(start)
            return file.read(length)

    return content, _Storages(read).tensor


def _nothing(storage: Storage) -> bytes:
    raise ValueError(f"it has no storage {storage.key}")


class _Storages:
    """The storages of a file, each read once."""

    def __init__(self, read: Callable[[Storage], bytes]) -> None:
        self._read = read
        self._tensors: dict[str, Tensor] = {}
        self._arrays: dict[int, tuple[Any, np.ndarray[Any, np.dtype[np.uint8]]]] = {}

    def tensor(self, value: Any) -> Tensor | None:
        """`value` as a tensor, if it stands for one."""
        if isinstance(value, Array):
            return torch.from_numpy(value.of(self._bytes_of(value.content)))
        if not isinstance(value, Rebuilt):
            return None
        storage, sides, strides = value.storage, value.sides, value.strides
        if 0 in sides:
            return torch.empty(sides, dtype=storage.dtype)
        last = value.offset + sum((a - 1) * b for a, b in zip(sides, strides, strict=True))
        if min((*sides, *strides, value.offset), default=0) < 0 or last >= storage.count:
            raise ValueError(f"a tensor of {sides} in {storage.count} numbers")
        if prod(sides) > storage.count:
            raise ValueError(f"a tensor of {sides} repeats {storage.count} numbers")
        if storage.key not in self._tensors:
            content = self._read(storage)
            if len(content) != storage.count * storage.dtype.itemsize:
                raise ValueError(f"storage {storage.key} is not as long as it is declared")
            self._tensors[storage.key] = torch.frombuffer(bytearray(content), dtype=storage.dtype)
        return self._tensors[storage.key].as_strided(sides, strides, value.offset)

    def _bytes_of(self, content: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The bytes of an array, copied once however many arrays a file makes of them."""
        if not isinstance(content, bytes | str):
            raise Refused("it has an array of objects")
        if id(content) not in self._arrays:
            plain = content.encode("latin1") if isinstance(content, str) else content
            self._arrays[id(content)] = content, np.frombuffer(bytearray(plain), np.uint8)
        return self._arrays[id(content)][1]
