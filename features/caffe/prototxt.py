"""Reading a `.prototxt`, old or new: the layers that run at test time, in order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.caffe.schema import choice, layer_type, message
from features.errors import InputError
from features.machine.regular_files import read_regular

MAX_TEXT = 2 << 20
MAX_LAYERS = 4_000

_SINKS = ("Accuracy", "Silence", "HDF5Output")


@dataclass(frozen=True)
class LayerText:
    """A layer of a prototxt."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    parameters: Any
    """Its message, with the `..._param` of its type."""


@dataclass(frozen=True)
class NetworkText:
    """The inputs and layers of a prototxt."""

    file: Path
    inputs: dict[str, tuple[int, ...]]
    """The input blobs, with their sides where the file gives them."""
    layers: tuple[LayerText, ...]


def read_prototxt(path: Path) -> NetworkText:
    """The inputs and layers of the test phase, without those for data, loss and accuracy.

    Raises:
        InputError: There is no such file, or it is not a valid prototxt.
    """
    net = _parsed(path)
    if len(net.layer) and len(net.layers):
        raise InputError(f"{path}: mixes `layer` with the older `layers`; write one of them.")
    everything = [layer for layer in net.layer or net.layers if _included(layer, net.state)]
    if len(everything) > MAX_LAYERS:
        raise InputError(f"{path}: has more than {MAX_LAYERS} layers; give a network's prototxt.")
    inputs = _declared_inputs(net, path)
    labels: set[str] = set()
    layers: list[LayerText] = []
    for number, layer in enumerate(everything, 1):
        kind = layer_type(layer)
        if kind == "Input":
            shapes = [tuple(shape.dim) for shape in layer.input_param.shape] or [()]
            for i, top in enumerate(layer.top):
                inputs[top] = shapes[i] if i < len(shapes) else shapes[0]
        elif kind.endswith("Data"):
            inputs.update({top: _data_shape(layer) for top in layer.top[:1]})
            labels.update(layer.top[1:])
        elif kind.endswith("Loss") or kind in _SINKS or labels.intersection(layer.bottom):
            labels.update(layer.top)
        else:
            name = layer.name or f"{kind.lower()}_{number}"
            layers.append(LayerText(name, kind, tuple(layer.bottom), tuple(layer.top), layer))
    if not layers:
        raise InputError(f"{path}: describes no layers; give the prototxt of a network.")
    return NetworkText(path, inputs, tuple(layers))


def _parsed(path: Path) -> Any:
    from google.protobuf import text_format

    if not path.is_file():
        raise InputError(f"{path} does not exist; paths start from the card's folder.")
    raw = read_regular(path)
    if len(raw) > MAX_TEXT:
        raise InputError(
            f"{path}: {len(raw)} bytes are too many for a prototxt; give the text that describes "
            "the network, not its weights."
        )
    net = message("NetParameter")()
    try:
        text_format.Parse(raw.decode("utf-8"), net, allow_unknown_field=True)
    except (text_format.ParseError, ValueError, RecursionError) as error:
        where = re.match(r"(\d+):\d+ : (.*)", str(error), re.DOTALL)
        line, reason = (f" line {where[1]}", where[2]) if where else ("", str(error))
        reason = " ".join(reason.rpartition("': ")[2].split())[:160]  # without the line itself
        raise InputError(
            f"{path}{line}: not a prototxt that can be read ({reason}); correct that line, or give the "
            "text that describes the network."
        ) from error
    return net


def _declared_inputs(net: Any, path: Path) -> dict[str, tuple[int, ...]]:
    shapes = [tuple(shape.dim) for shape in net.input_shape]
    if not shapes:
        sides = list(net.input_dim)
        shapes = [tuple(sides[i : i + 4]) for i in range(0, len(sides), 4)]
    if shapes and len(shapes) != len(net.input):
        raise InputError(
            f"{path}: has {len(net.input)} inputs and the sides of {len(shapes)}; write one "
            "input_shape, or four input_dim, for each."
        )
    return dict(zip(net.input, shapes or [()] * len(net.input), strict=True))


def _data_shape(layer: Any) -> tuple[int, ...]:
    memory = layer.memory_data_param
    if memory.height and memory.width:
        return (1, memory.channels, memory.height, memory.width)
    crop = layer.transform_param.crop_size
    return (1, 3, crop, crop) if crop else ()


def _included(layer: Any, state: Any) -> bool:
    """Whether the layer runs in the test phase, by Caffe's rules."""
    if len(layer.include):
        return any(_meets(rule, state) for rule in layer.include)
    return not any(_meets(rule, state) for rule in layer.exclude)


def _meets(rule: Any, state: Any) -> bool:
    stages = set(state.stage)
    return not (
        (rule.HasField("phase") and choice(rule, "phase") != "TEST")
        or (rule.HasField("min_level") and state.level < rule.min_level)
        or (rule.HasField("max_level") and state.level > rule.max_level)
        or not stages.issuperset(rule.stage)
        or stages.intersection(rule.not_stage)
    )
