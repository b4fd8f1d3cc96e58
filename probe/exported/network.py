"""The network of an export: inside the file, or found again and held to what made the features."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from features import weights as weights_files
from features.backbone import Backbone, architecture_of, choose, load
from features.cards.card import Card
from features.cards.network import build
from features.cards.reading import find
from features.cards.recorded import card_from, input_from
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.pool import Pooled
from features.extraction.provenance import network_of
from features.weights.entries import entries_of
from probe.exported.file import About, Contents
from probe.exported.tuned import tuned_network, tuned_pooled

_SHOWN = 12


def network_for(
    contents: Contents,
    file: Path | str,
    *,
    backbone: str | None = None,
    weights: str | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> Backbone:
    """The network that makes the features that the probe reads.

    Args:
        contents: The export.
        file: Its name, for messages.
        backbone: The card, where it is not one of the package's; by default as it was recorded.
        weights: The file of its weights; by default those inside, or the card's own.
        announce: Called with a message before a download starts.

    Raises:
        InputError: The network or its weights are not here, or are others than those of the features.
    """
    about = contents.about
    if about.imported:
        raise InputError(
            f"{file}: the features of {about.backbone} were made elsewhere, so no network here makes "
            "them of images; give `load_probe(FILE).predict` an array of features."
        )
    card = _card(about, file, backbone)
    if contents.network:
        if weights is not None:
            raise InputError(f"--weights {weights}: {file} holds its weights; leave --weights out.")
        inside = tuned_network if about.network == "tuned" else _inside
        return inside(contents, card, file)
    found = _load(about, card, file, weights, announce)
    _check(about, found, file)
    return found


def needed_weights(contents: Contents) -> str:
    """The name of the file of weights that a person has to bring; empty where none has to be brought."""
    about = contents.about
    if contents.network or about.imported or not about.weights.get("file"):
        return ""
    card = card_from(about.card)
    return (
        ""
        if card.network.startswith("onnx:") or _at_hand(card, about)
        else str(about.weights["file"])
    )


def pooled_of(about: About, backbone: Backbone) -> Pooled:
    """The data set of the layer that the probe reads, under its pooling."""
    if about.network == "tuned":
        return tuned_pooled(about)
    (layer,) = choose(backbone.architecture, (about.layer,))
    return pooling.pooled(layer, about.pool if about.pool else "auto")


def _card(about: About, file: Path | str, backbone: str | None) -> Card:
    if backbone is not None:
        card = find(backbone)
        if card.name != about.card.get("name"):
            raise InputError(
                f"--backbone {backbone}: is {card.name}, and {file} was made with "
                f"{about.card.get('name')}; give the card of that one."
            )
        return card
    try:
        card = card_from(about.card)
    except InputError as error:
        raise InputError(
            f"{file}: the card of {about.backbone} in it does not read ({error}); give the card with "
            "--backbone CARD.toml."
        ) from error
    kind, _, rest = card.network.partition(":")
    name = kind if kind.endswith(".py") else rest
    of_file = kind.endswith(".py") or kind in ("caffe", "onnx")
    if of_file and card.file is None and not Path(name).expanduser().exists():
        raise InputError(
            f"{file}: {about.backbone} is made by the file {name}, which is not here; give its card with "
            "--backbone CARD.toml."
        )
    return card


def _load(
    about: About,
    card: Card,
    file: Path | str,
    weights: str | None,
    announce: Callable[[str], None],
) -> Backbone:
    """The backbone with the weights that are given, or its card's own."""
    if about.weights.get("random"):
        if weights not in (None, "random"):
            raise InputError(
                f"--weights {weights}: {file} was made with random weights; leave --weights out."
            )
        return load(card, "random", int(about.weights.get("seed", 0)), announce=announce)
    described = bool(about.weights) and not card.network.startswith("onnx:")
    if weights is None and described and not _at_hand(card, about):
        part = f"#{about.weights['part']}" if about.weights.get("part") else ""
        raise InputError(
            f"{file}: needs the weights of {card.name}, which are not here; give the file "
            f"{about.weights.get('file')}{part} (sha256 {_short(about.weights.get('sha256'))}) with "
            "--weights, or export --with-weights."
        )
    return load(card, weights, announce=announce, layers=lambda _, a: choose(a, (about.layer,)))


def _at_hand(card: Card, about: About) -> bool:
    """Whether the weights are the card's own, and here or to be fetched."""
    urls = [entry.url for entry in entries_of(card) if entry.url]
    name = Path(str(about.weights.get("file"))).name
    own = about.weights.get("verified") or not urls or name in {Path(url).name for url in urls}
    return bool(own) and (weights_files.here(card) or bool(urls))


def _inside(contents: Contents, card: Card, file: object) -> Backbone:
    """The backbone whose tensors stand in the file."""
    about = contents.about
    card = replace(card, input=input_from(about.input))
    model = build(card)
    architecture = architecture_of(card, model)
    own = model.state_dict()
    tensors = {name: tensor for name, tensor in contents.network.items() if name in own}
    lacking = [
        name
        for name, tensor in contents.network.items()
        if name not in own or own[name].shape != tensor.shape
    ]
    if lacking:
        raise InputError(
            f"{file}: {card.network} of {card.name} here has no {lacking[0]} like that in the file; give "
            "the card that it was made with as --backbone CARD.toml."
        )
    model.load_state_dict(tensors, strict=False)
    return Backbone(about.backbone, about.domain, architecture, model, None, 0)


def _check(about: About, found: Backbone, file: Path | str) -> None:
    """Refuse a network that would make other features than those that the probe was fitted on."""
    now = json.loads(json.dumps(network_of(found)))
    then = {**about.decisive, "network": _without_folder(about.decisive.get("network", ""))}
    now["network"] = _without_folder(now["network"])
    differ = [name for name, value in then.items() if now.get(name) != value]
    if not differ:
        return
    if differ == ["weights"]:
        raise InputError(
            f"{file}: was made with other weights of {about.card.get('name')} (sha256 "
            f"{_short(about.decisive['weights'])}, and these have {_short(now['weights'])}); give the "
            f"file {about.weights.get('file', '')} with --weights."
        )
    raise InputError(
        f"{file}: {about.card.get('name')} here has another {' and '.join(differ)} than the network that "
        "made the features; give the card that it was made with as --backbone CARD.toml."
    )


def _without_folder(network: str) -> str:
    """The network's name without the folder of its file, which may lie elsewhere here."""
    kind, _, rest = network.partition(":")
    if kind.endswith(".py"):
        return f"{Path(kind).name}:{rest}"
    return f"{kind}:{Path(rest).name}" if kind in ("caffe", "onnx") else network


def _short(digest: object) -> str:
    text = str(digest)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
