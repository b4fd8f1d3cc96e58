"""A backbone without its weights: its layers in depth order, as its card and its network tell them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from features.cards.card import CARDS, Card, Input, find
from features.cards.defaults import default_layers
from features.cards.network import build, larger_shapes, projects, published_input, with_licence
from features.cards.outputs import (
    Output,
    as_said,
    evidence,
    of_convolutions,
    output_of,
)
from features.cards.row_law import foreign_rows
from features.cards.trace import Trace, trace
from features.errors import InputError, nearest

# Modules that only pass their input on at test time; nobody asks for their output.
_SILENT = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.AlphaDropout)


_UNTOLD = Output("")


@dataclass(frozen=True)
class Layer:
    """A named point in the network."""

    name: str
    module: str
    """The module whose output it is, or a part of that: `encoder[0]`, `out[features]`."""
    shape: tuple[int, ...]
    """Of one image before pooling: (channels, height, width), (tokens, channels) or (dim,)."""
    depth: float
    """Weight layers up to here over those of the whole network, 0 to 1."""
    output: Output = _UNTOLD
    """What the module returns; where nothing is given, a map if `shape` has three axes, or a vector."""

    def __post_init__(self) -> None:
        """Tell the output from the shape where it is not given."""
        if not self.output.kind:
            kind = "map" if len(self.shape) == 3 else "vector"
            object.__setattr__(self, "output", Output(kind))

    @property
    def size(self) -> int:
        """How many numbers one image gives before pooling."""
        size = 1
        for side in self.shape:
            size *= side
        return size


@dataclass(frozen=True)
class Architecture:
    """A backbone without its weights: what a card alone tells."""

    card: Card
    input: Input
    layers: tuple[Layer, ...]
    parameters: int
    traced: Trace
    modules: tuple[str, ...]
    """The names of all modules, also of those that never run."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Modules, or parts of what they return, that are no layers, and why."""
    outputs: Mapping[str, Output] = field(default_factory=dict)
    """By module, or part of what it returns, what it is."""
    leaves: tuple[str, ...] = ()
    """Modules that hold no others and do something, whether they can be layers or not."""
    default: tuple[str, ...] = ()
    """Names of the layers that are read where none are asked for."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Module by name of layers that may be asked for beside `layers`."""

    @property
    def named(self) -> dict[str, str]:
        """Module by layer, of the card or else of all leaves: what a feature file is held to."""
        if self.leaves:
            return {name.replace("/", "."): name for name in self.leaves}
        return {layer.name: layer.module for layer in self.layers}


def describe(name: str) -> Architecture:
    """The architecture of a backbone, from its card and without weights.

    Raises:
        InputError: There is no such card, or the network does not have its layers.
    """
    return architecture_of(find(name))


def architecture_of(card: Card, made: nn.Module | None = None) -> Architecture:
    """The layers, input and size of the network that `card` names, traced without memory.

    The law of rows is shown on `made`, the network with weights, which is built if it is not given;
    for the cards of the package the tests have shown it.
    """
    try:
        model = build(card, device="meta")
        wanted = published_input(card, model)
        traced = trace(model, wanted.size)
    except Exception:  # whatever it is, it comes again below if the network is at fault
        # Some networks compute with their weights while they are built or run: give them real ones.
        model = made = build(card) if made is None else made
        wanted = published_input(card, model)
        traced = _traced(card, model, wanted)
    every = traced.fired | traced.parts
    if card.file is not None and card.file.parent == CARDS:  # convolutions, as the tests have shown
        refused: dict[str, str] = {}
        outputs = {name: of_convolutions(fired.shape) for name, fired in every.items()}
    else:
        refused, outputs = _seen(card, model, made, wanted.size, traced)
    refused |= getattr(model, "left", {})  # a Caffe network's layers that cannot be built
    parameters = sum(p.numel() for p in model.parameters())
    modules = tuple(name for name, _ in model.named_modules() if name)
    named: dict[str, str] | None = getattr(model, "default_layers", None)
    leaves = _leaves(model, traced) if card.layers is None and named is None else ()
    bare = Architecture(
        with_licence(card), wanted, (), parameters, traced, modules, refused, outputs, leaves
    )
    layers = _layers(bare, named)
    if not leaves:
        return replace(bare, layers=layers, default=tuple(layer.name for layer in layers))
    default = default_layers(model, traced, outputs, projects=projects(card))
    also = default.layers | default.also
    return replace(bare, layers=layers, default=tuple(default.layers), also=also)


def _seen(
    card: Card, model: nn.Module, made: nn.Module | None, size: tuple[int, int], traced: Trace
) -> tuple[dict[str, str], dict[str, Output]]:
    """Why modules, or parts of what they return, are no layers; what those are that can be."""
    every = traced.fired | traced.parts
    shown = foreign_rows(build(card) if made is None else made, size)
    modules = dict(model.named_modules())
    times, larger = larger_shapes(card, model, size)
    shapes = {name: fired.shape for name, fired in every.items()}
    known = replace(evidence(model, shapes, shown.clear), times=times)
    outputs, refused = {}, dict(shown.refused)
    said = {about.module: about for about in card.outputs.values()}
    for name, fired in every.items():
        if name in refused:
            continue
        if card.network.startswith("caffe:"):
            found: Output | str = of_convolutions(fired.shape)
        elif name in said:
            about = said[name]
            assert about.output is not None
            found = as_said(about.output, fired.shape, about.prefix, about.cls, known)
        else:
            found = output_of(modules[fired.module], fired.shape, larger.get(name), known)
        if isinstance(found, str):
            refused[name] = found
        else:
            outputs[name] = found
    return refused, outputs


def no_layers(architecture: Architecture) -> dict[str, list[str]]:
    """The innermost modules, or parts of what they return, that are no layers, by the reason."""
    reasons: dict[str, list[str]] = {}
    tensors = architecture.traced.tensors
    for name, why in architecture.refused.items():
        if name not in tensors or tensors[name].leaf:
            reasons.setdefault(why, []).append(name)
    for name, kind in architecture.traced.wordless.items():
        reasons.setdefault(f"it returns {kind}, in which no tensor has a name", []).append(name)
    return reasons


def offered(architecture: Architecture) -> dict[str, Layer]:
    """Every layer that has a name, in depth order: those read by default, those of the card, all leaves."""
    layers = {layer.name: layer for layer in architecture.layers}
    for name, module in architecture.also.items():
        layers.setdefault(name, _layer(architecture, name, module))
    return {layer.name: layer for layer in _in_order(layers.values(), architecture.traced)}


def choose(architecture: Architecture, asked: tuple[str, ...]) -> tuple[Layer, ...]:
    """The layers called `asked` in depth order.

    `all` stands for every layer of the card, or else every leaf of the network, `last` for the last of
    those that are read by default, and `blocks.*` for what fits of these, or else of all. Where no card
    names layers, a module that holds others may be asked for too (`layer4`).

    Raises:
        InputError: A name is not a layer of this backbone.
    """
    card, traced = architecture.card, architecture.traced
    found = offered(architecture)
    chosen: dict[str, Layer] = {}
    for name in asked or architecture.default:
        if name == "all":
            chosen |= {layer.name: layer for layer in architecture.layers}
        elif name == "last" and name not in found:
            chosen[architecture.default[-1]] = found[architecture.default[-1]]
        elif name in found:
            chosen[name] = found[name]
        elif name in architecture.refused:
            raise InputError(
                f"{card.name}: {name} is no layer, {architecture.refused[name]}; ask for another one."
            )
        elif card.layers is None and "/" not in name and name in architecture.outputs:
            chosen[name] = _layer(architecture, name, name)
        elif fit := fnmatch.filter(architecture.default, name) or fnmatch.filter(found, name):
            chosen |= {each: found[each] for each in fit}
        else:
            what = "never runs its module" if name in architecture.modules else "has no layer"
            raise InputError(
                f"{card.name} {what} {name}; {nearest(name, found)} "
                f"`probe layers {card.name}` lists them."
            )
    return _in_order(chosen.values(), traced)


def _in_order(layers: Iterable[Layer], traced: Trace) -> tuple[Layer, ...]:
    return tuple(sorted(layers, key=lambda layer: traced.at(layer.module).order))


def _traced(card: Card, model: nn.Module, wanted: Input) -> Trace:
    try:
        return trace(model, wanted.size)
    except Exception as error:
        raise InputError(
            f"{card.line('size')}: {card.network} fails on an image of {wanted.size[0]} x "
            f"{wanted.size[1]} ({type(error).__name__}: {str(error).splitlines()[0][:160]}); mend "
            "size under [input], or the network."
        ) from error


def _layers(bare: Architecture, named: Mapping[str, str] | None) -> tuple[Layer, ...]:
    card, traced = bare.card, bare.traced
    if card.layers is not None:
        for layer, module in card.layers.items():
            _check_layer(bare, layer, module)
        wanted = dict(card.layers)
    elif named is not None:
        wanted = dict(named)
    else:
        names = [name for name in traced.tensors if traced.at(name).module in bare.leaves]
        wanted = {name.replace("/", "."): name for name in names if name in bare.outputs}
    return _in_order((_layer(bare, name, module) for name, module in wanted.items()), traced)


def _leaves(model: nn.Module, traced: Trace) -> tuple[str, ...]:
    modules = dict(model.named_modules())
    return tuple(
        name
        for name, fired in traced.fired.items()
        if fired.leaf and not isinstance(modules[name], _SILENT)
    )


def _check_layer(bare: Architecture, layer: str, module: str) -> None:
    card, traced = bare.card, bare.traced
    where = f"{card.line(layer)}: layer {layer} reads the module {module}, which"
    if module in bare.refused and module not in traced.fired and module not in traced.parts:
        raise InputError(f"{where} is no layer, {bare.refused[module]}; read another module.")
    if module not in bare.modules and module not in traced.parts:
        raise InputError(f"{where} {card.network} does not have; {nearest(module, bare.modules)}")
    if module in traced.wordless:
        raise InputError(
            f"{where} returns {traced.wordless[module]}, in which no tensor has a name; read a module "
            "inside it."
        )
    if module not in traced.fired and module not in traced.parts:
        raise InputError(f"{where} never runs; {nearest(module, traced.fired)}")
    if module not in bare.outputs:
        raise InputError(
            f"{where} is no layer, {bare.refused[module]}; read another module, or say what it is: "
            f'{layer} = {{ module = "{module}", output = "tokens", prefix = 1 }}.'
        )


def _layer(bare: Architecture, name: str, module: str) -> Layer:
    fired, output = bare.traced.at(module), bare.outputs[module]
    depth = min(1.0, fired.weight_layers / max(bare.traced.weight_layers, 1))
    return Layer(name, module, output.shape(fired.shape), depth, output)
