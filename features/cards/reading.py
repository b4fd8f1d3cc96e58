"""Reading a card: the TOML file that describes a backbone, checked key by key.

Every mistake in a card is reported with its file, its line and, where a name is wrong, the nearest
valid one.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from math import inf, isfinite
from pathlib import Path
from typing import Any

from features.cards.card import CARDS, Card, DeclaredOutput, Input, WeightsEntry
from features.cards.layer_names import may_be_called
from features.cards.suggestions import meant
from features.cards.toml_file import TomlFile
from features.cards.usable_input import MOST_PIXELS, are_sides
from features.errors import InputError, nearest
from features.formats import FORMATS
from features.machine.regular_files import read_regular

_NUMBERS = {1: "one number in brackets", 3: "three numbers", 4: "four numbers"}


OUTPUTS = ("map", "map channels last", "tokens", "vector")
"""What a layer's module can return for one image: `(c, h, w)`, `(h, w, c)`, `(tokens, c)`, `(dim,)`."""


def shipped() -> dict[str, Card]:
    """The cards of the package by name, in alphabetical order."""
    return {card.name: card for card in _of_the_package()}


@cache
def _of_the_package() -> list[Card]:
    """Read once in a process: a command asks for them several times."""
    cards = [read_file(path) for path in sorted(CARDS.glob("*.toml"))]
    return sorted(cards, key=lambda card: card.name)


def find(name: str) -> Card:
    """The card of a backbone: one of the package, a card file, or a new one for `torchvision:` or `timm:`.

    Raises:
        InputError: There is no such card, or it has a mistake.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{name}: there is no such card file; check the path.")
        return read_file(path)
    kind, _, of_kind = name.partition(":")
    source, _, place = of_kind.replace("hf_hub:", "hf-hub:", 1).partition(":")
    if kind == "timm" and place:
        # what it needs reads cards
        from features.cards.timm_folder import SOURCES, card_of_folder

        if source in SOURCES:
            return card_of_folder(source, place)
    if kind in ("torchvision", "timm") and of_kind:
        return Card(name=name, domain="objects", network=name)
    if kind == "onnx" and of_kind:
        return Card(name=f"onnx:{Path(of_kind).stem}", domain="unknown", network=name)
    if kind == "hf" and of_kind:
        # a folder is named by its last part, as a card is by its name wherever it lies
        path = Path(of_kind)
        short = path.absolute().name if path.is_dir() or path.is_absolute() else of_kind
        return Card(name=f"hf:{short}", domain="unknown", network=name)
    cards = shipped()
    if name not in cards:
        raise InputError(f"{name}: there is no backbone of this name; {meant(name, cards)}")
    return cards[name]


def read_file(path: Path) -> Card:
    """Read and check one card.

    Raises:
        InputError: The file is not TOML, or a key is missing, unknown or of the wrong kind.
    """
    try:
        text = read_regular(path).decode("utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: not a text file; give a card, a TOML file.") from error
    return read_text(text, path)


def read_text(text: str, path: Path) -> Card:
    """The card that a text is, checked.

    Args:
        text: TOML.
        path: The file that it is of, from whose folder its paths start.

    Raises:
        InputError: As in `read_file`.
    """
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "nested too deeply"
        raise InputError(f"{path}: not a TOML file, {why}; correct that line.") from error
    toml = TomlFile(path, text)
    values = toml.check(
        raw, Card, "", not_keys=("file", "outputs"), nested=("input", "layers", "weights")
    )
    name = str(values["name"])
    if name.strip() in ("", ".", "..") or re.search(r"[/\\\x00-\x1f\x7f]", name):
        toml.refuse(
            "name", f"{name!r} cannot name a file; leave out slashes and control characters."
        )
    if "input" in raw:
        given = _with_mean_path(toml, toml.check(raw["input"], Input, "[input] "))
        _check_order(given.get("channel_order", "rgb"), toml)
        values["input"] = Input(**given)
    if "layers" in raw:
        if not isinstance(raw["layers"], dict):
            toml.refuse("layers", '[layers] must be a table of NAME = "MODULE".')
        declared = {
            layer: _layer_output(toml, layer, value) for layer, value in raw["layers"].items()
        }
        values["layers"] = {layer: output.module for layer, output in declared.items()}
        values["outputs"] = {layer: output for layer, output in declared.items() if output.output}
    if "weights" in raw:
        if not isinstance(raw["weights"], list):
            toml.refuse("weights", "weights are [[weights]] tables, with two brackets.")
        values["weights"] = tuple(
            WeightsEntry(**_with_mean_path(toml, toml.check(entry, WeightsEntry, "[[weights]] ")))
            for entry in raw["weights"]
        )
    card = Card(**values, file=path)
    _check_values(card, toml)
    return card


def _layer_output(toml: TomlFile, name: str, value: object) -> DeclaredOutput:
    """What `[layers]` says of one layer: its module, or a table with it and what it returns."""
    if isinstance(value, str):
        value = {"module": value}
    if not may_be_called(name) or not isinstance(value, dict):
        toml.refuse(name, 'a layer is NAME = "MODULE", not all or best, its name without / and :.')
    declared = DeclaredOutput(**toml.check(value, DeclaredOutput, "[layers] "))
    if declared.output not in (None, *OUTPUTS):
        toml.refuse(name, f"unknown output {declared.output}; {nearest(declared.output, OUTPUTS)}")
    if declared.output != "tokens" and (declared.prefix is not None or declared.cls):
        toml.refuse(name, 'prefix and cls go with output = "tokens" alone.')
    if declared.prefix is not None and declared.prefix < (1 if declared.cls else 0):
        toml.refuse(name, "prefix is the number of tokens before those of the patches.")
    return declared


def _with_mean_path(toml: TomlFile, values: dict[str, Any]) -> dict[str, Any]:
    """The same values; the path of a mean image, which starts from the card's folder, made complete."""
    if isinstance(values.get("mean"), str):
        return {**values, "mean": str(toml.path.parent / values["mean"])}
    return values


def _check_values(card: Card, toml: TomlFile) -> None:
    if card.input is not None:
        if card.input.interpolation not in ("bilinear", "bicubic"):
            toml.refuse("interpolation", "interpolation is bilinear or bicubic.")
        if card.input.crop_offset not in ("round", "floor"):
            toml.refuse("crop_offset", "crop_offset is round or floor.")
        channels = card.input.channels
        _check_mean(card.input.mean, channels, toml)
        if len(card.input.std) != channels or not all(0 < value < inf for value in card.input.std):
            toml.refuse("std", f"std is {_NUMBERS[channels]} above 0, one per channel.")
        bounds = card.input.range
        if bounds is not None and not -inf < bounds[0] < bounds[1] < inf:
            toml.refuse(
                "range", "range is [BLACK, WHITE], two numbers of which the first is lower."
            )
        if not 0 < card.input.scale < inf:
            toml.refuse("scale", "scale is a number above 0: what a pixel of 255 becomes.")
        size, resize = card.input.size, card.input.resize
        for key, sides in (("size", size), ("resize", resize), ("canvas", card.input.canvas)):
            if sides is not None and not are_sides(sides):
                toml.refuse(key, f"{key} is 1 to {MOST_PIXELS} pixels a side.")
        if isinstance(resize, int):
            # how long the other side is, depends on the image
            resize = size if resize >= min(size) else (0, 0)
        if resize is not None and (resize[0] < size[0] or resize[1] < size[1]):
            toml.refuse("resize", f"resize is smaller than size {list(size)}, the crop.")
        canvas = card.input.canvas
        if isinstance(canvas, int):
            canvas = (canvas, canvas)
        if canvas is not None and (canvas[0] < size[0] or canvas[1] < size[1]):
            toml.refuse("canvas", f"canvas is smaller than size {list(size)}, the crop.")
    for entry in card.weights:
        _check_conventions(card, entry, toml)
        if entry.format is not None and entry.format not in FORMATS:
            toml.refuse(
                "format", f"unknown format {entry.format}; {nearest(entry.format, FORMATS)}"
            )
        if (entry.path is None) == (entry.url is None):
            if entry.path is None and (entry.checksums or entry.format):
                continue  # a file that the user has, recognised by its checksum or its format
            toml.refuse("weights", "[[weights]] needs a path, a url or a checksum.")


def _check_conventions(card: Card, entry: WeightsEntry, toml: TomlFile) -> None:
    for pattern, name in (entry.rename or {}).items():
        if not _is_rule(pattern, name):
            toml.refuse(
                "rename", f'rename is {{ "PATTERN" = "NAME" }}, and {pattern!r} is not one.'
            )
    if entry.flatten not in (None, "chw", "hwc"):
        toml.refuse("flatten", "flatten is chw or hwc.")
    own = card.input.channel_order if card.input else "rgb"
    if entry.channel_order is not None and sorted(entry.channel_order) != sorted(own):
        toml.refuse(
            "channel_order",
            f"channel_order of a file has the channels of [input], {own}, in another order.",
        )
    if entry.mean is None:
        return
    _check_mean(entry.mean, card.input.channels if card.input else 3, toml)
    if isinstance(entry.mean, str) and entry.channel_order not in (None, own):
        toml.refuse("mean", f"a mean image has the channel order of [input], {own}.")


def _is_rule(pattern: str, name: object) -> bool:
    """Whether a pattern is a regular expression and its name speaks of no other groups than it has."""
    if not isinstance(name, str):
        return False
    try:
        re.compile(pattern).sub(name, "")  # which reads the name too
    except (re.error, IndexError, OverflowError, RecursionError):
        return False
    return True


def _check_order(order: str, toml: TomlFile) -> None:
    if order not in ("grey", "gray") and sorted(order) not in (sorted("rgb"), sorted("rgba")):
        toml.refuse("channel_order", "channel_order is rgb or bgr, or grey, rgba or bgra.")


def _check_mean(mean: tuple[float, ...] | str, channels: int, toml: TomlFile) -> None:
    if not isinstance(mean, str) and not (len(mean) == channels and all(map(isfinite, mean))):
        toml.refuse("mean", f"mean is {_NUMBERS[channels]}, one per channel.")
