"""Capturing the outputs of layers in a forward pass that ends at the deepest of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from features.backbone import Layer
from features.cards.trace import Fired, Trace, part_of
from features.errors import InputError

T = TypeVar("T")


class _AllCaptured(Exception):
    """Every layer has been read, so that the rest of the pass is not needed."""


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

    It takes `(n, channels, h, w)` and returns, by layer name, `reduce(layer_name, output)`, by default a
    copy of the output, `(n, channels, h', w')` or `(n, dim)`. That happens inside the
    hook, before an in-place ReLU that follows can overwrite the output. Of a module that runs several
    times the last output is read.

    Several threads may run it at once. The hooks are removed from the model at the end of the block.

    Raises:
        InputError: On a batch, a module does not run as often as `traced` says, or what it returns
            has not one row for each image.
    """
    by_module: dict[str, list[tuple[Layer, Fired]]] = {}
    for layer in layers:
        fired = traced.at(layer.module)
        by_module.setdefault(fired.module, []).append((layer, fired))
    last = {module: read[0][1].calls for module, read in by_module.items()}
    mine = threading.local()

    def hook_for(module_name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            mine.left[module_name] -= 1
            if mine.left[module_name]:
                return
            for layer, fired in by_module[module_name]:
                tensor = part_of(output, fired.part)
                _check(layer, tensor, mine.images)
                assert tensor is not None
                mine.seen[layer.name] = reduce(layer.name, tensor)
            if not any(mine.left.values()):
                raise _AllCaptured

        return hook

    modules = dict(model.named_modules())
    handles = [modules[m].register_forward_hook(hook_for(m)) for m in by_module]

    def run(batch: Tensor) -> dict[str, T]:
        mine.left, mine.seen, mine.images = dict(last), {}, len(batch)
        try:
            with torch.inference_mode(), suppress(_AllCaptured):
                model(batch)
        except SystemExit as error:  # of a network's own code
            raise InputError(
                f"the network ended the program on {len(batch)} images (SystemExit: {error}); correct its "
                "code."
            ) from error
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


def _check(layer: Layer, tensor: Tensor | None, images: int) -> None:
    """Check the law of rows, as far as the shape shows it."""
    if tensor is None or tensor.shape[:1] != (images,):
        rows = "no tensor" if tensor is None or not len(tensor.shape) else f"{len(tensor)} rows"
        raise InputError(
            f"layer {layer.name}: its module {layer.module} gave {rows} for {images} images, not "
            "a row for each image; leave this layer out."
        )
