"""The tensors of a file assigned to those of a network: by name, shape, channel order, flatten order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from features.cards.card import Card, Input, WeightsEntry
from features.cards.huggingface import renamed_tensors
from features.cards.network import build
from features.cards.trace import Trace
from features.errors import InputError
from features.formats.blobs import Blobs
from features.weights import parts as files_parts
from features.weights.convention import in_channel_order
from features.weights.flatten import Reading, readings
from features.weights.layout import laid_out, variance
from features.weights.needed import read_up_to
from features.weights.order import by_order
from features.weights.parts import NetworkPart
from features.weights.rename import renamed


@dataclass(frozen=True)
class Target:
    """The network that weights are for; it may be on the `meta` device, without memory."""

    card: Card
    model: nn.Module
    traced: Trace
    input: Input
    layers: Mapping[str, str] | None = None
    """The layers that will be read and their modules, in depth order; None: the whole network."""
    spare: str | None = None
    """A module that will be made anew, whose tensors are not needed."""


@dataclass
class Assignment:
    """The tensors of a file that a network loads, and those of either that have no counterpart."""

    state: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """Needed tensors of the network that the file does not have."""
    mismatched: list[str] = field(default_factory=list)
    """Needed tensors of another shape, with both shapes."""
    left: dict[str, str] = field(default_factory=dict)
    """Tensors of the network that are not needed and not loaded, and why they do not fit."""
    unused: list[str] = field(default_factory=list)
    """Tensors of the file, by its own names, that the network does not have."""
    notes: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    """The file's own name for each tensor that is loaded."""


def assign(target: Target, blobs: Blobs, entry: WeightsEntry, file: Path) -> Assignment:
    """Assign a tensor of the file to every tensor of the network.

    The file may use the module names of the network or the layer names of its card (`fc6.weight`),
    after one prefix of any kind (`module.`, `state_dict.model.backbone.`).

    Raises:
        InputError: The file's channels cannot be put in the order of the card, or several networks in
            it fit.
    """
    assignment = Assignment()
    wanted = target.model.state_dict()
    if blobs.format == "caffe":
        from features.caffe import fitted

        blobs = replace(blobs, tensors=fitted(blobs.tensors, wanted))
    if target.card.network.startswith("hf:"):
        blobs = replace(blobs, tensors=renamed_tensors(target.model, blobs.tensors))
    own = renamed(list(blobs.tensors), entry.rename or {}, file)
    blobs = replace(blobs, tensors={name: blobs.tensors[source] for name, source in own.items()})
    # channels first is PyTorch's own order, which is changed for a file only where its card says so
    flatten = entry.flatten or (blobs.flatten if blobs.flatten == "hwc" else None)
    read = cache(lambda: _readings(target))

    def shaped(name: str, blob: Tensor) -> Tensor | None:
        return laid_out(blob, name, tuple(wanted[name].shape), flatten, read)

    part = _part(target, blobs, entry, file, shaped, assignment.notes)
    used = set(part.names.values())
    for name, tensor in wanted.items():
        source = part.names.get(name)
        if source is None:
            if not name.endswith("num_batches_tracked"):
                assignment.missing.append(name)
            continue
        blob = blobs.tensors[source]
        if source.endswith(".running_std"):
            blob = variance(blob, target.model.get_submodule(name.rpartition(".")[0]))
        fitting = shaped(name, blob)
        if fitting is not None and flatten == "hwc" and read().get(name, fitting) is None:
            raise InputError(
                f"{file}: {name} reads a map, and running {target.card.network} on marked values does "
                'not show in which order; write flatten = "chw" under [[weights]] in a card if the '
                "file has it in the order that the network reads, or flatten the map right before it."
            )
        if fitting is None:
            assignment.left[name] = (
                f"{name} is {tuple(blob.shape)} in the file and {tuple(tensor.shape)} in the network"
            )
        else:
            assignment.state[name] = fitting
            assignment.sources[name] = own[source]
    group = files_parts.group_of(part.prefix, blobs.groups)
    assignment.unused = [
        own[source].removeprefix(group)
        for source in blobs.tensors
        if source not in used and files_parts.group_of(source, blobs.groups) == group
    ]
    assignment.unused += blobs.unread
    weigh(assignment, target, file)
    if not assignment.missing and not assignment.mismatched:
        assignment.state = in_channel_order(
            assignment.state, entry, target.card, target.model, target.traced, target.input
        )
    return assignment


def _readings(target: Target) -> Mapping[str, Reading | None]:
    """What the matrices of the network read; the network is built with memory for that."""
    first = next(target.model.parameters(), None)
    real = target.model if first is None or not first.is_meta else build(target.card)
    return readings(real, target.input.shape)


def weigh(assignment: Assignment, target: Target, file: Path) -> None:
    """Sort what does not fit into what is needed and what is not, and note the latter in one line."""
    lacking = {**dict.fromkeys(assignment.missing, ""), **assignment.left}
    if not lacking:
        return
    needed = needed_of(target)
    assignment.missing = [name for name in assignment.missing if name in needed]
    assignment.mismatched = [why for name, why in assignment.left.items() if name in needed]
    assignment.left = {name: why for name, why in lacking.items() if name not in needed}
    if not assignment.left:
        return
    layers = target.layers or {}
    where = f"above {list(layers)[-1]}" if layers else f"of {target.spare}, which is made anew,"
    reasons = [why or f"{name} is not in the file" for name, why in assignment.left.items()]
    assignment.notes.append(
        f"{file.name}: {len(assignment.left)} tensors {where} are not needed and not loaded "
        f"({first_few(reasons)})"
    )


def needed_of(target: Target) -> frozenset[str]:
    """The tensors of the network without which the layers that are asked for cannot be computed."""
    names = [n for n in target.model.state_dict() if not n.endswith("num_batches_tracked")]
    if target.layers is None:
        spare = f"{target.spare}."
        return frozenset(name for name in names if not name.startswith(spare))
    fired = [target.traced.at(module) for module in target.layers.values()]
    calls = {tensor.module: tensor.calls for tensor in fired}

    def up_to(model: nn.Module) -> frozenset[str]:
        return read_up_to(model, calls, target.input.shape)

    try:
        read = up_to(build(target.card, device="meta"))
    except Exception:  # some networks compute with their weights: give them real ones
        read = up_to(build(target.card))
    return read.intersection(names)


def refuse_misfit(assignment: Assignment, target: Target, file: Path) -> None:
    """Refuse a file of which a needed tensor does not fit, by the names of these.

    Raises:
        InputError: A tensor is missing or has another shape.
    """
    if not assignment.missing and not assignment.mismatched:
        return
    card = target.card
    total = len(target.model.state_dict())
    parts = []
    if assignment.missing:
        parts.append(
            f"{len(assignment.missing)} of {total} tensors are missing ({first_few(assignment.missing)})"
        )
    if assignment.mismatched:
        parts.append(
            f"{len(assignment.mismatched)} have another shape ({first_few(assignment.mismatched)})"
        )
    if assignment.unused:
        parts.append(
            f"the file has {len(assignment.unused)} others ({first_few(assignment.unused)})"
        )
    raise InputError(
        f"{file}: not the weights of {card.network} as {card.line('network')} builds it: "
        f"{'; '.join(parts)}; give the file that belongs to this network, or correct the card's "
        "network or options."
    )


def first_few(names: list[str]) -> str:
    """The first three of many names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _part(
    target: Target,
    blobs: Blobs,
    entry: WeightsEntry,
    file: Path,
    shaped: Callable[[str, Tensor], Tensor | None],
    notes: list[str],
) -> NetworkPart:
    """The network in the file that is meant; every decision is noted in `notes`.

    Raises:
        InputError: Several fit, or there is none at `key`.
    """
    wanted = target.model.state_dict()
    spelled = _speller(target, wanted)

    def fits(part: NetworkPart, name: str) -> bool:
        source = part.names.get(name)
        if source is None:
            return False
        return shaped(name, torch.empty_like(blobs.tensors[source], device="meta")) is not None

    needed: frozenset[str] | None = None
    parts: list[NetworkPart] = []
    begun: list[NetworkPart] = []  # those with at least the first layer, where none has all
    own = {name: name for name in blobs.tensors}
    for sources in (own, files_parts.without_wrappers(list(blobs.tensors), wanted)):
        every = files_parts.parts_of(sources, spelled)
        every = [NetworkPart(p.prefix, {n: sources[s] for n, s in p.names.items()}) for p in every]
        begins = _first_weights(target)
        parts = [part for part in every if all(fits(part, name) for name in begins)]
        if entry.key is not None:
            parts = files_parts.chosen(parts, entry.key, file)
        begun = parts or begun
        if len(parts) > 1 or not parts or not all(fits(parts[0], name) for name in wanted):
            needed = needed_of(target) if needed is None else needed
            parts = [part for part in parts if all(fits(part, name) for name in needed)]
        if parts:
            if sources is not own:
                notes.append(
                    f"{file.name}: what compiling or sharding put into its names is removed"
                )
            break
    if not parts:
        named = any(not part.prefix for part in every)
        names = {}
        if blobs.by_order and not named:
            names = by_order(target.model, target.traced, blobs, file)
        if names:
            notes.append(
                f"{file.name}: its names are none of the network's; its layers were assigned in their order"
            )
            return NetworkPart("", names)
        return next(iter([*begun, *every]), NetworkPart("", {}))
    if len(parts) > 1:
        if not files_parts.are_equal(parts, blobs.tensors, needed or wanted):
            files_parts.refuse_several(parts, file)
        notes.append(f"{file.name}: holds the same tensors at {files_parts.listed(parts)}")
    if parts[0].prefix:
        notes.append(f"{file.name}: the tensors are read from {parts[0].shown}")
    return parts[0]


def _first_weights(target: Target) -> list[str]:
    """The weight of the first layer that has one: a part of a file without it is no network."""
    wanted = target.model.state_dict()
    for name, fired in target.traced.fired.items():
        if fired.leaf and f"{name}.weight" in wanted:
            return [f"{name}.weight"]
    return []


def _speller(target: Target, wanted: Mapping[str, Tensor]) -> Callable[[str], str | None]:
    """A function that turns a file's name into the network's own, or into None."""
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
    """By layer of the card, the module with weights that feeds it."""
    layers = target.card.layers or {}
    fired = target.traced.fired
    modules = {
        layer: fired[module].weight_module for layer, module in layers.items() if module in fired
    }
    return {layer: module for layer, module in modules.items() if module}
