"""A tensor of a file in the shape and order in which the network reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import torch
from torch import Tensor, nn

from features.weights.flatten import Chart, Reading

Readings = Callable[[], Mapping[str, Reading | None]]


def laid_out(
    blob: Tensor, name: str, shape: tuple[int, ...], flatten: str | None, readings: Readings
) -> Tensor | None:
    """The blob in the network's shape, or None if it is not the same layer.

    A fully connected layer may be stored as a matrix or as filters, in the file as in the network.
    The columns of a matrix that reads a map are in the order `flatten`, None being the network's order;
    filters have axes of their own.

    Args:
        blob: A tensor of the file; on the `meta` device only its shape is compared with the network's.
        name: The network's name for it.
        shape: The shape of the network's tensor.
        flatten: `chw`, `hwc` or None.
        readings: Gives what the network's matrices read, for which it runs once.
    """
    sides = tuple(blob.shape)
    if len(shape) == 1:
        if prod(sides) != shape[0] or max(sides, default=1) != shape[0]:
            return None
        return _turned(blob.reshape(shape), name, flatten, readings)
    if len(shape) == 2 and len(sides) == 4 and name.endswith(".weight"):
        if sides[0] != shape[0] or prod(sides[1:]) != shape[1]:
            return None
        if sides[2:] == (1, 1):
            return blob.reshape(shape)
        reading = readings().get(name)
        if reading is None or reading.charts != ((0, sides[1:]),):
            return None
        return _turned(blob.reshape(shape), name, "chw", readings)
    if len(shape) == 4 and len(sides) == 2 and sides == (shape[0], prod(shape[1:])):
        channels, rows, columns = shape[1:]
        blob = _channels_first(blob, (channels, rows, columns)) if flatten == "hwc" else blob
        return blob.reshape(shape)
    if sides != shape:
        return None
    return _turned(blob, name, flatten, readings) if len(shape) == 2 else blob


def variance(root: Tensor, module: nn.Module) -> Tensor:
    """The running variance whose sum with the module's own epsilon has this root."""
    epsilon = float(getattr(module, "eps", 0.0))
    return (root.to(torch.float64).square() - epsilon).clamp(min=0.0)


def _turned(blob: Tensor, name: str, flatten: str | None, readings: Readings) -> Tensor:
    if flatten is None or blob.is_meta:
        return blob
    reading = readings().get(name)
    return blob if reading is None else reading.turned(blob, flatten)


def _channels_first(matrix: Tensor, chart: Chart) -> Tensor:
    """A matrix, its columns put from (height, width, channels) into (channels, height, width) order."""
    channels, rows, columns = chart
    apart = matrix.reshape(len(matrix), rows, columns, channels)
    return apart.permute(0, 3, 1, 2).reshape(len(matrix), -1)
