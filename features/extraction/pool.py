"""Convolutional maps to rows: pooling keeps wide layers at a size that a probe can use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from features.backbone import Layer
from features.errors import InputError
from features.store.featurefile import at_view

LIMIT = 9_216
"""The width that `auto` stays at or under: 256 x 6 x 6, AlexNet's pool5."""


@dataclass(frozen=True)
class Pooled:
    """One data set of a feature file: a layer under one pooling."""

    key: str
    """`LAYER`, or `LAYER:POOL` beside it; `@VIEW` after it for other views than the centre."""
    layer: Layer
    pool: str
    """`auto`, `avg`, `max`, `grid:K`; `none`: kept whole."""
    grid: int | None
    """The map is averaged to this many rows and columns; None: kept whole."""
    view: str = "center"
    """The mean over the crops of this view is kept."""

    @property
    def dim(self) -> int:
        """How many numbers one image gives."""
        if self.grid is None:
            return self.layer.size
        return self.layer.shape[0] * self.grid * self.grid


def plan(
    layers: Sequence[Layer], pools: Sequence[str], views: Sequence[str] = ("center",)
) -> list[Pooled]:
    """Which data sets `pools` make of `layers` under each of `views`, one view after the other.

    `auto` averages to the largest K x K with K at most the map's shorter side and K * K * channels
    at most 9,216; a layer that fits already is kept whole. A layer without a map is one data set
    under any pooling.

    Raises:
        InputError: A pooling is not `auto`, `none`, `avg`, `max` or `grid:K`.
    """
    for pool in pools:
        if re.fullmatch(r"auto|none|avg|max|grid:[1-9]\d*", pool) is None:
            raise InputError(f"--pool {pool}: not a pooling; use auto, none, avg, max or grid:K.")
    pools = list(dict.fromkeys(pools))
    found = [
        pooled(layer, pool, view)
        for view in views
        for layer in layers
        for pool in (pools if len(layer.shape) == 3 else pools[:1])
    ]
    keys = [one.key for one in found]
    if len(set(keys)) < len(keys):
        raise InputError(
            "--pool: auto and none would both be stored under the layer's own name; ask for one."
        )
    return found


def pooled(layer: Layer, pool: str, view: str = "center") -> Pooled:
    """One layer under one pooling; a layer without a map is kept whole under any."""
    flat = len(layer.shape) != 3
    name = layer.name if flat or pool in ("auto", "none") else f"{layer.name}:{pool}"
    return Pooled(at_view(name, view), layer, "none" if flat else pool, _grid(layer, pool), view)


def apply(x: Tensor, one: Pooled) -> Tensor:
    """`(n, channels, h, w)` or `(n, dim)` to `(n, one.dim)`, a copy."""
    if one.grid is None:
        rows = x.flatten(1)
        return rows.clone() if rows.data_ptr() == x.data_ptr() else rows
    if one.pool == "max":
        return x.amax((2, 3))
    if one.grid == 1:
        return x.mean((2, 3))
    return F.adaptive_avg_pool2d(x, one.grid).flatten(1)


def fitting(layer: Layer, room: float) -> str:
    """The pooling with the finest grid whose width is at most `room` numbers."""
    if len(layer.shape) == 3:
        for grid in range(min(layer.shape[1:]), 1, -1):
            if layer.shape[0] * grid * grid <= room:
                return f"grid:{grid}"
    return "avg"


def _grid(layer: Layer, pool: str) -> int | None:
    if len(layer.shape) != 3:
        return None
    channels, height, width = layer.shape
    if pool == "none" or (pool == "auto" and layer.size <= LIMIT):
        return None
    if pool in ("avg", "max"):
        return 1
    if pool == "auto":
        side = min(height, width)
        while side > 1 and side * side * channels > LIMIT:
            side -= 1
        return side
    return min(int(pool.removeprefix("grid:")), height, width)
