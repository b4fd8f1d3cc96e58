"""Pickles read for their tensors alone: nothing that they name is imported, and nothing is called.

Checkpoints hold more than tensors: the arguments of a training run, paths, NumPy's numbers, whole
modules, and TorchScript's archives are pickles of modules too. Here every class that a pickle names
is a stand-in that only keeps what it is given. What a pickle would call is refused by name, unless it
is one of the few that build tensors and arrays, which are rebuilt here from their numbers.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch

_STORAGES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16,
    "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
    "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
}  # fmt: skip
_SYSTEM = {
    "os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "importlib", "runpy", "pty", "ctypes",
    "webbrowser", "code", "commands", "multiprocessing", "threading", "pickle", "marshal", "types",
    "operator", "pydoc", "timeit", "pdb", "bdb", "asyncio", "http", "urllib",
}  # fmt: skip
_BUILTINS = ("builtins", "__builtin__")
_MODULES = ("_parameters", "_buffers", "_modules")


class Refused(ValueError):
    """What a pickle asks for that nothing here does."""


class _Kind(type):
    """The class of stand-ins: calling one is what a pickle does to run a function."""

    said = ""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        last = cls.said.rpartition(".")[2]
        if not last[:1].isupper():  # a function, by Python's way of naming
            raise Refused(f"it calls {cls.said}")
        return Thing.make(cls)


class Thing(metaclass=_Kind):
    """An object of a class that is not imported: what it was given, and nothing that it could do."""

    items: dict[Any, Any]
    states: list[Mapping[Any, Any]]

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Thing:
        """What it is given here is no state."""
        return Thing.make(cls)

    @staticmethod
    def make(kind: Any) -> Thing:
        """An empty one of a class."""
        made: Thing = object.__new__(kind)
        made.items, made.states = {}, []
        return made

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes."""
        parts = state if isinstance(state, tuple) else (state,)
        self.states += [part for part in parts if isinstance(part, Mapping)]

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep what a mapping is given."""
        self.items[key] = value

    def append(self, _value: Any) -> None:
        """Lists hold no named tensors."""

    def extend(self, _values: Any) -> None:
        """Lists hold no named tensors."""

    def held(self) -> list[Mapping[Any, Any]]:
        """The mappings that it holds: of a module its parameters, buffers and modules, else all."""
        own = [state.get(key) for state in self.states for key in _MODULES]
        modules = [part for part in own if isinstance(part, Mapping)]
        return modules or [self.items, *self.states]


@dataclass(frozen=True)
class Pairs:
    """An ordered dictionary as Python 2 writes it: a list of pairs, which is not copied."""

    pairs: list[Any]


@dataclass(frozen=True)
class Numbers:
    """A storage: which one, and how many numbers of what kind."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class Rebuilt:
    """A tensor: a view of a storage, made when the storage has been read."""

    numbers: Numbers
    offset: int
    sides: tuple[int, ...]
    strides: tuple[int, ...]


class Array:
    """One of NumPy's arrays: its bytes, which are not copied, and what its `__setstate__` is given."""

    def __init__(
        self, content: Any = b"", kind: Any = None, sides: Any = (), order: Any = "C"
    ) -> None:
        """By default an array of nothing yet."""
        self.content, self.kind, self.sides, self.order = content, kind, sides, order

    def __setstate__(self, state: Any) -> None:
        """Take version, shape, kind of numbers, their order and their bytes."""
        _version, self.sides, self.kind, fortran, self.content = state
        self.order = "F" if fortran else "C"

    def of(self, content: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[Any]]:
        """The array over its bytes."""
        if (
            not isinstance(self.kind, _Dtype)
            or len(self.sides) > 32
            or self.order not in ("C", "F")
        ):
            raise Refused("it has an array of objects")
        kind = self.kind.numpy()
        if prod(self.sides) * kind.itemsize != len(content) or min(self.sides, default=0) < 0:
            raise ValueError(f"an array of {tuple(self.sides)} in {len(content)} bytes")
        return content.view(kind).reshape(self.sides, order=self.order)


@dataclass
class _Dtype:
    code: str
    order: str = "="
    rest: list[Any] = field(default_factory=list)

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def numpy(self) -> np.dtype[Any]:
        if self.code[:1] not in "fiub" or not self.code[1:].isdigit():
            raise Refused(f"it has an array of {self.code[:20]!r}")
        if self.order == ">":
            raise Refused("its numbers are big-endian")
        return np.dtype(self.code)


class Unpickler(pickle._Unpickler):
    """Python's own reader in Python: a number in a file cannot make it take memory."""

    def __init__(self, file: Any) -> None:
        """`file` has `read` and `readline`."""
        super().__init__(file, encoding="latin1")
        self.storages: dict[str, Numbers] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in, or what rebuilds a tensor or an array."""
        full = f"{module}.{name}"
        if full in _REBUILD:
            return _REBUILD[full]
        if module == "torch" and name.endswith("Storage") and name[:-7] in _STORAGES:
            return _STORAGES[name[:-7]]
        if module.partition(".")[0] in _SYSTEM or module in _BUILTINS:
            raise Refused(f"it calls {full}")
        return _Kind(name.rpartition(".")[2] or "_", (Thing,), {"said": full})

    def persistent_load(self, pid: Any) -> Any:
        """A storage, from the note of it in the pickle."""
        if pid[0] == "module":  # a class with the text of its module beside it
            return pid[1]
        kind, dtype, key, _place, count, *view = pid
        if kind != "storage" or not isinstance(count, int) or count < 0 or any(view):
            raise Refused(f"it has a storage of the kind {str(kind)[:20]!r}")
        if not isinstance(dtype, torch.dtype):
            raise Refused("it has a storage of numbers of an unknown kind")
        return self.storages.setdefault(str(key), Numbers(str(key), dtype, count))


def _load_bytes(unpickler: Any) -> None:
    """Python's own takes the memory before it reads."""
    (length,) = struct.unpack("<Q", unpickler.read(8))
    unpickler.append(bytes(unpickler.read(length)))


Unpickler.dispatch = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: _load_bytes}


class Bounded:
    """A file that is asked for no more than it has: the reader takes memory before it reads."""

    def __init__(self, file: Any, size: int) -> None:
        """`size` is that of the whole file."""
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        """The next bytes, all of them."""
        if count > self._size - self._file.tell():
            raise EOFError("it ends too early")
        return bytes(self._file.read(count))

    def readline(self) -> bytes:
        """The next line."""
        return bytes(self._file.readline())


def _rebuilt(numbers: Any, offset: Any, sides: Any, strides: Any, *_: Any) -> Any:
    if not isinstance(numbers, Numbers):
        raise Refused("it has a tensor without a storage")
    whole = (int(offset), *map(int, sides), *map(int, strides))
    if len(sides) > 32 or len(sides) != len(strides):
        raise ValueError("a tensor of an impossible shape")
    return Rebuilt(numbers, whole[0], whole[1 : 1 + len(sides)], whole[1 + len(sides) :])


def _encoded(text: Any, encoding: Any = "latin1") -> Any:
    """Bytes as protocols without them write them: text, which is not copied."""
    if str(encoding) not in ("latin1", "latin-1") or not isinstance(text, str):
        raise Refused(f"it has text as {str(encoding)[:20]!r}")
    return text


def _ordered(*given: Any) -> Any:
    if not given:
        return OrderedDict()
    if not isinstance(given[0], list):
        raise Refused("it copies a dictionary")
    return Pairs(given[0])


def _first(value: Any, *_: Any) -> Any:
    return value


def _empty(*_: Any) -> Any:
    """What holds no named tensor: a set, a range, a number."""
    return None


def _default(*_: Any) -> dict[Any, Any]:
    return {}


def _object(kind: Any, *_: Any) -> Any:
    """How protocols of old make an object."""
    return Thing.make(kind) if isinstance(kind, _Kind) else None


def _names(modules: Iterable[str], *names: str) -> list[str]:
    return [f"{module}.{name}" for module in modules for name in names]


_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_REBUILD: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": _default,
    "torch._utils._rebuild_tensor": _rebuilt,
    "torch._utils._rebuild_tensor_v2": _rebuilt,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    **dict.fromkeys(
        _names(
            ("torch.jit._pickle",),
            "restore_type_tag", "build_intlist", "build_doublelist", "build_boollist", "build_tensorlist",
        ),
        _first,
    ),
    "torch.Size": _empty,
    "torch.device": _empty,
    "torch.dtype": _empty,
    "numpy.dtype": lambda code, *_: _Dtype(str(code)),
    "numpy.ndarray": _empty,
    "_codecs.encode": _encoded,
    **dict.fromkeys(_names(_NUMPY, "_reconstruct"), lambda *_: Array()),
    **dict.fromkeys(_names(_NUMPY, "scalar"), _empty),
    **dict.fromkeys(
        _names(("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer"), Array
    ),
    **dict.fromkeys(_names(("copyreg", "copy_reg"), "_reconstructor"), _object),
    **dict.fromkeys(
        _names(
            _BUILTINS,
            "set", "frozenset", "complex", "slice", "range", "xrange", "object", "int", "float", "bool",
            "str", "list", "tuple", "unicode", "long", "type",
        ),
        _empty,
    ),
    "__builtin__.dict": _default,
    "builtins.dict": _default,
    **dict.fromkeys(
        ("types.SimpleNamespace", "functools.partial"), _Kind("Held", (Thing,), {"said": "Held"})
    ),
}  # fmt: skip
