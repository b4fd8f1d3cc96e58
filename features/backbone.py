"""A backbone: a network with named layers in depth order, its preprocessing, weights and domain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from features import weights as weights_files
from features.cards.architecture import (
    Architecture,
    Layer,
    architecture_of,
    choose,
    describe,
    no_layers,
    offered,
)
from features.cards.card import Card
from features.cards.network import build
from features.cards.reading import find
from features.errors import InputError, OptionError
from features.images.geometry import geometry_of, with_geometry
from features.images.preprocess import describe as in_words
from features.images.preprocess import mean_of

__all__ = ["Architecture", "Backbone", "Layer", "architecture_of", "choose", "describe", "load"]
__all__ += ["no_layers", "offered", "target_of"]


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
    """Tensors in the weights file that the network does not have."""
    left: frozenset[str] = frozenset()
    """Tensors of the network that the file does not have and that no chosen layer needs."""
    notes: tuple[str, ...] = ()
    """Decisions about how the weights file was read, one sentence each."""

    def layers(self, names: tuple[str, ...] = ("all",)) -> tuple[Layer, ...]:
        """The layers called `names`, in depth order; none stand for those that are read by default."""
        return choose(self.architecture, names)


def load(
    name: str | Card,
    weights: str | None = None,
    seed: int = 0,
    geometry: str | None = None,
    announce: Callable[[str], None] = lambda _: None,
    layers: Callable[[str, Architecture], tuple[Layer, ...]] | None = None,
    spare: Callable[[Architecture], str | None] = lambda _: None,
) -> Backbone:
    """Build a backbone and give it its weights.

    Args:
        name: A card in the package, a card file, `torchvision:NAME`, `timm:NAME`, `hf:NAME` or
            `onnx:FILE`; or a card that was read already.
        weights: A file, or FILE#PART where it holds several networks; `random` for weights drawn from
            `seed`; None for the card's own.
        seed: The seed of random weights.
        geometry: Another backbone, as `name`, whose resizing and crop are taken; the backbone is then
            called NAME@as-OTHER.
        announce: Called with a message before a download starts.
        layers: Gives the layers that will be read, from the backbone's full name and architecture: the
            file need not have what lies above them. By default it must have everything.
        spare: Gives a module that will be made anew, which the file need not have either.

    Raises:
        InputError: The card, the network or the weights cannot be used.
    """
    given, like = _seen_as(name if isinstance(name, Card) else find(name), geometry)
    card = given
    random = weights == "random"
    model = build(card, seed=seed if random else 0, random=random)
    architecture = architecture_of(card, model)
    card = architecture.card
    if not architecture.parameters:
        return Backbone(card.name + like, card.domain, architecture, model, None, seed)
    if (held := weights_files.inside(card, weights)) is not None:
        return Backbone(card.name + like, card.domain, architecture, model, held, seed)
    if random:
        # The seed is part of the name, so that several draws stand side by side in one study.
        random_name = f"{card.name}@random" + (f"-{seed}" if seed else "") + like
        return Backbone(random_name, "none", architecture, model, None, seed)
    target = weights_files.Target(card, model, architecture.traced, architecture.input)
    file = weights_files.locate(target, weights, announce)
    full_name = (card.name if file.published else f"{card.name}@{file.name}") + like
    card, unsaid = (card, ()) if file.published else _of_own_weights(given, card, file)
    target = replace(
        target,
        layers=layers and _modules(architecture, layers(full_name, architecture)),
        spare=spare(architecture),
    )
    assignment = weights_files.assigned(file, target)
    target.model.load_state_dict(assignment.state, strict=False)
    read = weights_files.input_of(file, architecture.input)
    architecture = replace(architecture, input=read, card=card)
    mean_of(architecture.input)  # a mean image that cannot be used is refused before any work
    return Backbone(
        full_name,
        card.domain,
        architecture,
        target.model,
        file,
        seed,
        tuple(assignment.unused),
        frozenset(assignment.left),
        (*assignment.notes, *unsaid),
    )


def _of_own_weights(
    given: Card, card: Card, file: weights_files.WeightsFile
) -> tuple[Card, tuple[str, ...]]:
    """The card of a network with weights that its publisher does not list, and what is not known of them.

    A name of torchvision or timm is that of an architecture: what else the library says is of its own
    weights. A card names a domain, and a licence where it gives one, for the weights that are used with it.

    Args:
        given: The card before its library's licence was filled in.
        card: The card with it.
        file: The weights.
    """
    if given.file is not None:
        return replace(card, licence=given.licence), ()
    if card.domain == "unknown":
        return card, ()
    name = Path(file.source).stem
    words = (
        f"what {file.source} was trained on, and its licence, are unknown, and {card.name} is compared "
        f'with no domain; to say it, write {name}.toml with name = "{name}", domain = "...", network = '
        f'"{card.network}" and licence = "...", and give --backbone ./{name}.toml --weights {file.path}'
    )
    unknown = replace(card, domain="unknown", licence=None, pretraining=None, trained_on=())
    return unknown, (words,)


def _seen_as(card: Card, geometry: str | None) -> tuple[Card, str]:
    """The card with the geometry of another backbone, and what then follows its name."""
    if geometry is None:
        return card, ""
    own, other = (architecture_of(which) for which in (card, find(geometry)))
    if geometry_of(in_words(own.input)) == geometry_of(in_words(other.input)):
        raise OptionError(
            f"--geometry {geometry}: {card.name} has this geometry already; leave the option out."
        )
    return replace(card, input=with_geometry(own.input, other.input)), f"@as-{other.card.name}"


def _modules(architecture: Architecture, layers: tuple[Layer, ...]) -> dict[str, str]:
    return {layer.name: architecture.traced.at(layer.module).module for layer in layers}


def in_range(backbone: Backbone, values: tuple[float, float] | None) -> Backbone:
    """The backbone, reading pictures of more than eight bits from a black to a white; None: as it did."""
    if values is None:
        return backbone
    seen = replace(backbone.architecture.input, range=values)
    card = replace(backbone.architecture.card, input=seen)
    return replace(backbone, architecture=replace(backbone.architecture, input=seen, card=card))


def target_of(name: str) -> weights_files.Target:
    """The network of a backbone, to which weights can be assigned.

    Raises:
        InputError: There is no such card, or its network cannot be built.
    """
    card = find(name)
    if card.network.startswith("onnx:"):
        raise InputError(f"{name}: its weights are inside {card.network} and cannot be replaced.")
    architecture = architecture_of(card)
    card = architecture.card
    try:
        model = build(card, device="meta")
    except Exception:  # as in architecture_of
        model = build(card)
    layers = _modules(architecture, architecture.layers)
    return weights_files.Target(card, model, architecture.traced, architecture.input, layers)
