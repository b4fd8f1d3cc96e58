"""The layers of a file assigned to those of a network by their order, where their names are automatic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from features.cards.trace import Trace
from features.errors import InputError
from features.formats.blobs import Blobs
from features.formats.numbered_names import numbers_in


def by_order(model: nn.Module, traced: Trace, blobs: Blobs, file: Path) -> dict[str, str]:
    """The file's name for each of the network's; empty where either is no plain chain of layers.

    Where the file records the order of its layers, that order counts. Where only their names do, layers
    of a kind follow their numbers (`conv2d_2` before `conv2d_10`).

    Raises:
        InputError: The order could be taken from the names alone, and they leave it open.
    """
    modules = dict(model.named_modules())
    weighted = [
        fired
        for fired in traced.fired.values()
        if fired.leaf and next(modules[fired.module].parameters(recurse=False), None) is not None
    ]
    chain = [
        f.weight_layers for f in weighted if isinstance(modules[f.module], nn.Conv2d | nn.Linear)
    ]
    layers: dict[str, dict[str, Tensor]] = {}
    for source, tensor in blobs.tensors.items():
        layer, _, part = source.rpartition(".")
        layers.setdefault(layer, {})[_plain(part)] = tensor
    if chain != list(range(1, len(chain) + 1)) or len(layers) != len(weighted):
        return {}
    names = [fired.module for fired in weighted]
    if blobs.ordered:
        places = dict(zip(layers, names, strict=True))
    else:
        places = _by_numbers(layers, {n: modules[n].state_dict() for n in names}, file)
    if not places:
        return {}
    return {
        f"{places[source.rpartition('.')[0]]}.{_plain(source.rpartition('.')[2])}": source
        for source in blobs.tensors
    }


def _by_numbers(
    layers: Mapping[str, Mapping[str, Tensor]],
    modules: Mapping[str, Mapping[str, Tensor]],
    file: Path,
) -> dict[str, str]:
    """By the file's layer, the network's module: the n-th of a kind is the n-th of that kind."""
    theirs, own = _kinds(layers), _kinds(modules)
    if {kind: len(some) for kind, some in theirs.items()} != {k: len(v) for k, v in own.items()}:
        return {}
    places: dict[str, str] = {}
    for kind, some in theirs.items():
        patterns = {numbers_in(layer)[0]: layer for layer in some}
        if len(patterns) > 1:
            first, second, *_ = patterns.values()
            raise InputError(
                f"{file}: its layers have no order but that of their names, which does not say whether "
                f"{first} or {second} comes first; name the module of each layer by rename = "
                '{ "' + first + '" = "MODULE" } under [[weights]] in a card.'
            )
        places |= zip(sorted(some, key=lambda layer: numbers_in(layer)[1]), own[kind], strict=True)
    return places


def _kinds(layers: Mapping[str, Mapping[str, Tensor]]) -> dict[str, list[str]]:
    """Layers by their kind, which the shapes of their tensors show."""
    kinds: dict[str, list[str]] = {}
    for layer, tensors in layers.items():
        kinds.setdefault(_kind(tensors), []).append(layer)
    return kinds


def _kind(tensors: Mapping[str, Tensor]) -> str:
    weight = tensors.get("weight")
    if "running_mean" in tensors:
        return "norm"
    if weight is None:
        return "other"
    depthwise = weight.dim() == 4 and weight.shape[1] == 1
    return f"{weight.dim()} axes" + (", depthwise" if depthwise else "")


def _plain(part: str) -> str:
    return "running_var" if part == "running_std" else part
