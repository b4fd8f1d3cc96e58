"""A card: the TOML file that describes a backbone, read and checked.

One file adds a backbone. Every mistake in a card is reported with its file, its line and,
where a name is wrong, the nearest valid one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from features.errors import InputError, nearest
from features.machine.regular_files import read_regular

MOST_PIXELS = 8192
"""A side of what a network is fed; a batch of larger images would not fit into any memory."""
CARDS = Path(__file__).parent
FORMATS = ("caffe", "matconvnet", "torch7", "keras", "pytorch", "safetensors", "npz")


OUTPUTS = ("map", "map channels last", "tokens", "vector")
"""What a layer's module can return for one image: `(c, h, w)`, `(h, w, c)`, `(tokens, c)`, `(dim,)`."""


@dataclass(frozen=True)
class Said:
    """What a card says of a layer's output, where the network does not show it."""

    module: str
    output: str | None = None
    """One of OUTPUTS."""
    prefix: int | None = None
    """Tokens in front of those of the patches."""
    cls: bool = False
    """The first of them is a class token."""


@dataclass(frozen=True)
class Input:
    """How an image becomes the network's input; sizes in pixels, height first."""

    size: tuple[int, int]
    """What the network is fed: the centre crop of the resized image."""
    resize: tuple[int, int] | int | None = None
    """To exactly (h, w), or the shorter side to one number; None: to `size`."""
    interpolation: str = "bilinear"
    """`bilinear` or `bicubic`, both antialiased."""
    channel_order: str = "rgb"
    scale: float = 1.0
    """Pixels are mapped from 0..255 to 0..scale."""
    mean: tuple[float, ...] | str = (0.0, 0.0, 0.0)
    """Subtracted after scaling, in `channel_order`: a number per channel, or a mean image's path."""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class WeightsEntry:
    """One published file of a backbone's weights."""

    path: str | None = None
    url: str | None = None
    format: str | None = None
    sha256: str | None = None
    sha1: str | None = None
    md5: str | None = None
    git_sha1: str | None = None
    """As `git hash-object` tells it."""
    channel_order: str | None = None
    """Of this file, where it differs from the input's; `mean` is then in this order too."""
    mean: tuple[float, ...] | str | None = None
    flatten: str | None = None
    """How a matrix that reads a map runs through it: `chw` or `hwc`; None: as its format does."""
    key: str | None = None
    """Where in the file the network stands, if it holds several: `teacher.backbone`."""
    rename: Mapping[str, str] | None = None
    """Patterns of names in the file, of a layer or whole, and what they are called in the network."""
    note: str | None = None

    @property
    def checksums(self) -> dict[str, str]:
        """The published ones, by kind."""
        kinds = ("sha256", "sha1", "md5", "git_sha1")
        return {kind: digest for kind in kinds if (digest := getattr(self, kind))}


@dataclass(frozen=True)
class Card:
    """A backbone as its card describes it."""

    name: str
    domain: str
    network: str
    options: Mapping[str, Any] = field(default_factory=dict)
    pretraining: str | None = None
    pair: str | None = None
    trained_on: tuple[str, ...] = ()
    licence: str | None = None
    citation: str | None = None
    homepage: str | None = None
    input: Input | None = None
    layers: Mapping[str, str] | None = None
    weights: tuple[WeightsEntry, ...] = ()
    file: Path | None = None
    """Where the card was read from; its paths start from that folder."""
    outputs: Mapping[str, Said] = field(default_factory=dict)
    """By layer, what the card says of its output."""

    def line(self, key: str) -> str:
        """Where `key` stands in the card, as the start of an error message."""
        if self.file is None:
            return self.name
        return _where(self.file, self.file.read_text(encoding="utf-8"), key)


def shipped() -> dict[str, Card]:
    """The cards of the package by name, in alphabetical order."""
    cards = [read_file(path) for path in sorted(CARDS.glob("*.toml"))]
    return {card.name: card for card in sorted(cards, key=lambda c: c.name)}


def find(name: str) -> Card:
    """The card called `name`, of a card file, or made up for a `torchvision:` or `timm:` network.

    Raises:
        InputError: There is no such card, or it has a mistake.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{name}: there is no such card file; check the path.")
        return read_file(path)
    if name.partition(":")[0] in ("torchvision", "timm") and ":" in name:
        return Card(name=name, domain="objects", network=name)
    cards = shipped()
    if name not in cards:
        raise InputError(
            f"{name}: there is no backbone of this name; {nearest(name, cards)} "
            "A card file (./mine.toml), torchvision:NAME and timm:NAME work too."
        )
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
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not a TOML file, {error}; mend that line.") from error
    source = _Source(path, text)
    values = source.check(raw, Card, "", skip=("file", "outputs"))
    name = str(values["name"])
    if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f\x7f]", name):
        source.refuse(
            "name", f"{name!r} cannot name a file; leave out slashes and control characters."
        )
    if "input" in raw:
        values["input"] = Input(**source.from_here(source.check(raw["input"], Input, "[input] ")))
    if "layers" in raw:
        if not isinstance(raw["layers"], dict):
            source.refuse("layers", '[layers] must be a table of NAME = "MODULE".')
        said = {layer: source.layer(layer, value) for layer, value in raw["layers"].items()}
        values["layers"] = {layer: about.module for layer, about in said.items()}
        values["outputs"] = {layer: about for layer, about in said.items() if about.output}
    if "weights" in raw:
        if not isinstance(raw["weights"], list):
            source.refuse("weights", "weights are [[weights]] tables, with two brackets.")
        values["weights"] = tuple(
            WeightsEntry(**source.from_here(source.check(entry, WeightsEntry, "[[weights]] ")))
            for entry in raw["weights"]
        )
    card = Card(**values, file=path)
    _check_values(card, source)
    return card


def _check_values(card: Card, source: _Source) -> None:
    if card.input is not None:
        if card.input.interpolation not in ("bilinear", "bicubic"):
            source.refuse("interpolation", "interpolation is bilinear or bicubic.")
        _check_order(card.input.channel_order, source)
        _check_mean(card.input.mean, source)
        if len(card.input.std) != 3 or min(card.input.std) <= 0:
            source.refuse("std", "std is three numbers above 0, one per channel.")
        if card.input.scale <= 0:
            source.refuse("scale", "scale is a number above 0: what a pixel of 255 becomes.")
        size, resize = card.input.size, card.input.resize
        for key, sides in (("size", size), ("resize", resize)):
            if sides is not None and not _are_sides(sides):
                source.refuse(key, f"{key} is 1 to {MOST_PIXELS} pixels a side.")
        if isinstance(resize, int):
            resize = (
                size if resize >= min(size) else (0, 0)
            )  # the longer side is the image's affair
        if resize is not None and (resize[0] < size[0] or resize[1] < size[1]):
            source.refuse("resize", f"resize is smaller than size {list(size)}, the crop.")
    for entry in card.weights:
        _check_conventions(card, entry, source)
        if entry.format is not None and entry.format not in FORMATS:
            source.refuse(
                "format", f"unknown format {entry.format}; {nearest(entry.format, FORMATS)}"
            )
        if (entry.path is None) == (entry.url is None):
            if entry.path is None and (entry.checksums or entry.format):
                continue  # a file the user brings, known by its checksum or else by its format
            source.refuse("weights", "[[weights]] needs a path, a url or a checksum.")


def _are_sides(sides: tuple[int, int] | int) -> bool:
    pair = (sides,) if isinstance(sides, int) else sides
    return all(1 <= side <= MOST_PIXELS for side in pair)


def _check_conventions(card: Card, entry: WeightsEntry, source: _Source) -> None:
    for pattern, name in (entry.rename or {}).items():
        try:
            groups = re.compile(pattern).groups
            fits = isinstance(name, str) and all(
                int(n) <= groups for n in re.findall(r"\\(\d+)", name)
            )
        except re.error:
            fits = False
        if not fits:
            source.refuse(
                "rename", f'rename is {{ "PATTERN" = "NAME" }}, and {pattern!r} is not one.'
            )
    if entry.flatten not in (None, "chw", "hwc"):
        source.refuse("flatten", "flatten is chw or hwc.")
    if entry.channel_order is not None:
        _check_order(entry.channel_order, source)
    if entry.mean is None:
        return
    _check_mean(entry.mean, source)
    own = card.input.channel_order if card.input else "rgb"
    if isinstance(entry.mean, str) and entry.channel_order not in (None, own):
        source.refuse("mean", f"a mean image has the channel order of [input], {own}.")


def _check_order(order: str, source: _Source) -> None:
    if sorted(order) != ["b", "g", "r"]:
        source.refuse("channel_order", "channel_order is rgb or bgr.")


def _check_mean(mean: tuple[float, ...] | str, source: _Source) -> None:
    if not isinstance(mean, str) and len(mean) != 3:
        source.refuse("mean", "mean is three numbers, one per channel.")


@dataclass(frozen=True)
class _Source:
    path: Path
    text: str

    def refuse(self, key: str, what: str) -> NoReturn:
        raise InputError(f"{_where(self.path, self.text, key)}: {what}")

    def check(
        self, raw: object, kind: type[Any], table: str, skip: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """The scalar and list values of `raw` that dataclass `kind` knows, in its own types."""
        if not isinstance(raw, dict):
            self.refuse(table.strip(" []"), f"{table.strip()} must be a table.")
        known = [f.name for f in fields(kind) if f.name not in skip]
        types = get_type_hints(kind)
        for key in raw:
            if key not in known:
                self.refuse(key, f"unknown key {table}{key}; {nearest(key, known)}")
        for f in fields(kind):
            required = f.default is f.default_factory  # both MISSING
            if required and f.name not in raw:
                raise InputError(f"{self.path}: {table}{f.name} is missing; add it.")
        values = {}
        for key, value in raw.items():
            if kind is Card and key in ("input", "layers", "weights"):
                continue
            values[key] = self._typed(key, value, types[key], table)
        return values

    def layer(self, name: str, value: object) -> Said:
        """What `[layers]` says of one layer: its module, or a table with it and what it returns."""
        odd = name in ("", ".", "..", "all", "best") or "/" in name or ":" in name
        if isinstance(value, str):
            value = {"module": value}
        if odd or not isinstance(value, dict):
            self.refuse(
                name, 'a layer is NAME = "MODULE", not all or best, its name without / and :.'
            )
        said = Said(**self.check(value, Said, "[layers] "))
        if said.output not in (None, *OUTPUTS):
            self.refuse(name, f"unknown output {said.output}; {nearest(said.output, OUTPUTS)}")
        if said.output != "tokens" and (said.prefix is not None or said.cls):
            self.refuse(name, 'prefix and cls are of output = "tokens".')
        if said.prefix is not None and said.prefix < (1 if said.cls else 0):
            self.refuse(name, "prefix is the number of tokens before those of the patches.")
        return said

    def from_here(self, values: dict[str, Any]) -> dict[str, Any]:
        """The same values, the path of a mean image made whole: it starts from the card's folder."""
        if isinstance(values.get("mean"), str):
            return {**values, "mean": str(self.path.parent / values["mean"])}
        return values

    def _typed(self, key: str, value: object, wanted: Any, table: str) -> object:
        value = tuple(value) if isinstance(value, list) else value
        for option in get_args(wanted) if _is_union(wanted) else (wanted,):
            if _fits(value, option):
                return value
        self.refuse(key, f"{table}{key} = {value!r} is not {_words(key, wanted)}.")


def _is_union(wanted: Any) -> bool:
    return type(None) in get_args(wanted) or " | " in str(wanted)


def _fits(value: object, wanted: Any) -> bool:
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is bool:
        return isinstance(value, bool)
    if wanted in (str, int):
        return isinstance(value, wanted) and not isinstance(value, bool)
    inner = get_args(wanted)
    if isinstance(value, tuple) and str(wanted).startswith("tuple"):
        if inner[-1] is Ellipsis:
            return all(_fits(v, inner[0]) for v in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    return isinstance(value, dict) and "Mapping" in str(wanted)


def _words(key: str, wanted: Any) -> str:
    if key in ("size", "resize"):
        return "[height, width] in pixels" + (" or one number" if key == "resize" else "")
    text = str(wanted)
    if text.startswith("tuple") or "tuple" in text:
        numbers = "a list of numbers" + (" or a path in quotes" if "str" in text else "")
        return numbers if "float" in text else "a list of words in quotes"
    if "Mapping" in text:
        return "a table { key = value }"
    if wanted is bool:
        return "true or false"
    return "a number" if wanted in (int, float) else "a text in quotes"


def _where(path: Path, text: str, key: str) -> str:
    """`FILE line N`, N being the first line where `key` is set; without N if it is not there."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(
            rf"\s*(\[\[?{re.escape(key)}\]|\"?{re.escape(key)}\"?\s*=|.*[{{,]\s*{re.escape(key)}\s*=)",
            line,
        ):
            return f"{path} line {number}"
    return str(path)
