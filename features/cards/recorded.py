"""A card as feature files and exports record it, in JSON, and the card again that it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import tomlkit

from features.cards.card import Card, Input
from features.cards.reading import read_text, shipped
from features.errors import InputError, first_line

_NO_FILE = Path("card")


def card_from(recorded: Mapping[str, Any]) -> Card:
    """The card that `recorded` was made of: that of the package where it has one of this name.

    A card of a person's own comes back without its folder, so that paths in it are those of the folder
    at hand.

    Args:
        recorded: The fields of a card, as `dataclasses.asdict` gives them and JSON keeps them.

    Raises:
        InputError: It is no record of a card.
    """
    name = recorded.get("name")
    if not isinstance(name, str) or not name.strip("."):
        raise InputError(f"card: {name!r} is no name; export again.")
    ours = shipped()
    if name in ours:
        return ours[name]
    known = {field.name for field in fields(Card)} - {"file", "outputs"}
    values = {key: value for key, value in recorded.items() if key in known}
    declared = recorded.get("outputs") or {}
    if isinstance(values.get("layers"), dict) and isinstance(declared, dict):
        values["layers"] = {**values["layers"], **declared}
    # Names that no file could have, such as `timm:hf-hub:org/net`, are names of no card file.
    text = _toml({**values, "name": "recorded"})
    return replace(read_text(text, _NO_FILE), name=name, file=None)


def input_from(recorded: Mapping[str, Any]) -> Input:
    """The input that `recorded` was made of, checked as that of a card.

    Raises:
        InputError: It is no record of an input.
    """
    about = {"name": "recorded", "domain": "", "network": "", "input": recorded}
    card = read_text(_toml(about), _NO_FILE)
    assert card.input is not None
    return card.input


def _toml(values: Mapping[str, Any]) -> str:
    """The text of a card; what is None is left out.

    Raises:
        InputError: Something of it cannot stand in a card.
    """
    try:
        return tomlkit.dumps(_without_none(values))
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"card: holds what no card has ({first_line(error)}); export again."
        ) from error


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list | tuple) else value


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
