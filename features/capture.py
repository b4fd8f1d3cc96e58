"""The outputs of named modules during a forward pass that ends at the deepest of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from features.backbone import Layer
from features.trace import Trace, first_tensor

Run = Callable[[Tensor], dict[str, Tensor]]


class _Done(Exception):
    pass


@contextmanager
def capture(
    model: nn.Module,
    layers: Sequence[Layer],
    traced: Trace,
    reduce: Callable[[str, Tensor], Tensor] | None = None,
) -> Iterator[Run]:
    """Yield a function that runs a batch through `model` as far as the deepest of `layers`.

    It takes `(n, 3, h, w)` and returns, by layer name, `(n, channels, h', w')` or `(n, dim)`. Each
    output is copied (or reduced by `reduce(layer_name, output)`) inside the hook, before an in-place
    ReLU that follows can overwrite it. A module that runs several times counts with its last output.

    The model is left as it was found when the block closes.
    """
    last = {layer.module: traced.fired[layer.module].calls for layer in layers}
    left: dict[str, int] = {}
    seen: dict[str, Tensor] = {}
    by_module: dict[str, list[str]] = {}
    for layer in layers:
        by_module.setdefault(layer.module, []).append(layer.name)

    def hook_for(module_name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            left[module_name] -= 1
            if left[module_name]:
                return
            tensor = first_tensor(output)
            assert tensor is not None
            for name in by_module[module_name]:
                seen[name] = reduce(name, tensor) if reduce else tensor.clone()
            if not any(left.values()):
                raise _Done

        return hook

    modules = dict(model.named_modules())
    handles = [modules[m].register_forward_hook(hook_for(m)) for m in by_module]

    def run(batch: Tensor) -> dict[str, Tensor]:
        left.update(last)
        seen.clear()
        with torch.inference_mode(), suppress(_Done):
            model(batch)
        return {layer.name: seen[layer.name] for layer in layers}

    try:
        yield run
    finally:
        for handle in handles:
            handle.remove()
