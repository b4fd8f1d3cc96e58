"""A backbone without its weights: its layers in depth order, from its card and its network."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from features.cards.card import CARDS, Card, Input
from features.cards.defaults import default_layers
from features.cards.foreign_inputs import foreign_input
from features.cards.layer_names import layer_name
from features.cards.network import build, larger_shapes
from features.cards.onnx_network import OnnxNetwork
from features.cards.outputs import (
    Output,
    convolutional_output,
    declared_output,
    evidence_of,
    output_of,
)
from features.cards.published import projects, published_input, with_licence
from features.cards.reading import find
from features.cards.row_law import foreign_rows
from features.cards.trace import Trace, trace
from features.errors import InputError, first_line, nearest

# Modules that only pass their input on at test time, so that their output is no layer.
_SILENT = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.AlphaDropout)

_UNKNOWN = Output("")


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
    output: Output = _UNKNOWN
    """The kind of tensor; by default a map if `shape` has three axes, else a vector."""

    def __post_init__(self) -> None:
        """Derive the output from the shape where it is not given."""
        if not self.output.kind:
            kind = "map" if len(self.shape) == 3 else "vector"
            object.__setattr__(self, "output", Output(kind))

    @property
    def size(self) -> int:
        """Numbers per image before pooling."""
        size = 1
        for side in self.shape:
            size *= side
        return size


@dataclass(frozen=True)
class Architecture:
    """A backbone without its weights."""

    card: Card
    input: Input
    layers: tuple[Layer, ...]
    parameters: int
    traced: Trace
    modules: tuple[str, ...]
    """The names of all modules, also of those that never run."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Modules, or parts of their output, that cannot be layers, and why."""
    outputs: Mapping[str, Output] = field(default_factory=dict)
    """By module, or part of its output, the kind of tensor."""
    leaves: tuple[str, ...] = ()
    """Modules without submodules that compute something, whether they can be layers or not."""
    default: tuple[str, ...] = ()
    """Names of the layers that are read by default."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Module by name of layers that may be chosen beside `layers`."""

    @property
    def named(self) -> dict[str, str]:
        """Module by layer, of the card or else of all leaves; a feature file is checked against it."""
        if self.leaves:
            return {layer_name(name): name for name in self.leaves}
        return {layer.name: layer.module for layer in self.layers}


def describe(name: str) -> Architecture:
    """The architecture of a backbone, from its card and without weights.

    Raises:
        InputError: There is no such card, or the network does not have its layers.
    """
    return architecture_of(find(name))


def architecture_of(card: Card, made: nn.Module | None = None) -> Architecture:
    """The layers, input and size of the network that `card` names, traced on the meta device.

    The law of rows (row_law.py) is checked on `made`, the network with weights, which is built if it is
    not given; for the cards of the package the tests check it.
    """
    try:
        model = build(card, device="meta")
        wanted = published_input(card, model)
        traced = _trace(model, wanted.shape)
    except (Exception, SystemExit):  # it is raised again below if the network is at fault
        # Some networks compute with their weights while they are built or run: give them real ones.
        model = made = build(card) if made is None else made
        wanted = published_input(card, model)
        traced = _traced(card, model, wanted)
    tensors = traced.fired | traced.parts
    if (
        card.file is not None and card.file.parent == CARDS
    ):  # convolutional: the tests check the rows
        refused: dict[str, str] = {}
        outputs = {name: convolutional_output(fired.shape) for name, fired in tensors.items()}
    else:
        refused, outputs = _classified(card, model, made, wanted.shape, traced)
    refused |= getattr(model, "left", {})  # a Caffe network's layers that cannot be built
    parameters = sum(p.numel() for p in model.parameters())
    if isinstance(model, OnnxNetwork):
        parameters = model.weight_count
    modules = tuple(name for name, _ in model.named_modules() if name)
    named: dict[str, str] | None = getattr(model, "default_layers", None)
    leaves = _leaves(model, traced) if card.layers is None and named is None else ()
    bare = Architecture(
        with_licence(card), wanted, (), parameters, traced, modules, refused, outputs, leaves
    )
    layers = _layers(bare, named)
    if not leaves:
        return replace(bare, layers=layers, default=tuple(layer.name for layer in layers))
    if isinstance(model, OnnxNetwork):
        names = model.default(traced, outputs)
        return replace(bare, layers=layers, default=tuple(names), also={n: n for n in names})
    default = default_layers(model, traced, outputs, projects=projects(card))
    also = {layer_name(name): m for name, m in (default.layers | default.also).items()}
    by_default = tuple(layer_name(name) for name in default.layers)
    return replace(bare, layers=layers, default=by_default, also=also)


def _classified(
    card: Card, model: nn.Module, made: nn.Module | None, shape: tuple[int, int, int], traced: Trace
) -> tuple[dict[str, str], dict[str, Output]]:
    """By module, or part of its output: why it cannot be a layer; the kind of tensor of those that can."""
    tensors = traced.fired | traced.parts
    rows = foreign_rows(build(card) if made is None else made, shape)
    modules = dict(model.named_modules())
    times, larger = larger_shapes(card, model, shape)
    shapes = {name: fired.shape for name, fired in tensors.items()}
    evidence = replace(evidence_of(model, shapes, rows.clear), times=times)
    outputs, refused = {}, dict(rows.refused)
    known = model.known_outputs(traced) if isinstance(model, OnnxNetwork) else {}
    declared = {output.module: output for output in card.outputs.values()}
    for name, fired in tensors.items():
        if name in refused:
            continue
        if card.network.startswith("caffe:"):
            output: Output | str = convolutional_output(fired.shape)
        elif name in known and name not in declared:
            output = known[name]
        elif name in declared:
            output = declared_output(declared[name], fired.shape, evidence)
        else:
            output = output_of(modules[fired.module], fired.shape, larger.get(name), evidence)
        if isinstance(output, str):
            refused[name] = output
        else:
            outputs[name] = output
    return refused, outputs


def no_layers(architecture: Architecture) -> dict[str, list[str]]:
    """The innermost modules, or parts of their output, that cannot be layers, by the reason."""
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


def choose(architecture: Architecture, names: tuple[str, ...]) -> tuple[Layer, ...]:
    """The layers called `names` in depth order; none stand for those that are read by default.

    `all` stands for every layer of the card, or without a card every leaf of the network, `last` for the
    last of those read by default, and `blocks.*` for those of the default that match, or else of all.
    Where no card names layers, a module with submodules may be chosen too (`layer4`).

    Raises:
        InputError: A name is not a layer of this backbone.
    """
    card, traced = architecture.card, architecture.traced
    layers = offered(architecture)
    chosen: dict[str, Layer] = {}
    for name in names or architecture.default:
        if name == "all":
            chosen |= {layer.name: layer for layer in architecture.layers}
        elif name == "last" and name not in layers:
            chosen[architecture.default[-1]] = layers[architecture.default[-1]]
        elif name in layers:
            chosen[name] = layers[name]
        elif name in architecture.refused:
            raise InputError(
                f"{card.name}: {name} is no layer, {architecture.refused[name]}; ask for another one."
            )
        elif card.layers is None and name in architecture.outputs:
            chosen[layer_name(name)] = _layer(architecture, layer_name(name), name)
        elif fit := fnmatch.filter(architecture.default, name) or fnmatch.filter(layers, name):
            chosen |= {match: layers[match] for match in fit}
        else:
            problem = "never runs its module" if name in architecture.modules else "has no layer"
            raise InputError(
                f"{card.name} {problem} {name}; {nearest(name, layers)} "
                f"`probe layers {card.name}` lists them."
            )
    if not chosen:
        raise InputError(
            f"{card.name}: has no module whose output can be a layer; `probe layers {card.name}` says why, "
            "and a card may declare what a module returns."
        )
    return _in_order(chosen.values(), traced)


def _in_order(layers: Iterable[Layer], traced: Trace) -> tuple[Layer, ...]:
    return tuple(sorted(layers, key=lambda layer: traced.at(layer.module).order))


def _trace(model: nn.Module, shape: tuple[int, int, int]) -> Trace:
    return model.trace(shape) if isinstance(model, OnnxNetwork) else trace(model, shape)


def _traced(card: Card, model: nn.Module, wanted: Input) -> Trace:
    try:
        return _trace(model, wanted.shape)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        if (foreign := foreign_input(model)) is not None:
            raise InputError(f"{card.line('network')}: {card.network} {foreign}") from error
        why = f"{type(error).__name__}: {first_line(error)}"
        height, width = wanted.size
        raise InputError(
            f"{card.line('size')}: {card.network} fails on an image of {height} x {width} ({why}) "
            f"with channels {wanted.channel_order}; correct size or channel_order (grey, rgb, rgba) under "
            "[input], or the network."
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
        wanted = {layer_name(name): name for name in names if name in bare.outputs}
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
