"""A forward pass on one image, traced: which modules run, what they return, how deep they are.

The network runs once on zeros, usually on PyTorch's `meta` device where nothing is computed, so
that the layers of a 500 MB network are listed in a second without its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_WEIGHTED = {"convolution", "addmm", "mm", "linear", "_convolution"}


Part = tuple[int | str, ...]
"""The place of a tensor in a module's output: indices and keys, none for the tensor itself."""


@dataclass(frozen=True)
class Fired:
    """One tensor that a module returned when it ran."""

    module: str
    shape: tuple[int, ...]
    """Of the tensor for one image, without the batch axis."""
    weight_layers: int
    """Weight layers on the longest path from the input to its output."""
    calls: int
    """How often it ran in one forward pass; the last output counts."""
    order: int
    """Position of its last call among all calls of the pass."""
    leaf: bool
    weight_module: str | None
    """The module with parameters that ran last before or at this one's end."""
    begun: int = 0
    """How many calls had ended when its last call began."""
    part: Part = ()


@dataclass(frozen=True)
class Trace:
    """The modules that fired, in order of their last call, and the depth of the whole network."""

    fired: dict[str, Fired]
    """By module, the first tensor of its output."""
    weight_layers: int
    parts: dict[str, Fired] = field(default_factory=dict)
    """Every tensor of modules that return several, by its name: `encoder[0]`, `out[features]`."""
    meetings: frozenset[str] = frozenset()
    """Modules in whose own code paths meet: two activations are added, or new ones joined to others."""
    wordless: dict[str, str] = field(default_factory=dict)
    """Modules whose output holds no tensor that has a name, and the type of that output."""

    def at(self, name: str) -> Fired:
        """The tensor of a module, or of a part of its output."""
        return self.parts[name] if name in self.parts else self.fired[name]

    @property
    def tensors(self) -> dict[str, Fired]:
        """Every tensor that can be a layer, by its name, in order."""
        several = {fired.module for fired in self.parts.values()}
        every = {n: f for n, f in self.fired.items() if n not in several} | self.parts
        return dict(sorted(every.items(), key=lambda item: item[1].order))


def first_tensor(output: object) -> Tensor | None:
    """The first tensor of a module's output: itself, or inside a tuple, list or dict."""
    return next((tensor for _, tensor in tensors_in(output)), None)


def tensors_in(output: object, part: Part = ()) -> Iterator[tuple[Part, Tensor]]:
    """The tensors of a module's output, itself or those inside tuples, lists and dicts, by place."""
    if isinstance(output, Tensor):
        yield part, output
    elif isinstance(output, dict):
        for key, value in output.items():
            yield from tensors_in(value, (*part, key))
    elif isinstance(output, list | tuple):
        for place, value in enumerate(output):
            yield from tensors_in(value, (*part, place))


def part_of(output: object, part: Part) -> Tensor | None:
    """The tensor at `part` of a module's output, or None if there is none."""
    return next((tensor for place, tensor in tensors_in(output) if place == part), None)


def part_name(module: str, part: Part) -> str:
    """The name of a part of a module's output: `encoder[0]`, `out[features]`."""
    return module + "".join(f"[{place}]" for place in part)


def trace(model: nn.Module, shape: tuple[int, int, int]) -> Trace:
    """Run `model` once on one zero image of `shape` (channels, height, width) on its own device.

    Depth counts convolutions and fully connected layers on the longest path. A product with a
    per-channel gate keeps the depth of what is gated (squeeze-excite); a shortcut convolution lies
    beside a longer path and so never counts.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    depths = _Depths()
    seen = Trace({}, 0)
    clock = _Clock()
    handles = []
    total = 0
    for name, module in model.named_modules():
        if name and "parametrizations" not in name.split("."):
            # weight_norm and the like are submodules of the module whose weights they make
            leaf = all(child == "parametrizations" for child, _ in module.named_children())
            handles.append(module.register_forward_pre_hook(clock.begin(name, depths)))
            handles.append(module.register_forward_hook(_record(name, leaf, seen, depths, clock)))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), depths:
            image = torch.zeros(1, *shape, device=device)
            depths.mark(image, 0)
            # Of the output, not of the deepest tensor: a gate in the last block may have more layers.
            total = max((depths.of(t) for t in _returned(model(image))), default=0)
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    ordered = dict(sorted(seen.fired.items(), key=lambda item: item[1].order))
    meetings = frozenset(depths.meetings)
    return replace(seen, fired=ordered, weight_layers=total, meetings=meetings)


def _returned(output: object) -> list[Tensor]:
    """The tensors that a network returns, also those in the attributes of an object such as a dataclass."""
    tensors = [tensor for _, tensor in tensors_in(output)]
    return tensors or [tensor for _, tensor in tensors_in(getattr(output, "__dict__", None))]


def shapes_at(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """By module, or part of its output, its tensor's shape for one image of `shape`, without batch axis.

    Where the network fails on such images, the shapes of the modules that ran before.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    shapes: dict[str, tuple[int, ...]] = {}

    def hook_of(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            tensors = list(tensors_in(output))
            shapes.update({part_name(name, part): tuple(t.shape[1:]) for part, t in tensors})
            if tensors:
                shapes[name] = tuple(tensors[0][1].shape[1:])

        return hook

    handles = [m.register_forward_hook(hook_of(n)) for n, m in model.named_modules() if n]
    was_training = model.training
    try:
        with torch.no_grad(), suppress(Exception, SystemExit):
            model.eval()(torch.zeros(1, *shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return shapes


@dataclass
class _Clock:
    calls: int = 0
    weight_module: str | None = None
    begun: dict[str, int] = field(default_factory=dict)

    def begin(self, name: str, depths: _Depths) -> Callable[..., None]:
        """A hook that notes when a module begins to run, and how deep what it reads is."""

        def hook(_module: nn.Module, inputs: object) -> None:
            self.begun[name] = self.calls
            read = max((depths.of(tensor) for _, tensor in tensors_in(inputs)), default=0)
            depths.inside.append((name, read))

        return hook


def _record(
    name: str, leaf: bool, seen: Trace, depths: _Depths, clock: _Clock
) -> Callable[..., None]:
    def hook(module: nn.Module, _inputs: object, output: object) -> None:
        depths.inside.pop()
        tensors = list(tensors_in(output))
        if not tensors:
            seen.wordless[name] = type(output).__name__
            return
        clock.calls += 1
        if leaf and isinstance(module, nn.Conv2d | nn.Linear):
            clock.weight_module = name
        before = seen.fired.get(name)
        fired = [
            Fired(
                module=name,
                shape=tuple(tensor.shape[1:]),
                weight_layers=depths.of(tensor),
                calls=before.calls + 1 if before else 1,
                order=clock.calls,
                leaf=leaf,
                weight_module=clock.weight_module,
                begun=clock.begun[name],
                part=part,
            )
            for part, tensor in tensors
        ]
        seen.fired[name] = fired[0]
        if len(fired) > 1:
            seen.parts.update({part_name(name, tensor.part): tensor for tensor in fired})

    return hook


class _Depths(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Carries the number of weight layers along every tensor that depends on the image."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inside: list[tuple[str, int]] = []
        """The modules that are running, the innermost last, with the depth of what each reads."""
        self.meetings: set[str] = set()
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
            # a product of two activations (attention) has no weights
            if name in _WEIGHTED and len(seen) == 1:
                depth += 1
            if self.inside and self._meet(name, seen):
                self.meetings.add(self.inside[-1][0])
            for tensor in _tensors(out):
                self.mark(tensor, depth)
        return out

    def _meet(self, name: str, seen: list[Tensor]) -> bool:
        if name in ("add", "add_"):
            return len(seen) == 2 and seen[0].shape == seen[1].shape
        # pieces of one map that are joined again are not separate paths
        return name == "cat" and len(seen) > 1 and max(map(self.of, seen)) > self.inside[-1][1]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [t for part in value for t in _tensors(part)]
    return []
