"""Blobs of a file, fitted to a network: by name, shape, channel order and flatten order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from features.cards.card import Card, Input, WeightsEntry
from features.cards.network import build
from features.cards.trace import Trace
from features.errors import InputError
from features.formats.blobs import Blobs
from features.weights import parts as files_parts
from features.weights.convention import in_channel_order, is_full, map_before
from features.weights.needed import read_up_to
from features.weights.parts import Part


@dataclass(frozen=True)
class Target:
    """The network that weights are for; it may lie on the `meta` device, without memory."""

    card: Card
    model: nn.Module
    traced: Trace
    input: Input
    layers: Mapping[str, str] | None = None
    """The layers that will be read and their modules, in depth order; None: the whole network."""
    spare: str | None = None
    """A module that will be made anew, whose tensors are not needed."""


@dataclass
class Fitted:
    """What a network loads, and what came up on the way."""

    state: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """Tensors of the network that are needed and that the file does not have."""
    mismatched: list[str] = field(default_factory=list)
    """Needed tensors of another shape, with both shapes."""
    left: dict[str, str] = field(default_factory=dict)
    """Tensors of the network that are not needed and not in the file as it needs them, and why."""
    unused: list[str] = field(default_factory=list)
    """Tensors of the file, by its own names, that the network has no use for."""
    notes: list[str] = field(default_factory=list)


def fit(target: Target, blobs: Blobs, entry: WeightsEntry, file: Path) -> Fitted:
    """Give every tensor of the network its blob.

    Blobs may carry the module names of the network or the layer names of its card (`fc6.weight`),
    after one prefix of any kind (`module.`, `state_dict.model.backbone.`).

    Raises:
        InputError: The file's channels cannot be put in the order of the card, or several networks in
            it fit.
    """
    found = Fitted()
    wanted = target.model.state_dict()
    if blobs.format == "caffe":
        from features.caffe import fitted

        blobs = replace(blobs, tensors=fitted(blobs.tensors, wanted))
    flatten = entry.flatten or blobs.flatten

    def shaped(name: str, blob: Tensor) -> Tensor | None:
        return _shaped(blob, name, tuple(wanted[name].shape), flatten, target)

    part = _part(target, blobs, entry, file, shaped, found.notes)
    used = set(part.names.values())
    for name, tensor in wanted.items():
        source = part.names.get(name)
        if source is None:
            if not name.endswith("num_batches_tracked"):
                found.missing.append(name)
            continue
        blob = blobs.tensors[source]
        if source.endswith(".running_std"):
            blob = _variance(blob, target.model.get_submodule(name.rpartition(".")[0]))
        fitting = shaped(name, blob)
        if fitting is None:
            found.left[name] = (
                f"{name} is {tuple(blob.shape)} in the file and {tuple(tensor.shape)} in the network"
            )
        else:
            found.state[name] = fitting
    group = files_parts.group_of(part.prefix, blobs.groups)
    found.unused = [
        source.removeprefix(group)
        for source in blobs.tensors
        if source not in used and files_parts.group_of(source, blobs.groups) == group
    ]
    weigh(found, target, file)
    if not found.missing and not found.mismatched:
        found.state = in_channel_order(
            found.state, entry, target.card, target.model, target.traced, target.input
        )
    return found


def weigh(found: Fitted, target: Target, file: Path) -> None:
    """Tell what does not fit and is needed from what is not needed, and note the latter in one line."""
    lacking = {**dict.fromkeys(found.missing, ""), **found.left}
    if not lacking:
        return
    needed = needed_of(target)
    found.missing = [name for name in found.missing if name in needed]
    found.mismatched = [said for name, said in found.left.items() if name in needed]
    found.left = {name: said for name, said in lacking.items() if name not in needed}
    if not found.left:
        return
    layers = target.layers or {}
    why = f"above {list(layers)[-1]}" if layers else f"of {target.spare}, which is made anew,"
    found.notes.append(
        f"{file.name}: {len(found.left)} tensors {why} are not needed and not taken "
        f"({some([said or f'{name} is not in the file' for name, said in found.left.items()])})"
    )


def needed_of(target: Target) -> frozenset[str]:
    """The tensors of the network without which the layers that are asked for cannot be computed."""
    names = [n for n in target.model.state_dict() if not n.endswith("num_batches_tracked")]
    if target.layers is None:
        spare = f"{target.spare}."
        return frozenset(name for name in names if not name.startswith(spare))
    fired, modules = target.traced.fired, tuple(target.layers.values())

    def up_to(model: nn.Module) -> frozenset[str]:
        return read_up_to(model, modules, lambda name: fired[name].calls, target.input.size)

    try:
        read = up_to(build(target.card, device="meta"))
    except Exception:  # some networks compute with their weights: give them real ones
        read = up_to(build(target.card))
    return read.intersection(names)


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


def _part(
    target: Target,
    blobs: Blobs,
    entry: WeightsEntry,
    file: Path,
    shaped: Callable[[str, Tensor], Tensor | None],
    notes: list[str],
) -> Part:
    """The network in the file that is meant; what had to be decided is noted.

    Raises:
        InputError: Several fit, or none is where `key` says.
    """
    wanted = target.model.state_dict()
    spelled = _speller(target, wanted)

    def fits(part: Part, name: str) -> bool:
        source = part.names.get(name)
        if source is None:
            return False
        return shaped(name, torch.empty_like(blobs.tensors[source], device="meta")) is not None

    needed: frozenset[str] | None = None
    parts: list[Part] = []
    own = {name: name for name in blobs.tensors}
    for sources in (own, files_parts.without_wrappers(list(blobs.tensors), wanted)):
        every = files_parts.parts_of(sources, spelled)
        every = [Part(p.prefix, {n: sources[s] for n, s in p.names.items()}) for p in every]
        begins = _first_weights(target)
        parts = [part for part in every if all(fits(part, name) for name in begins)]
        if entry.key is not None:
            parts = files_parts.chosen(parts, entry.key, file)
        if len(parts) > 1 or not parts or not all(fits(parts[0], name) for name in wanted):
            needed = needed_of(target) if needed is None else needed
            parts = [part for part in parts if all(fits(part, name) for name in needed)]
        if parts:
            if sources is not own:
                notes.append(f"{file.name}: what compiling put inside its names is taken off")
            break
    if not parts:
        named = any(not part.prefix for part in every)
        if not named and blobs.by_order and (names := _by_order(target, blobs)):
            notes.append(
                f"{file.name}: none of its names is the network's; its layers were taken in their order"
            )
            return Part("", names)
        return every[0] if every else Part("", {})
    if len(parts) > 1:
        if not files_parts.are_equal(parts, blobs.tensors, needed or wanted):
            files_parts.refuse_several(parts, file)
        notes.append(f"{file.name}: holds the same tensors at {files_parts.listed(parts)}")
    if parts[0].prefix:
        notes.append(f"{file.name}: its tensors are those at {parts[0].shown}")
    return parts[0]


def _first_weights(target: Target) -> list[str]:
    """The tensors of the first layer that has any: a part without them is no network."""
    wanted = target.model.state_dict()
    for name, fired in target.traced.fired.items():
        if fired.leaf and f"{name}.weight" in wanted:
            return [f"{name}.weight"]
    return []


def _speller(target: Target, wanted: Mapping[str, Tensor]) -> Callable[[str], str | None]:
    """A function from a name as files have it to the network's own."""
    modules = _modules_of_layers(target)

    def spelled(source: str) -> str | None:
        layer, _, part = source.rpartition(".")
        part = "running_var" if part == "running_std" else part
        for module in (layer, layer.replace("/", "."), layer.replace("/", "_"), modules.get(layer)):
            name = f"{module}.{part}" if module else part
            if name in wanted:
                return name
        return None

    return spelled


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
