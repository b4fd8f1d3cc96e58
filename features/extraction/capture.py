"""The outputs of named modules during a forward pass that ends at the deepest of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from features.backbone import Layer
from features.cards.trace import Trace, first_tensor
from features.errors import InputError

T = TypeVar("T")


class _Done(Exception):
    pass


def _copy(_layer: str, output: Tensor) -> Any:
    return output.clone()


@contextmanager
def capture(
    model: nn.Module,
    layers: Sequence[Layer],
    traced: Trace,
    reduce: Callable[[str, Tensor], T] = _copy,
) -> Iterator[Callable[[Tensor], dict[str, T]]]:
    """Yield a function that runs a batch through `model` as far as the deepest of `layers`.

    It takes `(n, 3, h, w)` and returns, by layer name, what `reduce(layer_name, output)` makes of the
    layer's output, by default a copy, `(n, channels, h', w')` or `(n, dim)`. That happens inside the
    hook, before an in-place ReLU that follows can overwrite the output. A module that runs several
    times counts with its last output.

    Several threads may run it at once. The model is left as it was found when the block closes.

    Raises:
        InputError: On a batch, a module does not run as often as `traced` says.
    """
    last = {layer.module: traced.fired[layer.module].calls for layer in layers}
    by_module: dict[str, list[str]] = {}
    for layer in layers:
        by_module.setdefault(layer.module, []).append(layer.name)
    mine = threading.local()

    def hook_for(module_name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            mine.left[module_name] -= 1
            if mine.left[module_name]:
                return
            tensor = first_tensor(output)
            assert tensor is not None
            for name in by_module[module_name]:
                mine.seen[name] = reduce(name, tensor)
            if not any(mine.left.values()):
                raise _Done

        return hook

    modules = dict(model.named_modules())
    handles = [modules[m].register_forward_hook(hook_for(m)) for m in by_module]

    def run(batch: Tensor) -> dict[str, T]:
        mine.left, mine.seen = dict(last), {}
        with torch.inference_mode(), suppress(_Done):
            model(batch)
        for layer in layers:
            if layer.name not in mine.seen:
                raise InputError(
                    f"layer {layer.name}: its module {layer.module} ran when the network was tried "
                    "on zeros and not on these images; leave this layer out."
                )
        return {layer.name: mine.seen[layer.name] for layer in layers}

    try:
        yield run
    finally:
        for handle in handles:
            handle.remove()
