"""A backbone: a network with named layers in depth order, its preprocessing, weights and domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from features import weights as weights_files
from features.cards.card import CARDS, Card, Input, find
from features.cards.network import build, published_input, with_licence
from features.cards.rows import foreign_rows
from features.cards.trace import Trace, trace
from features.errors import InputError, nearest
from features.images.preprocess import mean_of

# Modules that only pass their input on at test time; nobody asks for their output.
_SILENT = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.AlphaDropout)


@dataclass(frozen=True)
class Layer:
    """A named point in the network."""

    name: str
    module: str
    shape: tuple[int, ...]
    """Of one image's output before pooling: (channels, height, width) or (dim,)."""
    depth: float
    """Weight layers up to here over those of the whole network, 0 to 1."""

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


@dataclass(frozen=True)
class Backbone:
    """A network ready to be read."""

    name: str
    domain: str
    architecture: Architecture
    model: nn.Module
    weights: weights_files.WeightsFile | None
    """None: random weights, drawn from `seed`."""
    seed: int
    unused: tuple[str, ...] = ()
    """Tensors in the weights file that the network has no use for."""
    left: frozenset[str] = frozenset()
    """Tensors of the network that the file does not have and that nothing asked for needs."""
    notes: tuple[str, ...] = ()
    """How the weights file was read, where that had to be decided."""

    def layers(self, asked: tuple[str, ...] = ("all",)) -> tuple[Layer, ...]:
        """The layers called `asked`, in depth order."""
        return choose(self.architecture, asked)


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
    refused: dict[str, str] = {}
    if card.file is None or card.file.parent != CARDS:
        refused = foreign_rows(build(card) if made is None else made, wanted.size)
    refused |= getattr(model, "left", {})  # a Caffe network's layers that cannot be built
    parameters = sum(p.numel() for p in model.parameters())
    modules = tuple(name for name, _ in model.named_modules() if name)
    layers = _layers(card, model, traced, refused)
    return Architecture(with_licence(card), wanted, layers, parameters, traced, modules, refused)


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


def load(
    name: str,
    weights: str | None = None,
    seed: int = 0,
    announce: Callable[[str], None] = lambda _: None,
    layers: Callable[[str, Architecture], tuple[Layer, ...]] | None = None,
    spare: Callable[[Architecture], str | None] = lambda _: None,
) -> Backbone:
    """Build a backbone and give it its weights.

    Args:
        name: A card in the package, a card file, `torchvision:NAME` or `timm:NAME`.
        weights: A file, or FILE#PART where it holds several networks; `random` for weights drawn from
            `seed`; None for the card's own.
        seed: Of random weights.
        announce: Is told of a download before it starts.
        layers: Which layers will be read of the backbone of this name: what lies above them need not
            be in the file. By default everything must be.
        spare: A module that will be made anew and need not be in the file either.

    Raises:
        InputError: The card, the network or the weights cannot be used.
    """
    card = find(name)
    random = weights == "random"
    model = build(card, seed=seed if random else 0, random=random)
    architecture = architecture_of(card, model)
    card = architecture.card
    if not architecture.parameters:
        return Backbone(card.name, card.domain, architecture, model, None, seed)
    if random:
        # The seed is part of the name, so that several draws stand side by side in one study.
        random_name = f"{card.name}@random" + (f"-{seed}" if seed else "")
        return Backbone(random_name, "none", architecture, model, None, seed)
    target = weights_files.Target(card, model, architecture.traced, architecture.input)
    file = weights_files.locate(target, weights, announce)
    full_name = card.name if file.published else f"{card.name}@{file.name}"
    target = replace(
        target,
        layers=layers and _modules(layers(full_name, architecture)),
        spare=spare(architecture),
    )
    fitted = weights_files.fitted(file, target)
    target.model.load_state_dict(fitted.state, strict=False)
    architecture = replace(architecture, input=weights_files.input_of(file, architecture.input))
    mean_of(architecture.input)  # a mean image that cannot be used is told before any work
    return Backbone(
        full_name,
        card.domain,
        architecture,
        target.model,
        file,
        seed,
        tuple(fitted.unused),
        frozenset(fitted.left),
        tuple(fitted.notes),
    )


def _modules(layers: tuple[Layer, ...]) -> dict[str, str]:
    return {layer.name: layer.module for layer in layers}


def target_of(name: str) -> weights_files.Target:
    """The network of a backbone as weights for it are held against.

    Raises:
        InputError: There is no such card, or its network cannot be built.
    """
    architecture = architecture_of(find(name))
    card = architecture.card
    try:
        model = build(card, device="meta")
    except Exception:  # as in architecture_of
        model = build(card)
    layers = _modules(architecture.layers)
    return weights_files.Target(card, model, architecture.traced, architecture.input, layers)


def choose(architecture: Architecture, asked: tuple[str, ...]) -> tuple[Layer, ...]:
    """The layers called `asked` in depth order; `all` stands for every one.

    Where no card names layers, a module that holds others may be asked for too (`layer4`).

    Raises:
        InputError: A name is not a layer of this backbone.
    """
    card, traced = architecture.card, architecture.traced
    known = {layer.name: layer for layer in architecture.layers}
    chosen = dict(known) if "all" in asked else {}
    for name in asked:
        if name in known:
            chosen[name] = known[name]
        elif name in architecture.refused:
            raise InputError(
                f"{card.name}: {name} is no layer, {architecture.refused[name]}; ask for another one."
            )
        elif (
            card.layers is None
            and "/" not in name
            and (name in traced.fired or name in traced.parts)
        ):
            chosen[name] = _layer(name, name, traced)
        elif name != "all":
            what = "never runs its module" if name in architecture.modules else "has no layer"
            raise InputError(
                f"{card.name} {what} {name}; {nearest(name, known)} "
                f"`probe layers {card.name}` lists them."
            )
    return tuple(sorted(chosen.values(), key=lambda layer: traced.at(layer.module).order))


def _traced(card: Card, model: nn.Module, wanted: Input) -> Trace:
    try:
        return trace(model, wanted.size)
    except Exception as error:
        raise InputError(
            f"{card.line('size')}: {card.network} fails on an image of {wanted.size[0]} x "
            f"{wanted.size[1]} ({type(error).__name__}: {str(error).splitlines()[0][:160]}); mend "
            "size under [input], or the network."
        ) from error


def _layers(
    card: Card, model: nn.Module, traced: Trace, refused: Mapping[str, str]
) -> tuple[Layer, ...]:
    named: dict[str, str] | None = getattr(model, "default_layers", None)
    if card.layers is None and named is not None:
        wanted = dict(named)
    elif card.layers is None:
        modules = dict(model.named_modules())
        wanted = {
            name.replace("/", "."): name
            for name, fired in traced.tensors.items()
            if fired.leaf and name not in refused and not isinstance(modules[fired.module], _SILENT)
        }
    else:
        for layer, module in card.layers.items():
            _check_layer(card, model, traced, refused, layer, module)
        wanted = dict(card.layers)
    layers = [_layer(name, module, traced) for name, module in wanted.items()]
    return tuple(sorted(layers, key=lambda layer: traced.at(layer.module).order))


def _check_layer(
    card: Card, model: nn.Module, traced: Trace, refused: Mapping[str, str], layer: str, module: str
) -> None:
    known = [name for name, _ in model.named_modules() if name]
    where = f"{card.line(layer)}: layer {layer} reads the module {module}, which"
    if module in refused:
        raise InputError(f"{where} is no layer, {refused[module]}; read another module.")
    if module not in known and module not in traced.parts:
        raise InputError(f"{where} {card.network} does not have; {nearest(module, known)}")
    if module in traced.wordless:
        raise InputError(
            f"{where} returns {traced.wordless[module]}, in which no tensor has a name; read a module "
            "inside it."
        )
    if module not in traced.fired and module not in traced.parts:
        raise InputError(f"{where} never runs; {nearest(module, traced.fired)}")


def _layer(name: str, module: str, traced: Trace) -> Layer:
    fired = traced.at(module)
    depth = min(1.0, fired.weight_layers / max(traced.weight_layers, 1))
    shape = fired.shape
    while len(shape) > 1 and shape[-1] == 1:  # a map of 1 x 1 is a vector
        shape = shape[:-1]
    return Layer(name, module, shape, depth)
