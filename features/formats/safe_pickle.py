"""Pickles read for their tensors alone: nothing that they name is imported, and nothing is called.

Checkpoints hold more than tensors: the arguments of a training run, paths, NumPy's numbers, complete
modules; and TorchScript's archives are pickles of modules too. Here every class that a pickle names
is replaced by a stand-in that only stores its arguments. A function that a pickle would call is refused
by name, unless it is one of the few that build tensors and arrays, which are rebuilt here.
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
    """A pickle calls a function, or holds a kind of value, that is not allowed."""


class _Kind(type):
    """The class of stand-ins: calling one is what a pickle does to run a function."""

    full_name = ""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        last = cls.full_name.rpartition(".")[2]
        if not last[:1].isupper():  # a function, by Python's way of naming
            raise Refused(f"it calls {cls.full_name}")
        return Thing.make(cls)


class Thing(metaclass=_Kind):
    """A stand-in for an object of a class that is not imported: its state, without any behaviour."""

    items: dict[Any, Any]
    states: list[Mapping[Any, Any]]

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Thing:
        """An empty stand-in; the arguments are not kept."""
        return Thing.make(cls)

    @staticmethod
    def make(kind: Any) -> Thing:
        """An empty stand-in of a class."""
        made: Thing = object.__new__(kind)
        made.items, made.states = {}, []
        return made

    def __setstate__(self, state: Any) -> None:
        """Store the attributes."""
        parts = state if isinstance(state, tuple) else (state,)
        self.states += [part for part in parts if isinstance(part, Mapping)]

    def __setitem__(self, key: Any, value: Any) -> None:
        """Store an item of a mapping."""
        self.items[key] = value

    def append(self, _value: Any) -> None:
        """Ignore the value: lists hold no named tensors."""

    def extend(self, _values: Any) -> None:
        """Ignore the values: lists hold no named tensors."""

    def mappings(self) -> list[Mapping[Any, Any]]:
        """The mappings in its state: of a module its parameters, buffers and modules, else all."""
        own = [state.get(key) for state in self.states for key in _MODULES]
        modules = [part for part in own if isinstance(part, Mapping)]
        return modules or [self.items, *self.states]


@dataclass(frozen=True)
class Pairs:
    """An ordered dictionary as Python 2 pickles it: a list of pairs, which is not copied."""

    pairs: list[Any]


@dataclass(frozen=True)
class Storage:
    """A storage of a file: its key, and the count and type of its numbers."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class Rebuilt:
    """A tensor as a view of a storage, which is read later."""

    storage: Storage
    offset: int
    sides: tuple[int, ...]
    strides: tuple[int, ...]


class Array:
    """A NumPy array: its bytes, which are not copied, and the arguments of its `__setstate__`."""

    def __init__(
        self, content: Any = b"", kind: Any = None, sides: Any = (), order: Any = "C"
    ) -> None:
        """An array, by default without bytes yet."""
        self.content, self.kind, self.sides, self.order = content, kind, sides, order

    def __setstate__(self, state: Any) -> None:
        """Store shape, type, order and bytes."""
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
    """Python's own unpickler, written in Python: a number in a file cannot make it allocate memory."""

    def __init__(self, file: Any) -> None:
        """`file` has `read` and `readline`."""
        super().__init__(file, encoding="latin1")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in, or what rebuilds a tensor or an array."""
        full = f"{module}.{name}"
        if full in _REBUILD:
            return _REBUILD[full]
        if module == "torch" and name.endswith("Storage") and name[:-7] in _STORAGES:
            return _STORAGES[name[:-7]]
        if module.partition(".")[0] in _SYSTEM or module in _BUILTINS:
            raise Refused(f"it calls {full}")
        return _Kind(name.rpartition(".")[2] or "_", (Thing,), {"full_name": full})

    def persistent_load(self, pid: Any) -> Any:
        """The storage that a persistent id of the pickle describes."""
        if pid[0] == "module":  # a class with the text of its module beside it
            return pid[1]
        kind, dtype, key, _place, count, *view = pid
        if kind != "storage" or not isinstance(count, int) or count < 0 or any(view):
            raise Refused(f"it has a storage of the kind {str(kind)[:20]!r}")
        if not isinstance(dtype, torch.dtype):
            raise Refused("it has a storage of numbers of an unknown kind")
        return self.storages.setdefault(str(key), Storage(str(key), dtype, count))


def _load_bytes(unpickler: Any) -> None:
    """Push bytes onto the stack; Python's own function allocates them before it reads."""
    (length,) = struct.unpack("<Q", unpickler.read(8))
    unpickler.append(bytes(unpickler.read(length)))


Unpickler.dispatch = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: _load_bytes}


class Bounded:
    """A file that refuses to read beyond its end, since the unpickler allocates memory before it reads."""

    def __init__(self, file: Any, size: int) -> None:
        """`size` is the file's length in bytes."""
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > self._size - self._file.tell():
            raise EOFError("it ends too early")
        return bytes(self._file.read(count))

    def readline(self) -> bytes:
        """The next line."""
        return bytes(self._file.readline())


def _rebuilt(storage: Any, offset: Any, sides: Any, strides: Any, *_: Any) -> Any:
    if not isinstance(storage, Storage):
        raise Refused("it has a tensor without a storage")
    integers = (int(offset), *map(int, sides), *map(int, strides))
    if len(sides) > 32 or len(sides) != len(strides):
        raise ValueError("a tensor of an impossible shape")
    return Rebuilt(storage, integers[0], integers[1 : 1 + len(sides)], integers[1 + len(sides) :])


def _encoded(text: Any, encoding: Any = "latin1") -> Any:
    """Bytes as protocols without a bytes type write them: text, which is not copied."""
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
    """None, in place of what holds no named tensor: a set, a range, a number."""
    return None


def _default(*_: Any) -> dict[Any, Any]:
    return {}


def _object(kind: Any, *_: Any) -> Any:
    """A new object, as old protocols make it."""
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
        ("types.SimpleNamespace", "functools.partial"), _Kind("Held", (Thing,), {"full_name": "Held"})
    ),
}  # fmt: skip
