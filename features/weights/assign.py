"""Blobs of a file, fitted to a network: by name, shape, channel order and flatten order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from features.cards.card import Card, Input, WeightsEntry
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
from features.weights.parts import Part
from features.weights.rename import renamed


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
    sources: dict[str, str] = field(default_factory=dict)
    """The file's own name for each tensor that is loaded."""


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
    own = renamed(list(blobs.tensors), entry.rename or {}, file)
    blobs = replace(blobs, tensors={name: blobs.tensors[source] for name, source in own.items()})
    # channels first is how PyTorch flattens: left as it is, unless a card says so of this file
    flatten = entry.flatten or (blobs.flatten if blobs.flatten == "hwc" else None)
    read = cache(lambda: _readings(target))

    def shaped(name: str, blob: Tensor) -> Tensor | None:
        return laid_out(blob, name, tuple(wanted[name].shape), flatten, read)

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
            blob = variance(blob, target.model.get_submodule(name.rpartition(".")[0]))
        fitting = shaped(name, blob)
        if fitting is not None and flatten == "hwc" and read().get(name, fitting) is None:
            raise InputError(
                f"{file}: {name} reads a map, and running {target.card.network} on marked values does "
                'not show in which order; write flatten = "chw" under [[weights]] in a card if the '
                "file has it in the order that the network reads, or flatten the map right before it."
            )
        if fitting is None:
            found.left[name] = (
                f"{name} is {tuple(blob.shape)} in the file and {tuple(tensor.shape)} in the network"
            )
        else:
            found.state[name] = fitting
            found.sources[name] = own[source]
    group = files_parts.group_of(part.prefix, blobs.groups)
    found.unused = [
        own[source].removeprefix(group)
        for source in blobs.tensors
        if source not in used and files_parts.group_of(source, blobs.groups) == group
    ]
    found.unused += blobs.unread
    weigh(found, target, file)
    if not found.missing and not found.mismatched:
        found.state = in_channel_order(
            found.state, entry, target.card, target.model, target.traced, target.input
        )
    return found


def _readings(target: Target) -> Mapping[str, Reading | None]:
    """What the matrices of the network read, which needs it with memory."""
    first = next(target.model.parameters(), None)
    real = target.model if first is None or not first.is_meta else build(target.card)
    return readings(real, target.input.size)


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
    fired = [target.traced.at(module) for module in target.layers.values()]
    calls = {one.module: one.calls for one in fired}

    def up_to(model: nn.Module) -> frozenset[str]:
        return read_up_to(model, calls, target.input.size)

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
    begun: list[Part] = []  # those that hold at least the first layer, where none holds all
    own = {name: name for name in blobs.tensors}
    for sources in (own, files_parts.without_wrappers(list(blobs.tensors), wanted)):
        every = files_parts.parts_of(sources, spelled)
        every = [Part(p.prefix, {n: sources[s] for n, s in p.names.items()}) for p in every]
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
                notes.append(f"{file.name}: what compiling put inside its names is taken off")
            break
    if not parts:
        named = any(not part.prefix for part in every)
        names = {}
        if blobs.by_order and not named:
            names = by_order(target.model, target.traced, blobs, file)
        if names:
            notes.append(
                f"{file.name}: none of its names is the network's; its layers were taken in their order"
            )
            return Part("", names)
        return next(iter([*begun, *every]), Part("", {}))
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
