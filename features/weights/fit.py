"""Blobs of a file, fitted to a network: by name, shape, channel order and flatten order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from features.cards.card import Card, Input, WeightsEntry
from features.cards.trace import Trace
from features.errors import InputError
from features.formats.blobs import Blobs
from features.weights.convention import in_channel_order, is_full, map_before


@dataclass(frozen=True)
class Target:
    """The network that weights are for; it may lie on the `meta` device, without memory."""

    card: Card
    model: nn.Module
    traced: Trace
    input: Input


@dataclass
class Fitted:
    """What a network loads, and what came up on the way."""

    state: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """Tensors of the network that the file does not have."""
    mismatched: list[str] = field(default_factory=list)
    """Tensors of another shape, with both shapes."""
    unused: list[str] = field(default_factory=list)
    """Tensors of the file, by its own names, that the network has no use for."""
    notes: list[str] = field(default_factory=list)


def fit(target: Target, blobs: Blobs, entry: WeightsEntry, file: Path) -> Fitted:
    """Give every tensor of the network its blob.

    Blobs may carry the module names of the network or the layer names of its card (`fc6.weight`).

    Raises:
        InputError: The file's channels cannot be put in the order of the card.
    """
    found = Fitted()
    wanted = target.model.state_dict()
    if blobs.format == "caffe":
        from features.caffe import fitted

        blobs = replace(blobs, tensors=fitted(blobs.tensors, wanted))
    names, by_order = _renamed(target, blobs, wanted)
    if by_order:
        found.notes.append(
            f"{file.name}: none of its names is the network's; its layers were taken in their order"
        )
    flatten = entry.flatten or blobs.flatten
    for name, tensor in wanted.items():
        source = names.get(name)
        if source is None:
            if not name.endswith("num_batches_tracked"):
                found.missing.append(name)
            continue
        blob = blobs.tensors[source]
        if source.endswith(".running_std"):
            blob = _variance(blob, target.model.get_submodule(name.rpartition(".")[0]))
        shaped = _shaped(blob, name, tuple(tensor.shape), flatten, target)
        if shaped is None:
            found.mismatched.append(
                f"{name} is {tuple(blob.shape)} in the file and {tuple(tensor.shape)} in the network"
            )
        else:
            found.state[name] = shaped
    used = set(names.values())
    found.unused = [source for source in blobs.tensors if source not in used]
    if not found.missing and not found.mismatched:
        found.state = in_channel_order(
            found.state, entry, target.card, target.model, target.traced, target.input
        )
    return found


def refuse_misfit(found: Fitted, target: Target, file: Path) -> None:
    """Say by name what does not fit.

    Raises:
        InputError: A tensor is missing or has another shape.
    """
    if not found.missing and not found.mismatched:
        return
    card = target.card
    total = len(target.model.state_dict())
    parts = []
    if found.missing:
        parts.append(f"{len(found.missing)} of {total} tensors are missing ({some(found.missing)})")
    if found.mismatched:
        parts.append(f"{len(found.mismatched)} have another shape ({some(found.mismatched)})")
    if found.unused:
        parts.append(f"the file has {len(found.unused)} others ({some(found.unused)})")
    raise InputError(
        f"{file}: not the weights of {card.network} as {card.line('network')} builds it: "
        f"{'; '.join(parts)}; give the file that belongs to this network, or mend the card's "
        "network or options."
    )


def some(names: list[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _renamed(
    target: Target, blobs: Blobs, wanted: Mapping[str, Tensor]
) -> tuple[dict[str, str], bool]:
    """The file's name for each name of the network, and whether only the order told."""
    modules = _modules_of_layers(target)
    names: dict[str, str] = {}
    for source in blobs.tensors:
        layer, _, part = source.rpartition(".")
        part = "running_var" if part == "running_std" else part
        for module in (layer, layer.replace("/", "."), layer.replace("/", "_"), modules.get(layer)):
            name = f"{module}.{part}" if module else part
            if name in wanted:
                names.setdefault(name, source)
                break
    if names or not blobs.by_order:
        return names, False
    return _by_order(target, blobs), True


def _modules_of_layers(target: Target) -> dict[str, str]:
    """The module with weights that feeds each layer's module; a layer read later counts less."""
    layers = target.card.layers or {}
    fired = target.traced.fired
    found = {
        layer: fired[module].weight_module for layer, module in layers.items() if module in fired
    }
    return {layer: module for layer, module in found.items() if module}


def _by_order(target: Target, blobs: Blobs) -> dict[str, str]:
    """Layers of the file and of the network in their order, where both are plain chains."""
    modules = dict(target.model.named_modules())
    weighted = [
        fired
        for fired in target.traced.fired.values()
        if fired.leaf and next(modules[fired.module].parameters(recurse=False), None) is not None
    ]
    chain = [
        f.weight_layers for f in weighted if isinstance(modules[f.module], nn.Conv2d | nn.Linear)
    ]
    layers = list(dict.fromkeys(source.rpartition(".")[0] for source in blobs.tensors))
    if chain != list(range(1, len(chain) + 1)) or len(layers) != len(weighted):
        return {}
    places = {layer: fired.module for layer, fired in zip(layers, weighted, strict=True)}
    names = {}
    for source in blobs.tensors:
        layer, _, part = source.rpartition(".")
        part = "running_var" if part == "running_std" else part
        names[f"{places[layer]}.{part}"] = source
    return names


def _variance(root: Tensor, module: nn.Module) -> Tensor:
    """The running variance whose sum with the module's own epsilon has this root."""
    epsilon = float(getattr(module, "eps", 0.0))
    return (root.to(torch.float64).square() - epsilon).clamp(min=0.0)


def _shaped(
    blob: Tensor, name: str, shape: tuple[int, ...], flatten: str, target: Target
) -> Tensor | None:
    """The blob in the network's shape, or None if it is not the same layer.

    A fully connected layer may be stored as a matrix or as filters, in the file as in the network.
    A matrix that reads a map runs through it as `flatten` says; filters have their axes.
    """
    found = tuple(blob.shape)
    if len(shape) == 1:
        return (
            blob.reshape(shape)
            if prod(found) == shape[0] and max(found, default=1) == shape[0]
            else None
        )
    if len(shape) == 2 and name.endswith(".weight"):
        module = name.removesuffix(".weight")
        is_matrix = is_full(target.model.get_submodule(module))
        chart = map_before(module, target.model, target.traced) if is_matrix else None
        if len(found) == 4 and found[0] == shape[0] and prod(found[1:]) == shape[1]:
            if found[1:] == chart:
                return blob.reshape(shape)
            if found[2:] != (1, 1):
                return None
            blob = blob.reshape(shape)
        if tuple(blob.shape) != shape:
            return None
        return _channels_first(blob, chart) if chart and flatten == "hwc" else blob
    if len(shape) == 4 and len(found) == 2 and found == (shape[0], prod(shape[1:])):
        channels, rows, columns = shape[1:]
        blob = _channels_first(blob, (channels, rows, columns)) if flatten == "hwc" else blob
        return blob.reshape(shape)
    return blob if found == shape else None


def _channels_first(matrix: Tensor, chart: tuple[int, int, int]) -> Tensor:
    """Columns in the order (height, width, channels), put in that of (channels, height, width)."""
    channels, rows, columns = chart
    apart = matrix.reshape(len(matrix), rows, columns, channels)
    return apart.permute(0, 3, 1, 2).reshape(len(matrix), -1)
