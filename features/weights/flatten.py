"""The order in which a network reads flattened maps, shown by running it on marked values.

In the run every map `(channels, height, width)` holds, instead of the computed values, the numbers of
its elements, each number once in the whole network. An operation that keeps a map's shape keeps its
marks, one that moves elements moves them, and one that mixes them (a product with weights, a mean) gives
zeros. So the input of a fully connected layer shows, column by column, what that column reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from features.weights.needed import tensors_in

_MAPS = {
    "convolution", "_convolution", "max_pool2d", "max_pool2d_with_indices", "avg_pool2d",
    "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "mean", "amax",
    "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
    "upsample_nearest2d", "upsample_bilinear2d", "mkldnn_convolution", "thnn_conv2d",
}  # fmt: skip
_PRODUCTS = {"addmm", "mm", "linear", "bmm", "baddbmm", "addbmm", "matmul", "mv", "addmv"}
_REDUCED = {"mean", "sum", "amax", "amin", "max", "min", "norm", "linalg_vector_norm"}
_MARKS = 1 << 24  # whole numbers that float32 can represent

Chart = tuple[int, int, int]


@dataclass(frozen=True)
class Reading:
    """The elements of maps that a matrix's columns read, or to which a vector's numbers belong."""

    columns: Tensor
    """`(width,)`: the number of each column's element where all maps are flattened channels first."""
    charts: tuple[tuple[int, Chart], ...]
    """The first column of each map, and its sides."""

    def turned(self, blob: Tensor, flatten: str) -> Tensor:
        """`blob` in the network's order; its last axis has the elements of maps in the order `flatten`."""
        places = self.columns
        if flatten == "hwc":
            places = places.clone()
            for start, (channels, rows, columns) in self.charts:
                end = start + channels * rows * columns
                element = self.columns[start:end] - start
                channel, spot = element // (rows * columns), element % (rows * columns)
                places[start:end] = start + spot * channels + channel
        return blob[..., places]


def readings(model: nn.Module, shape: tuple[int, ...]) -> Mapping[str, Reading | None]:
    """What a matrix, or a vector applied to flattened maps, reads, by its name.

    Those that read no map are left out; None stands for an order that the marks do not show.

    Args:
        model: The network with weights of any values; it runs once.
        shape: Channels, height and width of an image.
    """
    marking = _Marking(model)
    was = model.training
    model.eval()
    try:
        with torch.no_grad(), marking:
            model(torch.zeros(1, *shape))
    finally:
        model.train(was)
    return marking.read()


class _Marking(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        state = model.state_dict(keep_vars=True)
        self._names: dict[int, list[str]] = {}
        for name, tensor in state.items():
            if tensor.dim() in (1, 2):
                self._names.setdefault(tensor.untyped_storage()._cdata, []).append(name)
        self._most = max((t.shape[1] for t in state.values() if t.dim() == 2), default=0)
        self._next = 1
        self._maps: list[tuple[int, Chart]] = []
        self._sizes: set[int] = set()
        self._inputs: dict[str, list[Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = list(tensors_in((args, kwargs)))
        name = func.overloadpacket.__name__.removesuffix("_")
        self._note(name, given)
        marked = [tensor.clone() for tensor in given if self._is_marked(tensor)]
        out = func(*args, **(kwargs or {}))
        first = next(tensors_in(out), None)
        if first is None or not first.is_floating_point() or first.is_meta:
            return out
        if name in _MAPS and first.dim() == 4 and self._fits(first):
            self._mark(first)
        elif name in _PRODUCTS or (name in _REDUCED and first.numel() < given[0].numel()):
            first.zero_()
        elif marked and not self._is_marked(first):
            kept = next((tensor for tensor in marked if tensor.shape == first.shape), None)
            if kept is not None:
                first.copy_(kept)
        return out

    def _fits(self, tensor: Tensor) -> bool:
        return tensor.shape[0] == 1 and 1 < tensor.numel() <= self._most

    def _mark(self, tensor: Tensor) -> None:
        count = tensor.numel()
        channels, rows, columns = tensor.shape[1:]
        if rows * columns > 1:
            self._sizes.add(count)
        if self._next + count < _MARKS:  # `flatten` is asked for where a map is left unmarked
            tensor.copy_(torch.arange(self._next, self._next + count).reshape(tensor.shape))
            self._maps.append((self._next, (channels, rows, columns)))
            self._next += count

    def _is_marked(self, tensor: Tensor) -> bool:
        """Whether every number in it is the mark of another element."""
        if tensor.dim() < 2 or not self._fits(tensor) or not tensor.is_floating_point():
            return False
        marks = bool(((tensor >= 1) & (tensor < self._next) & (tensor == tensor.round())).all())
        return marks and _distinct(tensor) == tensor.numel()

    def _note(self, operation: str, given: list[Tensor]) -> None:
        """Remember the inputs of a matrix, or of a vector that is no bias."""
        for own in given:
            for name in self._names.get(own.untyped_storage()._cdata, ()):
                matrix = operation in _PRODUCTS and own.dim() == 2
                if not matrix and (operation in _PRODUCTS or own.dim() != 1):
                    continue
                width = own.numel() if own.dim() == 1 else None
                for other in given:
                    if other is own or other.dim() != 2 or other.shape[0] != 1:
                        continue
                    if other.shape[1] == (width or _columns(own, other)):
                        self._inputs.setdefault(name, []).append(other[0].clone())

    def read(self) -> dict[str, Reading | None]:
        readings: dict[str, Reading | None] = {}
        for name, inputs in self._inputs.items():
            if all(torch.equal(inputs[0], other) for other in inputs[1:]):
                if self._reads_map(inputs[0]):
                    readings[name] = self._reading(inputs[0])
            elif any(map(self._reads_map, inputs)):
                readings[name] = None
        return readings

    def _reads_map(self, row: Tensor) -> bool:
        """Whether a row holds marks, or values that may have been marks of a map of its size."""
        if bool((self._places(row) >= 0).any()):
            return True
        return len(row) in self._sizes and 2 * _distinct(row) > len(row)

    def _reading(self, row: Tensor) -> Reading | None:
        places = self._places(row)
        columns, charts = torch.arange(len(row)), []
        start = 0
        while start < len(row):
            where, number = self._maps[int(places[start])] if places[start] >= 0 else (0, (1, 1, 1))
            same = (places[start:] != places[start]).nonzero()
            end = start + (int(same[0]) if len(same) else len(row) - start)
            if places[start] >= 0:
                element = row[start:end].long() - where
                if not torch.equal(element.sort().values, torch.arange(prod(number))):
                    return None
                columns[start:end] = start + element
                charts.append((start, number))
            start = end
        return Reading(columns, tuple(charts))

    def _places(self, row: Tensor) -> Tensor:
        """The index of the map whose mark each number is; -1 for none."""
        starts = torch.tensor([start for start, _ in self._maps], dtype=torch.float64)
        places = torch.searchsorted(starts, row.double(), right=True) - 1
        none = (row < 1) | (row >= self._next) | (row != row.round())
        return places.masked_fill(none, -1)


def _distinct(tensor: Tensor) -> int:
    """The count of different numbers in a tensor."""
    return int((tensor.flatten().sort().values.diff() > 0).sum()) + 1


def _columns(matrix: Tensor, row: Tensor) -> int:
    """The columns of a stored matrix, or of its transpose, that fit a row; -1 if neither does."""
    return row.shape[1] if row.shape[1] in matrix.shape else -1
