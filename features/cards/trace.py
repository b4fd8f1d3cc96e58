"""What a network does with one image: which modules fire, what they return, how deep they are.

The network runs once on zeros, usually on PyTorch's `meta` device where nothing is computed, so
that the layers of a 500 MB network are listed in a second without its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_WEIGHTED = {"convolution", "addmm", "mm", "linear", "_convolution"}


@dataclass(frozen=True)
class Fired:
    """One module that ran."""

    module: str
    shape: tuple[int, ...]
    """Of its output for one image, without the batch axis."""
    weight_layers: int
    """Weight layers on the longest path from the input to its output."""
    calls: int
    """How often it ran in one forward pass; the last output counts."""
    order: int
    """Position of its last call among all calls of the pass."""
    leaf: bool
    weight_module: str | None
    """The module with parameters that ran last before or at this one's end."""


@dataclass(frozen=True)
class Trace:
    """The modules that fired, in order of their last call, and the depth of the whole network."""

    fired: dict[str, Fired]
    weight_layers: int


def first_tensor(output: object) -> Tensor | None:
    """The tensor of a module's output: itself, or the first one inside a tuple, list or dict."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, list | tuple):
        for part in output:
            found = first_tensor(part)
            if found is not None:
                return found
    return None


def trace(model: nn.Module, size: tuple[int, int]) -> Trace:
    """Run `model` once on one zero image of `size` (height, width) on its own device.

    Depth counts convolutions and fully connected layers on the longest path. A product with a
    per-channel gate keeps the depth of what is gated (squeeze-excite); a shortcut convolution lies
    beside a longer path and so never counts.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    depths = _Depths()
    fired: dict[str, Fired] = {}
    clock = _Clock()
    handles = []
    output: Tensor | None = None
    for name, module in model.named_modules():
        if name:
            leaf = next(module.children(), None) is None
            handles.append(module.register_forward_hook(_record(name, leaf, fired, depths, clock)))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), depths:
            image = torch.zeros(1, 3, *size, device=device)
            depths.mark(image, 0)
            output = first_tensor(model(image))
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    ordered = dict(sorted(fired.items(), key=lambda item: item[1].order))
    # Of the output, not of the deepest tensor: a gate in the last block may have more layers than it.
    return Trace(ordered, 0 if output is None else depths.of(output))


@dataclass
class _Clock:
    calls: int = 0
    weight_module: str | None = None


def _record(
    name: str, leaf: bool, fired: dict[str, Fired], depths: _Depths, clock: _Clock
) -> Callable[..., None]:
    def hook(module: nn.Module, _inputs: object, output: object) -> None:
        tensor = first_tensor(output)
        if tensor is None:
            return
        clock.calls += 1
        if leaf and isinstance(module, nn.Conv2d | nn.Linear):
            clock.weight_module = name
        before = fired.get(name)
        fired[name] = Fired(
            module=name,
            shape=tuple(tensor.shape[1:]),
            weight_layers=depths.of(tensor),
            calls=before.calls + 1 if before else 1,
            order=clock.calls,
            leaf=leaf,
            weight_module=clock.weight_module,
        )

    return hook


class _Depths(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Carries the number of weight layers along every tensor that depends on the image."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._depth: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no id is used twice

    def mark(self, tensor: Tensor, depth: int) -> None:
        self._depth[id(tensor)] = depth
        self._alive.append(tensor)

    def of(self, tensor: Tensor) -> int:
        return self._depth.get(id(tensor), 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        seen = [t for t in _tensors(args) if id(t) in self._depth]
        if seen:
            name = func.overloadpacket.__name__
            if name in ("mul", "mul_") and len(seen) == 2:
                # A gate has one value per channel; what it gates has a whole map.
                size = max(t.numel() for t in seen)
                depth = max(self.of(t) for t in seen if t.numel() == size)
            else:
                depth = max(map(self.of, seen))
            # a product of two activations (attention) has no weights of its own
            if name in _WEIGHTED and len(seen) == 1:
                depth += 1
            for tensor in _tensors(out):
                self.mark(tensor, depth)
        return out


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [t for part in value for t in _tensors(part)]
    return []
