"""The cut: the part of a network below a layer, frozen or copied, and the part above, drawn anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from features.backbone import Architecture, Backbone, Layer
from features.cards.card import Card
from features.cards.network import build
from features.cards.trace import Fired, Part, first_tensor, part_of
from features.errors import InputError


@dataclass(frozen=True)
class Prefix:
    """The part of a network that ends in a layer; names are the network's own."""

    layer: Layer | None
    """None: the empty prefix."""
    parameters: frozenset[str]
    """The parameters that the layer's output depends on."""
    modules: frozenset[str]
    """The modules that run no later than the layer: norms keep their statistics, dropout does nothing."""
    closed: bool
    """Whether what lies above reads the layer's output alone, so that kept features can replace it all."""

    def holds(self, name: str) -> bool:
        """Whether the parameter or buffer `name` belongs to the prefix."""
        return name in self.parameters or name.rpartition(".")[0] in self.modules


EMPTY = Prefix(None, frozenset(), frozenset(), closed=False)


def prefix_of(architecture: Architecture, layer: Layer) -> Prefix:
    """The prefix of a backbone that ends in `layer`.

    The gradient tells which parameters the layer depends on, so that parallel branches of a residual
    network are told apart.
    """
    traced, card = architecture.traced, architecture.card
    read = traced.at(layer.module)
    try:
        model = build(card, device="meta")
        depends = _depends(model, read, architecture.input.shape, "meta")
    except Exception:  # some networks compute with their weights: give them real ones
        model = build(card)
        depends = _depends(model, read, architecture.input.shape, "cpu")
    parameters, closed = depends
    own = {name.rpartition(".")[0] for name in dict(model.named_parameters())} - {
        name.rpartition(".")[0] for name in parameters
    }
    modules = frozenset(
        n for n, f in traced.fired.items() if f.order <= read.order and n not in own
    )
    return Prefix(layer, parameters, modules, closed)


def refuse_unread(backbone: Backbone, prefix: Prefix) -> None:
    """Say which tensors below the cut the weights file does not have.

    Raises:
        InputError: There are some.
    """
    lacking = sorted(name for name in backbone.left if prefix.holds(name))
    if lacking and prefix.layer is not None:
        raise InputError(
            f"{backbone.name}: its weights file has no {lacking[0]} that fits, which lies below the "
            f"cut {prefix.layer.name}; cut below it, or give a file that has it."
        )


def renew_above(model: nn.Module, card: Card, prefix: Prefix, seed: int) -> None:
    """Give everything above the prefix the initial weights that `seed` draws for this network."""
    fresh = build(card, seed=seed, random=True).state_dict()
    state = model.state_dict()
    model.load_state_dict({n: t if prefix.holds(n) else fresh[n] for n, t in state.items()})


def freeze(body: nn.Module, prefix: Prefix) -> None:
    """Take the prefix's parameters out of training."""
    for name, parameter in body.named_parameters():
        if name in prefix.parameters:
            parameter.requires_grad_(False)


def train_mode(body: nn.Module, prefix: Prefix) -> None:
    """Training mode for all but the prefix's modules."""
    body.train()
    for name, module in body.named_modules():
        if name in prefix.modules:
            module.training = False  # of itself only: eval() would reach what lies inside


def _depends(
    model: nn.Module, read: Fired, shape: tuple[int, int, int], device: str
) -> tuple[frozenset[str], bool]:
    """The parameters that the layer depends on; whether the output depends on them through it alone."""
    seen: list[Tensor] = []
    left = [read.calls]

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        left[0] -= 1
        tensor = part_of(output, read.part)
        if left[0] or tensor is None:
            return None
        seen.append(tensor.clone())  # before a ReLU works in place
        return _with(output, read.part, tensor.detach().clone())

    handle = model.get_submodule(read.module).register_forward_hook(hook)
    image = torch.zeros(1, *shape, device=device, requires_grad=True)
    try:
        output = first_tensor(model.eval()(image * 1))
    finally:
        handle.remove()
    assert output is not None
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}

    def reached(tensor: Tensor, wanted: Mapping[str, Tensor]) -> frozenset[str]:
        if not tensor.requires_grad or not wanted:
            return frozenset()
        gradients = torch.autograd.grad(
            tensor.sum(), list(wanted.values()), retain_graph=True, allow_unused=True
        )
        return frozenset(name for name, g in zip(wanted, gradients, strict=True) if g is not None)

    below = reached(seen[0], named)
    past = reached(output, {"": image, **{n: named[n] for n in below}})
    return below, not past


def _with(output: Any, part: Part, tensor: Tensor) -> Any:
    """The output with another tensor at `part`."""
    if not part:
        return tensor
    first, rest = part[0], part[1:]
    if isinstance(output, dict):
        return {**output, first: _with(output[first], rest, tensor)}
    parts = [_with(v, rest, tensor) if i == first else v for i, v in enumerate(output)]
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)


def into(body: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load trained tensors into a backbone's network, but no classifier of another size."""
    state = body.state_dict()
    fitting = {n: t for n, t in tensors.items() if n in state and state[n].shape == t.shape}
    with torch.no_grad():
        body.load_state_dict(fitting, strict=False)
