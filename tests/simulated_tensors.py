"""The tensors of the simulated device (simulated_device.py), and what is done with them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from simulated_streams import DEVICES, NAME, Early, Stream, counts, current_stream, ticks
from torch import Tensor

lacks: set[torch.dtype] = set()
"""Types of number that the device does not have."""
generators = [torch.Generator().manual_seed(0) for _ in range(DEVICES)]
"""One of every device."""
_random_lock = threading.RLock()
_aten = torch.ops.aten


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
        return run(func, args, kwargs or {})


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


def run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Do an operation on the tensors within, and wrap what comes of it."""
    kind = _kind(func)
    if kind.composite:
        return func.decompose(*args, **kwargs)
    if kind.copies:
        return copied(func, args, kwargs)
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
            tensor.mark[:] = stream, next(ticks)
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
    return Simulated(made, index, [stream, next(ticks)])


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


def copied(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
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
            target = Simulated(target, to.index or 0, [current_stream(to), next(ticks)])
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
        target.mark[:] = current_stream(target.device), next(ticks)
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
    return Simulated(made, source.device.index, [stream, next(ticks)])


def _sent(source: Tensor, target: Simulated, later: bool) -> Simulated:
    """A copy from the processor to the device."""
    counts["to"] += 1
    stream = current_stream(target.device)
    target.raw.copy_(source)
    target.mark[:] = stream, next(ticks)
    if not later:
        counts["to, waited for"] += bool(source.dim())
        stream.finish()
    else:
        stream.sources.append((source, source.clone()))
    return target


def _least(kind: torch.dtype) -> float:
    if kind.is_floating_point:
        return float("nan")
    return 1 if kind == torch.bool else torch.iinfo(kind).min or torch.iinfo(kind).max


@contextmanager
def _generator(index: int) -> Iterator[None]:
    """Let an operation draw from the generator of its device."""
    with _random_lock:
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(generators[index].get_state())
        try:
            yield
        finally:
            generators[index].set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(before)
