"""Converting blobs by layer name to tensors by the names of a network's state dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def module_name(layer: str) -> str:
    """A layer's name as a module name: without `.`, which separates names, and `:`."""
    return layer.replace(".", "/").replace(":", "_")


def named_tensors(blobs: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """`LAYER.weight` and `LAYER.bias`, and for a batch norm its running mean and variance.

    A batch norm is recognised by its three blobs: sums of means and of variances, and one number to
    divide both by.
    """
    tensors = {}
    for layer, parts in blobs.items():
        names = ["weight", "bias", *map(str, range(2, len(parts)))][: len(parts)]
        if len(parts) == 3 and parts[2].numel() == 1 and parts[0].shape == parts[1].shape:
            count = parts[2].reshape(())
            share = torch.where(count == 0, 0.0, 1 / count)  # Caffe's own rule for no batches
            names = ["running_mean", "running_var"]
            parts = [parts[0] * share, parts[1] * share]
        for name, part in zip(names, parts, strict=True):
            tensors[f"{module_name(layer)}.{name}"] = part
    return tensors


def fitted(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a Caffe file with the names and shapes of a network's.

    Where a network has no module of a layer's name, `/` may be `_` or `.` there, and a Scale layer
    is part of the batch norm just before it, as in PyTorch. Sides of one are added or left out, so
    that an inner product fits a 1 x 1 convolution. What does not fit keeps its name and shape.

    Args:
        tensors: In the order of the file, as `named_tensors` gives them.
        wanted: The state dict of the network.
    """
    result = {}
    norm = scale = ""
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        spellings = (layer, layer.replace("/", "_"), layer.replace("/", "."))
        own = next((own for own in spellings if f"{own}.{kind}" in wanted), layer)
        if kind.startswith("running_"):
            norm, scale = own, ""
        elif norm and scale in ("", layer):
            scale = layer
            if f"{own}.{kind}" not in wanted and f"{norm}.{kind}" in wanted:
                own = norm
        key = f"{own}.{kind}"
        if key in wanted and _without_ones(tensor) == _without_ones(wanted[key]):
            tensor = tensor.reshape(wanted[key].shape)
        result[key] = tensor
    return result


def _without_ones(tensor: Tensor) -> list[int]:
    return [side for side in tensor.shape if side != 1]
