"""A card: what describes a backbone, key by key; reading.py reads it from its TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.cards.toml_file import line_of
from features.machine.regular_files import read_regular

CARDS = Path(__file__).parent


@dataclass(frozen=True)
class DeclaredOutput:
    """A layer's module, and what kind of tensor it returns where the card declares it."""

    module: str
    output: str | None = None
    """One of OUTPUTS in reading.py."""
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
    """Of three channels `rgb` or `bgr`, of four `rgba` or `bgra`; `grey` of one."""
    scale: float = 1.0
    """Pixels are mapped from 0..255 to 0..scale."""
    mean: tuple[float, ...] | str = (0.0, 0.0, 0.0)
    """Subtracted after scaling, in `channel_order`: a number per channel, or a mean image's path."""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    canvas: tuple[int, int] | int | None = None
    """What ten crops and the crops of fine-tunes are cut from, as `resize`; None: what the centre is."""
    crop_offset: str = "round"
    """Half of an odd margin: `round` as in torchvision, `floor` as in transformers and Caffe."""
    range: tuple[float, float] | None = None
    """The values that are 0 and 255 in pictures with more than eight bits, black first."""

    def __post_init__(self) -> None:
        """Let a mean and SD that are not given have as many numbers as there are channels."""
        if self.channel_order == "gray":
            object.__setattr__(self, "channel_order", "grey")
        for name, default in (("mean", 0.0), ("std", 1.0)):
            if getattr(self, name) == (default,) * 3:
                object.__setattr__(self, name, (default,) * self.channels)

    @property
    def channels(self) -> int:
        """The number of channels: 1, 3 or 4."""
        return 1 if self.channel_order == "grey" else len(self.channel_order)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image as the network is fed it."""
        return (self.channels, *self.size)

    @property
    def floors(self) -> bool:
        """Whether half of an odd margin is rounded down, as Caffe does where a mean image is subtracted."""
        return self.crop_offset == "floor" or isinstance(self.mean, str)


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
    """As `git hash-object` prints it."""
    channel_order: str | None = None
    """Of this file, where it differs from the input's; `mean` is then in this order too."""
    mean: tuple[float, ...] | str | None = None
    flatten: str | None = None
    """In which order a fully connected layer reads a map, `chw` or `hwc`; None: the format's order."""
    key: str | None = None
    """The prefix of the network's tensors, if the file holds several networks: `teacher.backbone`."""
    rename: Mapping[str, str] | None = None
    """Regular expressions for names of layers or tensors in the file, and their names in the network."""
    note: str | None = None

    @property
    def checksums(self) -> dict[str, str]:
        """The published checksums, by kind."""
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
    outputs: Mapping[str, DeclaredOutput] = field(default_factory=dict)
    """By layer, the output that the card declares."""

    def line(self, key: str) -> str:
        """Where `key` stands in the card, as the start of an error message."""
        if self.file is None:
            return self.name
        return line_of(self.file, read_regular(self.file).decode("utf-8"), key)
