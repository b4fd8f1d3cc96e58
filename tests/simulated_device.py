"""An accelerator made of the processor: `--device simulated` where no other is.

It is registered with PyTorch as the backends of other makers are. Its tensors hold a tensor of the
processor, on which every operation is done, so that the numbers are the processor's; all else is as on a
card:

- A tensor of one device refuses to meet one of another, and NumPy refuses it.
- An asynchronous copy to the processor is done when its stream is waited for; until then the numbers that
  are read are NaN, or the least there is.
- The source of an asynchronous copy to the device must not change before its stream is waited for.
- A tensor written in one stream must not be read in another that has not waited for it.
- Random numbers come of a generator of the device; one of the processor is refused.

`counts` says how many copies there were and how often the processor waited. There are two devices, of any
number of streams. Importing this registers it, once and for all; `switched_on` lets PyTorch see it.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "simulated"
DEVICES = 2
ENVIRONMENT = "PROBE_SIMULATED_DEVICE"
"""Tells the processes that a test starts that the device is switched on."""
counts: Counter[str] = Counter()
"""`to`, `back`, `back later`: copies; `wait`: how often the processor waited for the device."""
lacks: set[torch.dtype] = set()
"""Types of number that the device does not have."""
_aten = torch.ops.aten
_ticks = itertools.count(1)
_here = threading.local()
_on = False


class Early(RuntimeError):
    """Something was read or changed before it had been waited for."""


def _index(device: Any) -> int:
    if isinstance(device, int):
        return device
    return 0 if device is None else torch.device(device).index or 0


class Stream:
    """A queue of work; copies back wait in it until it is synchronised."""

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self.index = _index(device)
        self.done = 0
        self.seen: dict[int, int] = {}
        self.later: list[tuple[Tensor, Tensor]] = []
        self.sources: list[tuple[Tensor, Tensor]] = []

    def synchronize(self) -> None:
        """Wait for all that is in the queue."""
        counts["wait"] += 1
        self.finish()

    def finish(self) -> None:
        """Bring to an end what is in the queue."""
        self.done = next(_ticks)
        later, self.later = self.later, []
        for target, held in later:
            target.copy_(held)
        sources, self.sources = self.sources, []
        if not all(_same(source, copy) for source, copy in sources):
            raise Early("the source of an asynchronous copy changed before it was copied")

    def wait_stream(self, other: Stream) -> None:
        """Let what follows here come after all that is in `other`."""
        self.seen[id(other)] = next(_ticks)

    def __enter__(self) -> Self:
        self._before = current_stream(self.index)
        _here.streams[self.index] = self
        return self

    def __exit__(self, *_: object) -> None:
        _here.streams[self.index] = self._before


_defaults = [Stream(index) for index in range(DEVICES)]


def current_stream(device: Any = None) -> Stream:
    """The stream that this thread works in."""
    index = _index(device)
    if not hasattr(_here, "streams"):
        _here.streams = list(_defaults)
    stream: Stream = _here.streams[index]
    return stream


class Simulated(Tensor):
    """A tensor of the device."""

    raw: Tensor
    mark: list[Any]
    """The stream that wrote it last, and when; shared by its views."""
    _is_param: ClassVar[bool]

    @staticmethod
    def __new__(cls, raw: Tensor, index: int, mark: list[Any]) -> Simulated:
        made = Tensor._make_wrapper_subclass(
            cls, raw.shape, strides=raw.stride(), storage_offset=raw.storage_offset(),
            dtype=raw.dtype, layout=raw.layout, device=torch.device(NAME, index),
        )  # fmt: skip
        made.raw, made.mark = raw, mark
        return made

    def __init__(self, raw: Tensor, index: int, mark: list[Any]) -> None:
        pass

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, **_: Any) -> str:
        return f"tensor of {self.device}, {tuple(self.shape)} {self.dtype}"

    def tolist(self) -> Any:
        """As of every tensor."""
        return self.cpu().tolist()

    @property
    def data(self) -> Tensor:
        """As of every tensor."""
        return Tensor.data.__get__(self)

    @data.setter
    def data(self, other: Simulated) -> None:
        Tensor.data.__set__(self, other)
        self.raw, self.mark = other.raw, other.mark

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _run(func, args, kwargs or {})


_WAITS = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::equal",
}  # fmt: skip
_INDEXES = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_COPIES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from"}


@dataclass(frozen=True)
class _Kind:
    """What there is to know of an operation."""

    composite: bool
    """It is made of others; in inference mode it comes here whole."""
    copies: bool
    waits: bool
    indexes: bool
    mutable: bool
    draws: bool


@functools.cache
def _kind(func: Any) -> _Kind:
    name = func._schema.name
    return _Kind(
        torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"),
        name in _COPIES, name in _WAITS, name in _INDEXES, func._schema.is_mutable,
        torch.Tag.nondeterministic_seeded in func.tags,
    )  # fmt: skip


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Do an operation on the tensors within, and wrap what comes of it."""
    kind = _kind(func)
    if kind.composite:
        return func.decompose(*args, **kwargs)
    if kind.copies:
        return _copy(func, args, kwargs)
    mine: list[Simulated] = []
    others: list[Any] = []
    a = [_within(x, mine, others) for x in args]
    k = {name: _within(x, mine, others) for name, x in kwargs.items() if name != "pin_memory"}
    index = _one_device(func, kind, mine, others, args)
    stream = current_stream(index)
    for tensor in mine:
        _check_written(tensor, stream)
    if kind.waits or (kind.indexes and _by_mask(args[1])):
        stream.synchronize()
    if kind.draws:
        with _generator(index):
            out = func(*a, **k)
    else:
        out = func(*a, **k)
    if kind.mutable:
        for tensor in mine:
            tensor.mark[:] = stream, next(_ticks)
            if tensor.shape != tensor.raw.shape:  # an `out` of another size
                Tensor.data.__set__(tensor, Simulated(tensor.raw, index, tensor.mark))
    if isinstance(out, Tensor):
        return _wrapped(out, mine, index, stream)
    if isinstance(out, (tuple, list)):
        each = [_wrapped(x, mine, index, stream) if isinstance(x, Tensor) else x for x in out]
        return type(out)(each) if type(out) in (tuple, list) else tuple(each)
    return out


def _wrapped(made: Tensor, mine: Sequence[Simulated], index: int, stream: Stream) -> Tensor:
    """A tensor that an operation made, or one of its own arguments, or a view of one."""
    if made.dtype in lacks:
        raise TypeError(f"the device {NAME} has no {made.dtype}")
    storage = made.untyped_storage()._cdata
    for tensor in mine:
        if made is tensor.raw:
            return tensor
        if tensor.raw.untyped_storage()._cdata == storage:
            with torch.inference_mode(tensor.is_inference()):  # a view is of the kind of its base
                return Simulated(made, index, tensor.mark)
    return Simulated(made, index, [stream, next(_ticks)])


def _within(x: Any, mine: list[Simulated], others: list[Any]) -> Any:
    """An argument with the tensors of the processor that those of the device hold; notes what it met."""
    if isinstance(x, Simulated):
        mine.append(x)
        return x.raw
    if isinstance(x, (list, tuple)):
        return [_within(each, mine, others) for each in x]
    if isinstance(x, torch.device) and x.type == NAME:
        others.append(x)
        return torch.device("cpu")
    if isinstance(x, (Tensor, torch.Generator)):
        others.append(x)
    return x


def _one_device(
    func: Any,
    kind: _Kind,
    mine: Sequence[Simulated],
    others: Sequence[Any],
    args: Sequence[Any],
) -> int:
    """The number of the device that an operation is for; refused if its tensors are of several."""
    index = next((x.device.index for x in mine), None)
    if any(x.device.index != index for x in mine):
        places = sorted({str(x.device) for x in mine})
        raise RuntimeError(f"{func}: found tensors of {' and '.join(places)}")
    for x in others:
        if isinstance(x, torch.Generator):
            raise RuntimeError(
                f"{func}: expected a generator of {NAME}, but found one of {x.device}"
            )
        if isinstance(x, torch.device):
            index = index if index is not None else x.index or 0
        elif (
            mine
            and x.dim()
            and not (kind.indexes and x is not args[0] and not x.is_floating_point())
        ):
            raise RuntimeError(
                f"{func}: expected all tensors to be on the same device, but found {mine[0].device} and "
                f"{x.device}"
            )
    return index or 0


def _by_mask(indices: Sequence[Any]) -> bool:
    return any(isinstance(x, Tensor) and x.dtype == torch.bool for x in indices)


def _check_written(tensor: Simulated, stream: Stream) -> None:
    """Refuse to read what another stream may still write."""
    writer, when = tensor.mark
    if writer is not stream and max(writer.done, stream.seen.get(id(writer), 0)) < when:
        raise Early("a tensor was read in a stream that had not waited for the one that wrote it")


def _copy(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A copy between devices, or to another type of number."""
    if func is _aten._to_copy.default:
        source = args[0]
        to = torch.device(kwargs.get("device") or source.device)
        kind = kwargs.get("dtype") or source.dtype
        layout = kwargs.get("memory_format") or torch.preserve_format
        later = bool(kwargs.get("non_blocking"))
        if to.type == NAME and to.index in (None, source.device.index):
            return (
                _aten.clone.default(source, memory_format=layout)
                if kind == source.dtype
                else (_converted(source, kind, layout))
            )
        target = torch.empty_like(source.raw, dtype=kind, memory_format=layout)
        if to.type == NAME:
            target = Simulated(target, to.index or 0, [current_stream(to), next(_ticks)])
    elif func is _aten._copy_from.default:
        source, target, later = args[0], args[1], bool((*args, False)[2])
    else:
        target, source = args[0], args[1]
        later = bool(kwargs.get("non_blocking") or (*args, False)[2])
    if not isinstance(source, Simulated):
        return _sent(source, target, later)
    stream = current_stream(source.device)
    _check_written(source, stream)
    if isinstance(target, Simulated):
        target.raw.copy_(source.raw)
        target.mark[:] = current_stream(target.device), next(_ticks)
        if target.device != source.device:
            stream.finish()
            current_stream(target.device).finish()
    elif later:
        counts["back later"] += 1
        stream.later.append((target, source.raw.clone()))
        target.copy_(torch.full_like(target, _least(target.dtype)))
    else:
        counts["back"] += 1
        counts["wait"] += 1
        stream.finish()
        target.copy_(source.raw)
    return target


def _converted(source: Simulated, kind: torch.dtype, layout: torch.memory_format) -> Simulated:
    if kind in lacks:
        raise TypeError(f"the device {NAME} has no {kind}")
    stream = current_stream(source.device)
    _check_written(source, stream)
    made = _aten._to_copy.default(source.raw, dtype=kind, memory_format=layout)
    return Simulated(made, source.device.index, [stream, next(_ticks)])


def _sent(source: Tensor, target: Simulated, later: bool) -> Simulated:
    """A copy from the processor to the device."""
    counts["to"] += 1
    stream = current_stream(target.device)
    target.raw.copy_(source)
    target.mark[:] = stream, next(_ticks)
    if not later:
        stream.finish()
    else:
        stream.sources.append((source, source.clone()))
    return target


def _least(kind: torch.dtype) -> float:
    if kind.is_floating_point:
        return float("nan")
    return 1 if kind == torch.bool else torch.iinfo(kind).min or torch.iinfo(kind).max


def _same(a: Tensor, b: Tensor) -> bool:
    return (
        torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        if a.is_floating_point()
        else torch.equal(a, b)
    )


class _Hooks(torch._C._acc.PrivateUse1Hooks):
    def is_available(self) -> bool:
        return _on

    def has_primary_context(self, _index: int) -> bool:
        return True

    def is_built(self) -> bool:
        return True


class _Guard(torch._C._acc.DeviceGuard):
    def type_(self) -> Any:
        return torch._C._autograd.DeviceType.PrivateUse1


class _Module:
    """`torch.simulated`."""

    Stream = Stream
    current_stream = staticmethod(current_stream)

    @staticmethod
    def stream(stream: Stream) -> Stream:
        return stream

    @staticmethod
    def synchronize(device: Any = None) -> None:
        current_stream(device).synchronize()

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def is_available() -> bool:
        return _on

    @staticmethod
    def device_count() -> int:
        return DEVICES if _on else 0

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def get_device_name(device: Any = None) -> str:
        return f"simulated device {_index(device)}"

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        for generator in _generators:
            generator.manual_seed(seed)

    @staticmethod
    def get_rng_state(device: Any = NAME) -> Tensor:
        return _generators[_index(device)].get_state()

    @staticmethod
    def set_rng_state(state: Tensor, device: Any = NAME) -> None:
        _generators[_index(device)].set_state(state)

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_generators = [torch.Generator().manual_seed(0) for _ in range(DEVICES)]
_random_lock = threading.RLock()


@contextmanager
def _generator(index: int) -> Iterator[None]:
    """Let an operation draw from the generator of its device."""
    with _random_lock:
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(_generators[index].get_state())
        try:
            yield
        finally:
            _generators[index].set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(before)


_library: list[torch.library.Library] = []


def _register() -> None:
    _setup_privateuseone_for_python_backend(NAME, _Module(), _Hooks(), _Guard())
    every = torch.library.Library("_", "IMPL")
    every.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    # torch.tensor copies with __torch_dispatch__ shut off.
    copies = torch.library.Library("aten", "IMPL")
    copies.impl(
        "_copy_from", lambda *args: _copy(_aten._copy_from.default, args, {}), "PrivateUse1"
    )
    others = torch.library.Library("_", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in _HALVED:
        copies.impl(
            name, functools.partial(_halved, getattr(_aten, name).default), "AutocastPrivateUse1"
        )
    _library.extend((every, copies, others))


_HALVED = ("conv2d", "linear", "matmul", "mm", "addmm", "bmm")
"""What is done in the halved type under autocast."""


def _halved(func: Any, *args: Any, **kwargs: Any) -> Any:
    kind = torch.get_autocast_dtype(NAME)
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    cast = [x.to(kind) if isinstance(x, Tensor) and x.is_floating_point() else x for x in args]
    with torch._C._ExcludeDispatchKeyGuard(autocast):
        return func(*cast, **kwargs)


_register()
_plain_pin, _plain_attention = Tensor.pin_memory, torch.nn.functional.scaled_dot_product_attention


def switch(on: bool) -> None:
    """Let PyTorch see the device, or not."""
    global _on
    _on = on
    # One thread per device would be started, and PyTorch believes that a Python backend has one.
    torch.autograd.set_multithreading_enabled(not on)
    Tensor.pin_memory = (lambda self, device=None: self.clone()) if on else _plain_pin
    torch.nn.functional.scaled_dot_product_attention = _attention if on else _plain_attention


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Any = None,
    p: float = 0.0,
    causal: bool = False,
    **more: Any,
) -> Tensor:
    """Attention by its formula: PyTorch asks a backend which fused kernel it has, in C++ alone."""
    if not isinstance(q, Simulated):
        return _plain_attention(q, k, v, mask, p, causal, **more)
    made: Tensor = _aten._scaled_dot_product_attention_math.default(
        q, k, v, mask, p, causal, None, **more
    )[0]
    return made


@contextmanager
def switched_on() -> Iterator[Counter[str]]:
    """PyTorch sees the device; yields `counts`, from nought."""
    counts.clear()
    switch(True)
    os.environ[ENVIRONMENT] = "1"
    try:
        yield counts
    finally:
        switch(False)
        os.environ.pop(ENVIRONMENT)
        lacks.clear()
