"""Suggestions for a name that is no backbone: similar names, or the card that a user's file needs."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from features.errors import nearest

_MOST = 4


def meant(name: str, cards: Iterable[str]) -> str:
    """The end of a message about an unknown backbone: what to write instead.

    Args:
        name: The unknown name.
        cards: The names of the cards that ship.
    """
    cards = list(cards)
    path, colon, function = name.partition(":")
    if path.endswith(".py"):
        written = name if colon and function else f"{path}:FUNCTION"
        return f"a network of your own needs a card: {card_for(Path(path).stem, written)}."
    if path in ("openclip", "open_clip"):
        return (
            "OpenCLIP's image networks are timm's vit_*_clip_* with other names of the weights, such as "
            "timm:vit_base_patch32_clip_224.openai; write one of those."
        )
    if name.endswith(".onnx"):
        return f"write onnx:{name}."
    if name.endswith(".prototxt"):
        return f"a Caffe network needs a card: {card_for(Path(name).stem, f'caffe:{name}')}."
    if (Path(name) / "config.json").is_file():
        return f"write hf:{name}."
    known = _libraries()
    same = [f"{library}:{name}" for library, names in known.items() if name in names]
    if same:
        return "did you mean " + " or ".join(same) + "?"
    bare = {card: [card] for card in cards}
    for library, names in known.items():
        for each in names:
            bare.setdefault(each, []).append(f"{library}:{each}")
    near = get_close_matches(name, bare, 3, 0.75) or [n for n in bare if name and name in n]
    close = [full for each in near for full in bare[each]]
    if close:
        return "did you mean " + " or ".join(close[:_MOST]) + "?"
    return (
        f"{nearest(name, cards)} A card file (./mine.toml), torchvision:NAME, timm:NAME, hf:NAME and "
        "onnx:FILE work too."
    )


def card_for(name: str, network: str, size: Sequence[int] = (224, 224)) -> str:
    """The part of a message that tells which card to write, and how to use it."""
    return (
        f'write {name}.toml with name = "{name}", domain = "...", network = "{network}" and [input] size = '
        f"{list(size)}, scale, mean and std, and give --backbone ./{name}.toml"
    )


def _libraries() -> dict[str, list[str]]:
    """The names of the networks of torchvision and, where it is installed, timm."""
    names = {}
    for library, models in (("torchvision", "torchvision.models"), ("timm", "timm")):
        with suppress(ImportError):
            names[library] = list(importlib.import_module(models).list_models())
    return names
