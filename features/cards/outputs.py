"""What a tensor of a network is, decided by how it changes with the size of the image.

An axis that grows with the image's height is rows, one that grows with its width columns, one that
grows with its area places; one that stays is channels. Tokens may have others in front of those of the
patches, a class token among them. Nothing is guessed: what cannot be told is no layer until its card
says it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isqrt, prod

from torch import nn

Shape = tuple[int, ...]
Grid = tuple[int, int]

LARGER = ((2, 3), (2, 2))
"""How many times the height and the width of a second image are those of the first; some take squares."""

_CHANNELS_FIRST = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.BatchNorm2d,
    nn.InstanceNorm2d,
    nn.LocalResponseNorm,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Upsample,
)
_CLASS_TOKEN = re.compile(r"(^|\.)(cls|class)_(token|embedding|embed)s?$|(^|\.)(cls|class_token)$")
_OUT_OF_ORDER = ("Hiera",)
"""Networks, by the start of their class's name, that keep patch tokens in another order than the image."""


@dataclass(frozen=True)
class Output:
    """What one image's tensor is."""

    kind: str
    """One of `card.OUTPUTS`."""
    prefix: int = 0
    """Tokens in front of those of the patches."""
    cls: bool = False
    """The first of them is a class token."""
    grid: Grid | None = None
    """Rows and columns of the patch tokens, where they are in the order of the image."""

    @property
    def words(self) -> str:
        """As the feature file and `probe layers` have it."""
        if self.kind != "tokens":
            return self.kind
        words = [f"tokens, prefix {self.prefix}"]
        words += [", the first a class token"] * self.cls
        words += [f", patches {self.grid[0]} x {self.grid[1]}"] if self.grid else []
        return "".join(words)

    def shape(self, raw: Shape) -> Shape:
        """`(channels, height, width)`, `(tokens, channels)` or `(dim,)` of a tensor of shape `raw`."""
        if self.kind == "vector":
            return (prod(raw),)
        if self.kind == "map channels last":
            return raw[2], raw[0], raw[1]
        return raw


@dataclass(frozen=True)
class Evidence:
    """What is known of a network beside the shapes of its tensors for one image."""

    class_token: bool = False
    """It has a class token."""
    clear: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """By number of tokens, those that no pixel had reached yet where they were first seen."""
    maps: frozenset[Grid] = frozenset()
    """Rows and columns of the maps that convolutions gave."""
    in_order: bool = True
    """Patch tokens are in the order of the image."""
    times: Grid = LARGER[0]
    """How many times as high and as wide the larger image is."""


def evidence(
    model: nn.Module, shapes: Mapping[str, Shape], clear: Mapping[int, tuple[int, ...]]
) -> Evidence:
    """What the parameters and convolutions of `model` tell; `shapes` are of one image, by module."""
    named = getattr(model, "has_class_token", None)
    if named is None:
        named = any(_CLASS_TOKEN.search(name) for name, _ in model.named_parameters())
    modules = dict(model.named_modules())
    maps = frozenset(
        (shape[1], shape[2])
        for name, shape in shapes.items()
        if len(shape) == 3 and isinstance(modules.get(name), nn.Conv2d)
    )
    in_order = not type(model).__name__.startswith(_OUT_OF_ORDER)
    return Evidence(bool(named), clear, maps, in_order)


def output_of(
    module: nn.Module, shape: Shape, larger: Shape | None, known: Evidence
) -> Output | str:
    """What a tensor of `shape` is, or why that cannot be told.

    Args:
        module: What returned it.
        shape: Of one image, without the batch axis.
        larger: Of a larger image; None where the network takes no other.
        known: Of the network.
    """
    if sum(side > 1 for side in shape) <= 1:
        return Output("vector")
    if larger is not None and len(larger) != len(shape):
        larger = None
    if len(shape) == 3:
        return _map(module, shape, larger, known.times)
    if len(shape) == 2:
        return _tokens(shape, larger, known)
    return f"it has {len(shape)} axes, and what they are cannot be told"


def _map(module: nn.Module, shape: Shape, larger: Shape | None, times: Grid) -> Output | str:
    if isinstance(module, _CHANNELS_FIRST):
        return Output("map")
    grown = larger and [_grown(a, b, times) for a, b in zip(shape, larger, strict=True)]
    if grown is not None and grown[0] == "stays" and _are(grown[1:], "rows", "columns"):
        return Output("map")
    if grown is not None and grown[2] == "stays" and _are(grown[:2], "rows", "columns"):
        return Output("map channels last")
    if larger is None or grown == ["stays"] * 3:
        # of an image of one size: a map of a square image is square
        first, last = shape[1] == shape[2] != shape[0], shape[0] == shape[1] != shape[2]
        norm = _normalised(module)
        if last and norm == (shape[2],):
            return Output("map channels last")
        if first and norm == (shape[0],):
            return Output("map")
    return "which of its three axes are channels cannot be told"


def _tokens(shape: Shape, larger: Shape | None, known: Evidence) -> Output | str:
    places = shape[0]
    clear = known.clear.get(places)
    if clear is not None and clear != tuple(range(len(clear))):
        return "its tokens of no patch do not come first"
    if larger is not None and larger[1] == shape[1] and larger[0] > places:
        patches, odd = divmod(larger[0] - places, prod(known.times) - 1)
        prefix = places - patches
        if clear is None and _rounded(places, larger[0], known.times):
            prefix, patches, odd = 0, places, 0
        if odd or prefix < 0 or (clear is not None and len(clear) != prefix):
            return "how many of its tokens are of patches cannot be told"
        return _of_patches(prefix, patches, known)
    if larger is not None and larger[0] == places and larger[1] > shape[1]:
        return "its channels come before its places"
    if clear is not None:
        return _of_patches(len(clear), places - len(clear), known)
    return "which of its two axes are tokens cannot be told"


def _rounded(patches: int, larger: int, times: Grid) -> bool:
    """Whether both are rows times columns of a square image, rounded on the way from the larger one."""
    side = isqrt(patches)
    return side * side == patches and any(
        larger % rows == 0
        and _are([_grown(side, n, times) for n in (rows, larger // rows)], "rows", "columns")
        for rows in range(times[0] * side - 1, times[0] * side + 2)
    )


def _of_patches(prefix: int, patches: int, known: Evidence) -> Output:
    grids = [grid for grid in known.maps if prod(grid) == patches]
    side = isqrt(patches)
    if not grids and side * side == patches and (side, side) in known.maps:
        grids = [(side, side)]
    grid = grids[0] if len(grids) == 1 and known.in_order else None
    return Output("tokens", prefix, prefix > 0 and known.class_token, grid)


def of_convolutions(shape: Shape) -> Output:
    """What a convolutional network's tensor of `shape` is: a map, or a vector."""
    return Output("map" if len(shape) == 3 and sum(side > 1 for side in shape) > 1 else "vector")


def as_said(
    kind: str, shape: Shape, prefix: int | None, cls: bool, known: Evidence
) -> Output | str:
    """What a card says that a tensor of `shape` is, or why it cannot be."""
    if kind.startswith("map") and len(shape) != 3:
        return f"has {len(shape)} axes, and a map has three"
    if kind != "tokens":
        return Output(kind)
    if len(shape) != 2:
        return f"has {len(shape)} axes, and tokens have two"
    if prefix is None:
        clear = known.clear.get(shape[0])
        if clear is None:
            return (
                "gives tokens, and how many of them stand before those of the patches is not told"
            )
        prefix = len(clear)
    if prefix >= shape[0]:
        return f"has {shape[0]} tokens, and prefix = {prefix} of them are of no patch"
    found = _of_patches(prefix, shape[0] - prefix, known)
    return Output("tokens", prefix, prefix > 0 and (cls or known.class_token), found.grid)


def _grown(side: int, larger: int, times: Grid) -> str:
    """Which axis of an image one that grew from `side` to `larger` goes with.

    Each may be rounded, and convolutions without padding take a few off it.
    """
    if larger == side:
        return "stays"
    rows, columns = (abs(larger - by * side) <= 2 * by for by in times)
    return "either" if rows and columns else "rows" if rows else "columns" if columns else "other"


def _are(grown: Sequence[str], *wanted: str) -> bool:
    return all(g in (w, "either") for g, w in zip(grown, wanted, strict=True))


def _normalised(module: nn.Module) -> Shape | None:
    """The channels that a module says it works on: of its last axis, or of the first."""
    shape = getattr(module, "normalized_shape", None)
    if shape is not None:
        return tuple(shape)
    for name in ("out_features", "num_features", "num_channels"):
        if isinstance(size := getattr(module, name, None), int):
            return (size,)
    return None
