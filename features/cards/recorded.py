"""A card as feature files and exports record it, in JSON, and the card again that it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from features.cards.card import Card, DeclaredOutput, Input, WeightsEntry
from features.cards.reading import shipped


def card_from(recorded: Mapping[str, Any]) -> Card:
    """The card that `recorded` was made of: that of the package where it has one of this name.

    A card of a person's own comes back without its folder, so that paths in it are those of the folder
    at hand.

    Args:
        recorded: The fields of a card, as `dataclasses.asdict` gives them and JSON keeps them.

    Raises:
        TypeError, ValueError, KeyError, AttributeError: It is no record of a card.
    """
    name = str(recorded["name"])
    ours = shipped()
    if name in ours:
        return ours[name]
    known = {field.name for field in fields(Card)}
    values = {key: value for key, value in recorded.items() if key in known}
    values["trained_on"] = tuple(values.get("trained_on") or ())
    if values.get("input") is not None:
        values["input"] = input_from(values["input"])
    values["weights"] = tuple(_entry(entry) for entry in values.get("weights") or ())
    values["outputs"] = {
        layer: DeclaredOutput(**declared)
        for layer, declared in (values.get("outputs") or {}).items()
    }
    values["file"] = None
    return Card(**values)


def input_from(recorded: Mapping[str, Any]) -> Input:
    """The input that `recorded` was made of; lists become the tuples that they were."""
    return Input(**{key: _tuple(value) for key, value in recorded.items()})


def from_anywhere(card: Card) -> Card:
    """The same card, its network and its weights named so that they are found from any folder."""
    kind, _, rest = card.network.partition(":")
    home = (card.file.parent if card.file else Path()).absolute()
    network = card.network
    if kind in ("caffe", "onnx"):
        network = f"{kind}:{home / Path(rest).expanduser()}"
    elif kind.endswith(".py"):
        network = f"{home / kind}:{rest}"
    weights = tuple(
        entry if entry.path is None else replace(entry, path=str(home / entry.path))
        for entry in card.weights
    )
    return replace(card, network=network, weights=weights)


def _entry(recorded: Mapping[str, Any]) -> WeightsEntry:
    return WeightsEntry(**{key: _tuple(value) for key, value in recorded.items()})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
