"""Pooling maps and tokens to rows, so that wide layers have a size that a probe can use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from features.backbone import Layer
from features.errors import InputError, OptionError
from features.store.featurefile import at_view

LIMIT = 9_216
"""The largest width of `auto`: 256 x 6 x 6, as AlexNet's pool5 has."""
_POOLS = re.compile(r"auto|none|avg|max|cls|cls\+avg|grid:[1-9]\d*")


@dataclass(frozen=True)
class Pooled:
    """One data set of a feature file: a layer under one pooling."""

    key: str
    """`LAYER`, or `LAYER:POOL` for another pooling, followed by `@VIEW` for other views than the centre."""
    layer: Layer
    pool: str
    """`auto`, `avg`, `max`, `grid:K`, for tokens `cls` and `cls+avg` too; `none`: not pooled."""
    grid: int | None
    """The map is averaged to this many rows and columns; None: not pooled, or tokens without a grid."""
    view: str = "center"
    """The mean over the crops of this view is stored."""

    @property
    def dim(self) -> int:
        """Numbers per image."""
        if self.layer.output.kind == "tokens" and self.pool != "none":
            channels = self.layer.shape[1]
            return channels * {"cls+avg": 2}.get(self.pool, (self.grid or 1) ** 2)
        if self.grid is None:
            return self.layer.size
        return self.layer.shape[0] * self.grid * self.grid


def plan(
    layers: Sequence[Layer], pools: Sequence[str], views: Sequence[str] = ("center",)
) -> list[Pooled]:
    """The data sets of `layers` under `pools` and `views`, one view after the other.

    Of a map, `auto` averages to the largest K x K with K at most the map's shorter side and K * K *
    channels at most 9,216; a smaller map is not pooled. Of tokens, `auto` is the class token,
    or the average where there is none; `avg` and `grid:K` are of the patches' tokens alone. A vector
    is one data set under any pooling, and only tokens with a class token have a `cls`.

    Raises:
        InputError: One of `pools` is no pooling, or no layer has it.
    """
    for pool in pools:
        if _POOLS.fullmatch(pool) is None:
            raise OptionError(
                f"--pool {pool}: not a pooling; use auto, none, avg, max or grid:K, for tokens cls or "
                "cls+avg."
            )
    pools = list(dict.fromkeys(pools))
    wanted = [
        pooled(layer, pool, view)
        for view in views
        for layer in layers
        for pool in (pools[:1] if layer.output.kind == "vector" else pools)
        if _has(layer, pool)
    ]
    keys = [data_set.key for data_set in wanted]
    if len(set(keys)) < len(keys):
        raise OptionError(
            "--pool: auto and none would both be stored under the layer's own name; ask for one."
        )
    if not wanted:
        raise InputError(
            f"--pool {pools[0]}: none of the layers has a class token; use auto or avg."
        )
    return wanted


def pooled(layer: Layer, pool: str, view: str = "center") -> Pooled:
    """The data set of a layer under a pooling; a vector is never pooled.

    Raises:
        InputError: A grid of tokens is asked for, and their places are not known; or there is no such
            pooling, as in a damaged file.
    """
    if not _POOLS.fullmatch(pool):
        raise InputError(f"{layer.name}: {pool!r} is no pooling; extract the backbone again.")
    flat = layer.output.kind == "vector"
    name = layer.name if flat or pool in ("auto", "none") else f"{layer.name}:{pool}"
    return Pooled(at_view(name, view), layer, "none" if flat else pool, _grid(layer, pool), view)


def apply(x: Tensor, pooled: Pooled) -> Tensor:
    """A module's output `(n, ...)` as features `(n, pooled.dim)`, a copy."""
    output = pooled.layer.output
    if output.kind == "tokens" and pooled.pool != "none":
        return _of_tokens(x, pooled)
    if output.kind == "map channels last":
        x = x.permute(0, 3, 1, 2)
    if pooled.grid is None:
        rows = x.flatten(1)
        return rows.clone() if rows.data_ptr() == x.data_ptr() else rows
    if pooled.pool == "max":
        return x.amax((2, 3))
    if pooled.grid == 1:
        return x.mean((2, 3))
    return F.adaptive_avg_pool2d(x, pooled.grid).flatten(1)


def _of_tokens(x: Tensor, pooled: Pooled) -> Tensor:
    output = pooled.layer.output
    patches = x[:, output.prefix :]
    if pooled.pool == "cls" or (pooled.pool == "auto" and output.cls):
        return x[:, 0].clone()
    if pooled.pool == "max":
        return patches.amax(1)
    if pooled.pool == "cls+avg":
        return torch.cat([x[:, 0], patches.mean(1)], 1)
    if pooled.grid in (None, 1):
        return patches.mean(1)
    assert output.grid is not None
    places = patches.transpose(1, 2).reshape(len(x), x.shape[2], *output.grid)
    return F.adaptive_avg_pool2d(places, pooled.grid).flatten(1)


def fitting(layer: Layer, room: float) -> str:
    """The pooling with the finest grid that has at most `room` numbers."""
    if layer.output.kind.startswith("map"):
        for grid in range(min(layer.shape[1:]), 1, -1):
            if layer.shape[0] * grid * grid <= room:
                return f"grid:{grid}"
    return "avg"


def _has(layer: Layer, pool: str) -> bool:
    """Whether a layer has a pooling: `cls` needs a class token."""
    return layer.output.kind == "vector" or layer.output.cls or not pool.startswith("cls")


def _grid(layer: Layer, pool: str) -> int | None:
    if layer.output.kind == "tokens" and pool.startswith("grid:"):
        if layer.output.grid is None:
            raise InputError(
                f"--pool {pool}: where on the image the tokens of {layer.name} lie is not known; use "
                "avg."
            )
        return min(int(pool.removeprefix("grid:")), *layer.output.grid)
    if not layer.output.kind.startswith("map"):
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
