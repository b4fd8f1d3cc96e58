"""The kind of tensor that a module returns, decided by how its shape changes with the size of the image.

An axis that grows with the image's height is rows, one that grows with its width columns, one that
grows with its area places; one that stays is channels. Tokens may have others in front of those of the
patches, a class token among them. Nothing is guessed: what cannot be decided is no layer until a card
declares it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isqrt, prod

from torch import nn

from features.cards.card import DeclaredOutput

Shape = tuple[int, ...]
Grid = tuple[int, int]

LARGER = ((2, 3), (2, 2))
"""Height and width of a second image as multiples of the first's; some networks take squares alone."""

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
CLASS_TOKEN = re.compile(r"(^|\.)(cls|class)_(token|embedding|embed)s?$|(^|\.)(cls|class_token)$")
_OUT_OF_ORDER = ("Hiera",)
"""Networks, by the start of their class's name, that keep patch tokens in another order than the image."""


@dataclass(frozen=True)
class Output:
    """The kind of tensor that one image gives."""

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
        """The output in words, as the feature file and `probe layers` show it."""
        if self.kind != "tokens":
            return self.kind
        words = [f"tokens, prefix {self.prefix}"]
        words += [", the first a class token"] * self.cls
        words += [f", patches {self.grid[0]} x {self.grid[1]}"] if self.grid else []
        return "".join(words)

    def shape(self, raw: Shape) -> Shape:
        """The shape `raw` of a tensor as `(channels, height, width)`, `(tokens, channels)` or `(dim,)`."""
        if self.kind == "vector":
            return (prod(raw),)
        if self.kind == "map channels last":
            return raw[2], raw[0], raw[1]
        return raw


@dataclass(frozen=True)
class Evidence:
    """What is known of a network beside the shapes of its tensors for one image."""

    class_token: bool = False
    """Whether the network has a class token."""
    clear: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """By number of tokens, the indices of those that do not depend on any pixel where they first occur."""
    maps: frozenset[Grid] = frozenset()
    """Rows and columns of the maps that convolutions return."""
    in_order: bool = True
    """Whether patch tokens are in the order of the image."""
    times: Grid = LARGER[0]
    """How many times as high and as wide the larger image is."""


def evidence_of(
    model: nn.Module, shapes: Mapping[str, Shape], clear: Mapping[int, tuple[int, ...]]
) -> Evidence:
    """What the parameters and convolutions of `model` show; `shapes` are of one image, by module."""
    class_token = getattr(model, "has_class_token", None)
    if class_token is None:
        class_token = any(CLASS_TOKEN.search(name) for name, _ in model.named_parameters())
    convolutions = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) or getattr(module, "operation", None) == "Conv"
    }
    maps = frozenset(
        (shape[1], shape[2])
        for name, shape in shapes.items()
        if len(shape) == 3 and name in convolutions
    )
    in_order = not type(model).__name__.startswith(_OUT_OF_ORDER)
    return Evidence(bool(class_token), clear, maps, in_order)


def output_of(
    module: nn.Module, shape: Shape, larger: Shape | None, evidence: Evidence
) -> Output | str:
    """The kind of a tensor, or why it cannot be told.

    Args:
        module: The module that returned it.
        shape: Its shape for one image, without the batch axis.
        larger: Its shape for a larger image; None where the network takes no other size.
        evidence: What else is known of the network.
    """
    if sum(side > 1 for side in shape) <= 1:
        return Output("vector")
    if larger is not None and len(larger) != len(shape):
        larger = None
    if len(shape) == 3:
        return _map(module, shape, larger, evidence.times)
    if len(shape) == 2:
        return _tokens(shape, larger, evidence)
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


def _tokens(shape: Shape, larger: Shape | None, evidence: Evidence) -> Output | str:
    places = shape[0]
    clear = evidence.clear.get(places)
    if clear is not None and clear != tuple(range(len(clear))):
        return "its tokens of no patch do not come first"
    if larger is not None and larger[1] == shape[1] and larger[0] > places:
        patches, odd = divmod(larger[0] - places, prod(evidence.times) - 1)
        prefix = places - patches
        if clear is None and _rounded(places, larger[0], evidence.times):
            prefix, patches, odd = 0, places, 0
        if odd or prefix < 0 or (clear is not None and len(clear) != prefix):
            return "how many of its tokens are of patches cannot be told"
        return _of_patches(prefix, patches, evidence)
    if larger is not None and larger[0] == places and larger[1] > shape[1]:
        return "its channels come before its places"
    if clear is not None:
        return _of_patches(len(clear), places - len(clear), evidence)
    return "which of its two axes are tokens cannot be told"


def _rounded(patches: int, larger: int, times: Grid) -> bool:
    """Whether two numbers of places are rows times columns of the two images, each side rounded."""
    side = isqrt(patches)
    return side * side == patches and any(
        larger % rows == 0
        and _are([_grown(side, n, times) for n in (rows, larger // rows)], "rows", "columns")
        for rows in range(times[0] * side - 1, times[0] * side + 2)
    )


def _of_patches(prefix: int, patches: int, evidence: Evidence) -> Output:
    grids = [grid for grid in evidence.maps if prod(grid) == patches]
    side = isqrt(patches)
    if not grids and side * side == patches and (side, side) in evidence.maps:
        grids = [(side, side)]
    grid = grids[0] if len(grids) == 1 and evidence.in_order else None
    return Output("tokens", prefix, prefix > 0 and evidence.class_token, grid)


def convolutional_output(shape: Shape) -> Output:
    """The kind of a convolutional network's tensor of `shape`: a map, or a vector."""
    return Output("map" if len(shape) == 3 and sum(side > 1 for side in shape) > 1 else "vector")


def declared_output(declared: DeclaredOutput, shape: Shape, evidence: Evidence) -> Output | str:
    """The kind that a card declares for a tensor of `shape`, or why the tensor cannot be of that kind."""
    kind, prefix = declared.output, declared.prefix
    assert kind is not None
    if kind.startswith("map") and len(shape) != 3:
        return f"has {len(shape)} axes, and a map has three"
    if kind != "tokens":
        return Output(kind)
    if len(shape) != 2:
        return f"has {len(shape)} axes, and tokens have two"
    if prefix is None:
        clear = evidence.clear.get(shape[0])
        if clear is None:
            return (
                "gives tokens, and how many of them stand before those of the patches is not told"
            )
        prefix = len(clear)
    if prefix >= shape[0]:
        return f"has {shape[0]} tokens, and prefix = {prefix} of them are of no patch"
    grid = _of_patches(prefix, shape[0] - prefix, evidence).grid
    cls = prefix > 0 and (declared.cls or evidence.class_token)
    return Output("tokens", prefix, cls, grid)


def _grown(side: int, larger: int, times: Grid) -> str:
    """The axis of the image with which an axis of a tensor grew from `side` to `larger`.

    Each may be rounded, and convolutions without padding take a few off it.
    """
    if larger == side:
        return "stays"
    rows, columns = (abs(larger - by * side) <= 2 * by for by in times)
    return "either" if rows and columns else "rows" if rows else "columns" if columns else "other"


def _are(grown: Sequence[str], *wanted: str) -> bool:
    return all(g in (w, "either") for g, w in zip(grown, wanted, strict=True))


def _normalised(module: nn.Module) -> Shape | None:
    """The number of channels that a module's attributes give: of its last axis, or of the first."""
    shape = getattr(module, "normalized_shape", None)
    if shape is not None:
        return tuple(shape)
    for name in ("out_features", "num_features", "num_channels"):
        if isinstance(size := getattr(module, name, None), int):
            return (size,)
    return None
