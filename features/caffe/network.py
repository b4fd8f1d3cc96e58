"""Building the network that a prototxt describes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from features.caffe.layers import MAKERS, MAX_WEIGHTS, SEVERAL, Shape, Unusable
from features.caffe.prototxt import LayerText, NetworkText, read_prototxt
from features.caffe.tensors import module_name
from features.errors import InputError, first_line, nearest

# The largest output of a layer for one image: 1 GiB of float32.
MAX_OUTPUT = 1 << 28

# Layers that only pass their input on, or have several outputs.
_NAMELESS = ("Dropout", "Slice", "Split")


def network_from_prototxt(path: Path, size: tuple[int, int] | None = None) -> CaffeNetwork:
    """The network that a prototxt describes, with PyTorch's initial weights.

    Modules are registered under the names of the layers, as `module_name` writes them. A layer that
    works in place on the output of another (ReLU, batch norm, dropout) is called by that one, so
    that what either returns is what Caffe leaves in the blob.

    A layer of a type that is not known (a detector's `Normalize`, `PriorBox`, `DetectionOutput`) is left
    out, and with it what reads it; `left` tells of them, and what lies below them runs.

    Args:
        path: The prototxt.
        size: Height and width of an image, where the prototxt does not say them.

    Raises:
        InputError: The prototxt cannot be read, or one of its layers cannot be built.
    """
    text = read_prototxt(path)
    image, shape = _image(text, size)
    network = CaffeNetwork(image)
    shapes: dict[str, Shape] = {image: shape}
    unread: dict[str, nn.Module] = {}  # the module that wrote each blob, until another one reads it
    weights = 0
    left_blobs: set[str] = set()
    for layer in text.layers:
        why = _left_out(layer, left_blobs)
        if why is not None:
            network.left[module_name(layer.name)] = why
            left_blobs.update(layer.tops)
            continue
        try:
            module, outputs = _built(layer, _read(layer, shapes, text), MAX_WEIGHTS - weights)
            weights += sum(p.numel() for p in module.parameters())
            in_place = layer.tops == layer.bottoms and layer.tops[0] in unread
            network.add(layer, module, unread[layer.tops[0]] if in_place else None)
        except Unusable as reason:
            raise InputError(
                f"{path}: layer {layer.name} ({layer.type}) cannot be built: {reason}"
            ) from reason
        shapes.update(zip(layer.tops, outputs, strict=True))
        left_blobs.difference_update(layer.tops)
        for blob in layer.bottoms:
            unread.pop(blob, None)
        if len(layer.tops) == 1:
            unread[layer.tops[0]] = module
    if not network.steps:
        layer = text.layers[0]
        raise InputError(
            f"{path}: layer {layer.name} ({layer.type}) cannot be built: there is no such type here; "
            f"{nearest(layer.type, MAKERS)}"
        )
    return network


def _left_out(layer: LayerText, left: Collection[str]) -> str | None:
    """Why a layer is left out: its type, or that of a layer it reads, is unknown; None if it is built."""
    if layer.type not in MAKERS:
        return f"since its type {layer.type} is none that can be built"
    lost = [blob for blob in layer.bottoms if blob in left]
    return f"since it reads {lost[0]}, which is not built" if lost else None


def _image(text: NetworkText, size: tuple[int, int] | None) -> tuple[str, Shape]:
    """The blob of the input image, and its sides."""
    if not text.inputs:
        raise InputError(f"{text.file}: has no input; add a layer of type Input.")
    name = next((n for n, s in text.inputs.items() if len(s) == 4), next(iter(text.inputs)))
    shape = text.inputs[name]
    if not shape and size is None:
        raise InputError(
            f"{text.file}: does not say how large its input {name} is; add its input_shape, or "
            "size under [input] in the card."
        )
    shape = shape or (1, 3, *(size or ()))
    if len(shape) != 4 or shape[1] != 3 or not all(0 < side < 1 << 16 for side in shape):
        raise InputError(
            f"{text.file}: its input {name} is {' x '.join(map(str, shape))}, not a batch of images "
            "of 3 channels; give the prototxt of a network for colour images."
        )
    return name, (1, *shape[1:])


def _read(layer: LayerText, shapes: Mapping[str, Shape], text: NetworkText) -> list[Shape]:
    """The sides of a layer's inputs."""
    for blob in layer.bottoms:
        if blob in text.inputs and blob not in shapes:
            raise Unusable(f"it reads {blob}, which is not the image")
        if blob not in shapes:
            raise Unusable(f"no layer gives the blob {blob} that it reads", nearest(blob, shapes))
    if not layer.bottoms or (len(layer.bottoms) > 1 and layer.type not in SEVERAL):
        raise Unusable(f"it reads {len(layer.bottoms)} blobs")
    if not layer.tops or (len(layer.tops) > 1 and layer.type not in ("Slice", "Split")):
        raise Unusable(f"it gives {len(layer.tops)} blobs")
    return [shapes[blob] for blob in layer.bottoms]


def _built(layer: LayerText, inputs: list[Shape], room: int) -> tuple[nn.Module, list[Shape]]:
    """The module of a layer and the sides of its outputs."""
    try:
        with torch.device("meta"), torch.no_grad():  # the sides, before memory is allocated
            plan = MAKERS[layer.type](layer, inputs).eval()
            given = plan(*[torch.empty(shape) for shape in inputs])
        if sum(p.numel() for p in plan.parameters()) > room:
            raise Unusable("with it the network has more weights than a caffemodel can hold")
        outputs = [tuple(x.shape) for x in _several(given)]
        if max(map(math.prod, outputs)) > MAX_OUTPUT:
            raise Unusable(f"it gives {' x '.join(map(str, outputs[0]))} numbers for one image")
        return MAKERS[layer.type](layer, inputs), outputs
    except Unusable:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise Unusable(first_line(error, 200)) from error


def _several(given: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return given if isinstance(given, tuple) else (given,)


@dataclass(frozen=True)
class Step:
    """One call of a module in a forward pass."""

    module: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]


class CaffeNetwork(nn.Module):
    """A network whose layers pass blobs to each other by name."""

    default_layers: dict[str, str]
    """Module by layer name, for cards that name no layers."""
    left: dict[str, str]
    """Layers of the prototxt that are not built, each with the reason."""

    def __init__(self, image: str) -> None:
        """An empty network whose input becomes the blob `image`."""
        super().__init__()
        self.image = image
        self.steps: list[Step] = []
        self.default_layers = {}
        self.left = {}

    def add(self, layer: LayerText, module: nn.Module, onto: nn.Module | None) -> None:
        """Add the next layer; one that works in place on the output of `onto` is called by that module."""
        name = module_name(layer.name)
        if name in self._modules:
            raise Unusable("another layer has this name")
        self._modules[name] = module  # add_module refuses the names of methods (`type`, `half`)
        if onto is not None:
            onto.register_forward_hook(_Then(module))
            return
        self.steps.append(Step(name, layer.bottoms, layer.tops))
        if layer.type not in _NAMELESS:
            self.default_layers[name.replace("/", ".")] = name

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """`(n, 3, h, w)` to the output of the last layer, or of several where layers are left out."""
        blobs = {self.image: x}
        last = {blob: i for i, step in enumerate(self.steps) for blob in step.bottoms}
        for i, step in enumerate(self.steps):
            module = self._modules[step.module]
            assert module is not None
            given = module(*[blobs[blob] for blob in step.bottoms])
            for blob in step.bottoms:
                if last[blob] == i:  # no later layer reads it: its memory can be freed
                    blobs.pop(blob, None)
            blobs.update(zip(step.tops, _several(given), strict=True))
        if self.left:
            tops = dict.fromkeys(top for step in self.steps for top in step.tops)
            return tuple(blobs[top] for top in tops if top in blobs)
        return blobs[self.steps[-1].tops[0]]


class _Then:
    """A forward hook that calls another module on a module's output; deep copies of both stay linked."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        result: Tensor = self.module(output)
        return result
