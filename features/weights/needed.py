"""The tensors of a network that a forward pass reads up to the deepest chosen layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class _AllReturned(Exception):
    """Every module has run as often as it should."""


def read_up_to(
    model: nn.Module, calls: Mapping[str, int], shape: tuple[int, ...]
) -> frozenset[str]:
    """The names of the parameters and buffers that run before the last of some modules has returned.

    A tensor with several names in the network is given under all of them.

    Args:
        model: The network, on any device; it runs once on zeros.
        calls: The modules whose outputs are read, and how often each runs in a forward pass.
        shape: Channels, height and width of an image.
    """
    if not calls:
        return frozenset()
    by_storage: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        by_storage.setdefault(_storage(tensor), []).append(name)
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    seen = _Seen()
    with _stopping_at(model, dict(calls)), torch.no_grad(), seen:
        model(torch.zeros(1, *shape, device=device))
    return frozenset(
        name for storage, names in by_storage.items() if storage in seen.storages for name in names
    )


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the memory of every tensor that an operation reads."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storages: set[int] = set()
        self._alive: list[Tensor] = []  # so that no address is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tensors_in((args, kwargs)):
            if _storage(tensor) not in self.storages:
                self.storages.add(_storage(tensor))
                self._alive.append(tensor)
        return func(*args, **(kwargs or {}))


@contextmanager
def _stopping_at(model: nn.Module, left: dict[str, int]) -> Iterator[None]:
    """Within the block a forward pass ends when each module has run as often as `left` says."""

    def hook_for(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            left[name] -= 1
            if not any(count > 0 for count in left.values()):
                raise _AllReturned

        return hook

    handles = [model.get_submodule(n).register_forward_hook(hook_for(n)) for n in left]
    try:
        was = model.training
        model.eval()
        with suppress(_AllReturned):
            yield
    finally:
        model.train(was)
        for handle in handles:
            handle.remove()


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor among the arguments or results of an operation."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)
