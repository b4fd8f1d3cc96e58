"""Caffe's layer types, with a function for each that builds its modules.

A maker takes the layer and the sides of what it reads, batch first. Where Caffe and PyTorch agree
its module is PyTorch's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from features.caffe import modules
from features.caffe.prototxt import LayerText
from features.caffe.schema import choice, message

Shape = tuple[int, ...]
Maker = Callable[[LayerText, Sequence[Shape]], nn.Module]

# A caffemodel is one protobuf message and so shorter than 2 GiB: nothing has more weights.
MAX_WEIGHTS = 1 << 29
_MAX_SIDE = 1 << 16


class Unusable(ValueError):
    """A layer cannot be built; the text says why and what to do."""

    def __init__(self, reason: str, remedy: str = "correct it.") -> None:
        """The error with `reason` and `remedy` as one sentence."""
        super().__init__(f"{reason}; {remedy}")


def _convolution(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.convolution_param
    channels = _image(shapes[0])[1]
    if p.axis not in (1, -3):
        raise Unusable("its axis is not 1, that of the channels")
    kernel, stride = _pair(p, "kernel", "kernel_size"), _pair(p, "stride", "stride")
    dilation = _pair(p, "dilation", "dilation")
    if not p.group or channels % p.group or p.num_output % p.group:
        raise Unusable(f"group {p.group} does not divide {channels} and {p.num_output} channels")
    _check_weights(p.num_output, channels // p.group, *kernel)
    return nn.Conv2d(
        channels,
        p.num_output,
        kernel,
        stride,
        _pair(p, "pad", "pad", 0),
        dilation,
        p.group,
        p.bias_term,
    )


def _inner_product(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.inner_product_param
    axis = _axis(p.axis, shapes[0])
    width = math.prod(shapes[0][axis:])
    _check_weights(p.num_output, width)
    return modules.InnerProduct(width, p.num_output, p.bias_term, axis, p.transpose)


def _pooling(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.pooling_param
    sides = _image(shapes[0])[2:]
    method = choice(p, "pool")
    if method == "STOCHASTIC":
        raise Unusable("its pooling is stochastic; only MAX and AVE are supported")
    if p.global_pooling:
        return modules.GlobalPooling(method)
    kernel, stride = _pair(p, "kernel", "kernel_size"), _pair(p, "stride", "stride")
    pad = _pair(p, "pad", "pad", 0)
    if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
        raise Unusable("its pad is not smaller than its kernel")
    pool = modules.Pooling(method, kernel, stride, pad, choice(p, "round_mode") == "CEIL")
    for side, out, s, before in zip(sides, pool.windows(sides), stride, pad, strict=True):
        if out < 1 or (out - 1) * s >= side + before:
            raise Unusable(f"one of its windows lies outside of {sides[0]} x {sides[1]}")
    return pool


def _lrn(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.lrn_param
    _image(shapes[0])
    if p.local_size % 2 == 0 or p.local_size > _MAX_SIDE:
        raise Unusable(f"its local_size {p.local_size} is not a small odd number")
    if choice(p, "norm_region") == "WITHIN_CHANNEL":
        return modules.WithinChannelNorm(p.local_size, p.alpha, p.beta)
    # Both divide alpha by the size.
    return nn.LocalResponseNorm(p.local_size, p.alpha, p.beta, p.k)


def _relu(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    slope = layer.parameters.relu_param.negative_slope
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


def _prelu(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    shared = layer.parameters.prelu_param.channel_shared
    return nn.PReLU(1 if shared else _channels(shapes[0]))


def _batch_norm(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.batch_norm_param
    if not p.use_global_stats:
        raise Unusable(
            "use_global_stats: false makes the features of an image depend on the others of its "
            "batch"
        )
    kind = nn.BatchNorm2d if len(shapes[0]) == 4 else nn.BatchNorm1d
    momentum = 1 - p.moving_average_fraction
    return kind(_channels(shapes[0]), p.eps, momentum=momentum, affine=False)


def _scale(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.scale_param
    axis = _axis(p.axis, shapes[0])
    if len(shapes) > 1:
        if p.bias_term:
            raise Unusable("bias_term is not supported where it reads two blobs")
        if shapes[0][axis : axis + len(shapes[1])] != shapes[1]:
            raise Unusable(f"{shapes[0]} and {shapes[1]} do not fit at axis {axis}")
        return modules.ScaleBy(axis)
    end = len(shapes[0]) if p.num_axes == -1 else axis + p.num_axes
    if not axis or not axis <= end <= len(shapes[0]):
        raise Unusable(f"axis {p.axis} and num_axes {p.num_axes} do not fit {shapes[0]}")
    _check_weights(*shapes[0][axis:end])
    return modules.Scale(shapes[0][axis:end], len(shapes[0]) - end, p.bias_term)


def _axpy(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    if len(shapes) != 3 or math.prod(shapes[0]) != _image(shapes[1])[1] or shapes[1] != shapes[2]:
        raise Unusable(f"it cannot combine {' and '.join(map(str, shapes))}")
    return modules.Axpy()


def _eltwise(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.eltwise_param
    operation, coefficients = choice(p, "operation"), list(p.coeff)
    if len(set(shapes)) > 1:
        raise Unusable(f"it cannot combine {' and '.join(map(str, shapes))}")
    if coefficients and (operation != "SUM" or len(coefficients) != len(shapes)):
        raise Unusable("coeff is for SUM alone, one for each blob that it reads")
    return modules.Eltwise(operation, coefficients or [1.0] * len(shapes))


def _concat(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.concat_param
    axis = _axis(p.concat_dim if p.HasField("concat_dim") else p.axis, shapes[0])
    if not axis:
        raise Unusable("it would concatenate the images of a batch")
    return modules.Concat(axis)


def _slice(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.slice_param
    axis = _axis(p.slice_dim if p.HasField("slice_dim") else p.axis, shapes[0])
    side, parts = shapes[0][axis], len(layer.tops)
    points = list(p.slice_point) or [side * i // parts for i in range(1, parts)]
    sizes = [b - a for a, b in zip([0, *points], [*points, side], strict=True)]
    if not axis or len(sizes) != parts or min(sizes) < 1 or (not p.slice_point and side % parts):
        raise Unusable(f"{shapes[0]} cannot be divided into {parts} parts along axis {axis}")
    return modules.Slice(axis, sizes)


def _softmax(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    return nn.Softmax(_axis(layer.parameters.softmax_param.axis, shapes[0]))


def _flatten(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    old = not hasattr(
        layer.parameters, "flatten_param"
    )  # older versions always flattened everything
    p = message("FlattenParameter")() if old else layer.parameters.flatten_param
    start, end = _axis(p.axis, shapes[0]), _axis(p.end_axis, shapes[0])
    if not 0 < start <= end:
        raise Unusable(f"axis {p.axis} and end_axis {p.end_axis} do not fit {shapes[0]}")
    return nn.Flatten(start, end)


def _power(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.power_param
    return modules.Power(p.power, p.scale, p.shift)


MAKERS: dict[str, Maker] = {
    "AbsVal": lambda layer, shapes: modules.AbsVal(),
    "Axpy": _axpy,
    "BatchNorm": _batch_norm,
    "Concat": _concat,
    "Convolution": _convolution,
    "Dropout": lambda layer, shapes: nn.Dropout(),
    "ELU": lambda layer, shapes: nn.ELU(layer.parameters.elu_param.alpha),
    "Eltwise": _eltwise,
    "Flatten": _flatten,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "PReLU": _prelu,
    "Pooling": _pooling,
    "Power": _power,
    "ReLU": _relu,
    "Scale": _scale,
    "Sigmoid": lambda layer, shapes: nn.Sigmoid(),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": lambda layer, shapes: modules.Split(len(layer.tops)),
    "TanH": lambda layer, shapes: nn.Tanh(),
}
"""By type; a layer reads one blob unless its type is in `SEVERAL`."""
SEVERAL = ("Axpy", "Concat", "Eltwise", "Scale")


def _pair(p: Any, word: str, field: str, least: int = 1) -> tuple[int, int]:
    """Height and width of a kernel, a stride, a pad or a dilation: from `_h` and `_w`, or `field`."""
    given = getattr(p, field)
    sides = [given] * p.HasField(field) if isinstance(given, int) else list(given)
    names = [name for name in (f"{word}_h", f"{word}_w") if name in p.DESCRIPTOR.fields_by_name]
    if any(map(p.HasField, names)):
        if sides or (least and not all(map(p.HasField, names))):
            raise Unusable(f"it needs either {field} or both {word}_h and {word}_w")
        sides = [getattr(p, name) for name in names]
    if not sides and word == "kernel":
        raise Unusable("kernel_size is missing")
    sides = sides or [least]
    if len(sides) > 2 or not all(least <= side <= _MAX_SIDE for side in sides):
        raise Unusable(f"{field} {' x '.join(map(str, sides))} fits no image")
    return sides[0], sides[-1]


def _image(shape: Shape) -> Shape:
    if len(shape) != 4:
        raise Unusable(f"it reads {shape}, which is no image")
    return shape


def _channels(shape: Shape) -> int:
    if len(shape) < 2:
        raise Unusable(f"it reads {shape}, which has no channels")
    return shape[1]


def _axis(axis: int, shape: Shape) -> int:
    if not -len(shape) <= axis < len(shape):
        raise Unusable(f"axis {axis} is not one of {shape}")
    return axis % len(shape)


def _check_weights(*sides: int) -> None:
    if not all(sides):
        raise Unusable("num_output is missing or 0")
    if math.prod(sides) > MAX_WEIGHTS:
        raise Unusable(f"its {' x '.join(map(str, sides))} weights fit into no caffemodel")
