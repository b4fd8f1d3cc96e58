"""Torch7 `.t7`: Lua's objects written one after the other, read here without Lua.

The binary serialisation, little-endian. An object is a type, int32, and then

    0 nil
    1 number    float64
    2 string    int32 length, bytes
    3 table     int32 index, int32 count, that many pairs of objects
    4 torch     int32 index, "V N" as length and bytes, class name likewise, content
    5 boolean   int32
    6 function  int32 length, bytecode, object: its upvalues
    7, 8        the same after an int32 index

where an index that occurred before stands for the same object, and a file older than the versions has
the class name in place of "V N". The content of a tensor is int32 dimensions, int64 sizes, int64
strides, int64 offset from 1, and a storage; that of a storage is int64 count and numbers; that of any
other class is a table. Bytecode is skipped.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from features.errors import InputError
from features.formats.blobs import Blobs, of

_KINDS = {
    "Byte": np.uint8,
    "Char": np.int8,
    "Short": np.int16,
    "Int": np.int32,
    "Long": np.int64,
    "Half": np.float16,
    "Float": np.float32,
    "Double": np.float64,
    "": np.float32,  # torch.CudaTensor
}
_DEPTH = 100
_PARTS = ("weight", "bias", "running_mean", "running_var", "running_std")


class TorchObject(dict[Any, Any]):
    """The table of an object; `kind` is the name of its class."""

    kind = ""


def recognise(_path: Path, head: bytes, _size: int) -> bool:
    """Whether a file begins with a table or an object: type, index 1, then a count or a version."""
    kind, index = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little")
    length = int.from_bytes(head[8:12], "little")
    if index != 1 or kind not in (3, 4):
        return False
    text = head[12 : 12 + length]
    return kind == 3 or text.startswith((b"V ", b"torch.", b"nn.", b"cudnn."))


def read(path: Path) -> Blobs:
    """The tensors of a network's modules, by their names or else by their positions (`3.1.weight`).

    Raises:
        InputError: The file is damaged, or holds no tensors.
    """
    try:
        root = parse(path)
        tensors = dict(_tensors(root, "", set()))
    except (ValueError, struct.error, RuntimeError, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: a damaged Torch7 file ({error}); fetch it again.") from error
    return of("torch7", path, tensors, by_order=True)


def parse(path: Path) -> Any:
    """The first object of a file: dicts for tables, numbers, texts, tensors.

    Raises:
        ValueError: The bytes are not such a file.
    """
    return _Reader(np.fromfile(path, dtype=np.uint8)).read(0)


class _Reader:
    def __init__(self, data: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        self._data, self._view, self._at = data, data.data, 0
        self._known: dict[int, Any] = {}

    def read(self, depth: int) -> Any:
        kind = self._int()
        if depth > _DEPTH:
            raise ValueError("nested too deeply")
        if kind == 0:
            return None
        if kind == 1:
            return self._take("d")
        if kind == 2:
            return self._text()
        if kind == 5:
            return self._int() == 1
        if kind == 6:
            self._skip_function(depth)
            return None
        if kind not in (3, 4, 7, 8):
            raise ValueError(f"no object of type {kind} at byte {self._at - 4}")
        index = self._int()
        if index in self._known:
            return self._known[index]
        if kind == 3:
            return self._table(index, TorchObject(), depth)
        if kind == 4:
            return self._object(index, depth)
        self._known[index] = None
        self._skip_function(depth)
        return None

    def _skip_function(self, depth: int) -> None:
        self._bytes(self._int())
        self.read(depth + 1)

    def _table(self, index: int, table: TorchObject, depth: int) -> TorchObject:
        self._known[index] = table
        for _ in range(self._int()):
            key, value = self.read(depth + 1), self.read(depth + 1)
            if isinstance(key, float) and key.is_integer():
                key = int(key)
            if isinstance(key, int | str):
                table[key] = value
        return table

    def _object(self, index: int, depth: int) -> Any:
        name = self._text()
        if name.startswith("V "):
            name = self._text()
        match = re.fullmatch(r"torch\.(?:Cuda)?([A-Z][a-z]+|)(Tensor|Storage)", name)
        if match and match[1] in _KINDS:
            dtype = np.dtype(_KINDS[match[1]]).newbyteorder("<")
            tensor = self._storage(dtype) if match[2] == "Storage" else self._tensor(depth)
            self._known[index] = tensor
            return tensor
        made = TorchObject()
        made.kind = name
        self._known[index] = made
        content = self.read(depth + 1)
        if not isinstance(content, TorchObject):
            raise ValueError(f"the class {name[:40]!r} is not known")
        made.update(content)
        return made

    def _storage(self, dtype: np.dtype[Any]) -> Tensor:
        numbers = self._bytes(self._take("q") * dtype.itemsize)
        return torch.from_numpy(numbers.copy().view(dtype).astype(dtype.newbyteorder("=")))

    def _tensor(self, depth: int) -> Tensor:
        dimensions = self._int()
        if not 0 <= dimensions <= 16:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        sizes = [self._take("q") for _ in range(dimensions)]
        strides = [self._take("q") for _ in range(dimensions)]
        offset = self._take("q") - 1
        storage = self.read(depth + 1)
        if storage is None or not dimensions or 0 in sizes:
            return torch.empty(0)
        if not isinstance(storage, Tensor) or storage.dim() != 1:
            raise ValueError("a tensor without a storage")
        count, last = 1, offset
        for size, stride in zip(sizes, strides, strict=True):
            count, last = count * size, last + (size - 1) * stride
        if min(sizes) < 1 or min(strides) < 0 or offset < 0:
            raise ValueError(f"a tensor of shape {sizes}")
        if last >= len(storage) or count > len(storage):
            raise ValueError(f"a tensor of shape {sizes} in a storage of {len(storage)} numbers")
        return storage.as_strided(sizes, strides, offset)

    def _int(self) -> int:
        return int(self._take("i"))

    def _take(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._view, self._at)
        self._at += struct.calcsize(f"<{code}")
        return value

    def _text(self) -> str:
        return self._bytes(self._int()).tobytes().decode("utf-8", "replace")

    def _bytes(self, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        if not 0 <= count <= len(self._data) - self._at:
            raise ValueError(f"{count} bytes are declared at byte {self._at}, beyond its end")
        self._at += count
        return self._data[self._at - count : self._at]


def _tensors(node: Any, place: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """The tensors under `node` by name, in the order in which its modules run."""
    if not isinstance(node, TorchObject) or id(node) in seen:
        return
    seen.add(id(node))
    modules = node.get("modules")
    if isinstance(modules, TorchObject):
        numbers = sorted(key for key in modules if isinstance(key, int))
        if node.kind == "nn.DataParallelTable":
            numbers = numbers[:1]  # the others are copies
        for number in numbers:
            yield from _tensors(modules[number], _join(place, number), seen)
    elif node.kind:
        name = node.get("name")
        name = name if isinstance(name, str) and name else place
        for part in _PARTS:
            if isinstance(node.get(part), Tensor) and node[part].numel():
                yield f"{name}.{part}", _arranged(node, part)
    else:
        for key, value in sorted(node.items(), key=lambda item: (str(type(item[0])), item[0])):
            if isinstance(value, Tensor):
                yield _join(place, key), value
            yield from _tensors(value, _join(place, key), seen)


def _join(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _arranged(module: TorchObject, part: str) -> Tensor:
    """A tensor in PyTorch's layout: some convolutions store their filters as matrices."""
    tensor: Tensor = module[part]
    if part == "running_std":
        # Older files have the inverse root of variance plus epsilon in place of running_var.
        return tensor.to(torch.float64).reciprocal()
    sides = [module.get(key) for key in ("nInputPlane", "kH", "kW")]
    if part == "weight" and tensor.dim() == 2 and all(isinstance(side, float) for side in sides):
        shape = (len(tensor), *(int(side) for side in sides if isinstance(side, float)))
        if min(shape) > 0 and np.prod(shape, dtype=object) == tensor.numel():
            return tensor.reshape(shape)
    return tensor
