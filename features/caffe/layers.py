"""Caffe's layers as PyTorch modules, one maker for each type.

A maker takes the layer and the sides of what it reads, batch first, and returns its module. Where
Caffe and PyTorch agree the module is PyTorch's own; the others compute what Caffe's source does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from features.caffe.prototxt import LayerText
from features.caffe.schema import choice

Shape = tuple[int, ...]
Maker = Callable[[LayerText, Sequence[Shape]], nn.Module]

# A caffemodel is one protobuf message and so below 2 GiB: no layer has more weights than that.
MAX_WEIGHTS = 1 << 29


class Unusable(ValueError):
    """What is wrong with a layer, as the end of a sentence about it."""


def _convolution(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.convolution_param
    channels = _image(shapes[0])[1]
    if p.axis not in (1, -3):
        raise Unusable("axis is not 1, that of the channels")
    kernel, stride = _pair(p, "kernel", "kernel_size"), _pair(p, "stride", "stride", 1)
    dilation = _pair(p, "dilation", "dilation", 1)
    _weights(p.num_output, channels // _positive(p.group, "group"), *kernel)
    if channels % p.group or p.num_output % p.group:
        raise Unusable(f"group {p.group} does not divide {channels} and {p.num_output} channels")
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
    _weights(p.num_output, width)
    return InnerProduct(width, p.num_output, bias=p.bias_term, axis=axis, transpose=p.transpose)


def _pooling(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.pooling_param
    sides = _image(shapes[0])[2:]
    method = choice(p, "pool")
    if method == "STOCHASTIC":
        raise Unusable("stochastic pooling is not supported; MAX and AVE are")
    if p.global_pooling:
        return GlobalPooling(method)
    kernel, stride = _pair(p, "kernel", "kernel_size"), _pair(p, "stride", "stride", 1)
    pad = _pair(p, "pad", "pad", 0)
    if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
        raise Unusable("pad must be smaller than the kernel")
    pool = Pooling(method, kernel, stride, pad, ceil=choice(p, "round_mode") == "CEIL")
    for side, out, s, before in zip(sides, pool.windows(sides), stride, pad, strict=True):
        if out < 1 or (out - 1) * s >= side + before:
            raise Unusable(f"a window lies outside of its input of {sides[0]} x {sides[1]}")
    return pool


def _lrn(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.lrn_param
    _image(shapes[0])
    if p.local_size % 2 == 0 or p.local_size > 1 << 16:
        raise Unusable(f"local_size {p.local_size} is not a small odd number")
    if choice(p, "norm_region") == "WITHIN_CHANNEL":
        return WithinChannelNorm(p.local_size, p.alpha, p.beta)
    return nn.LocalResponseNorm(p.local_size, p.alpha, p.beta, p.k)


def _relu(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    slope = layer.parameters.relu_param.negative_slope
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


def _prelu(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    return nn.PReLU(1 if layer.parameters.prelu_param.channel_shared else _channels(shapes[0]))


def _batch_norm(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.batch_norm_param
    if not p.use_global_stats:
        raise Unusable(
            "use_global_stats: false would make the features of an image depend on the others of "
            "its batch; delete it"
        )
    kind = nn.BatchNorm2d if len(shapes[0]) == 4 else nn.BatchNorm1d
    return kind(_channels(shapes[0]), p.eps, momentum=1 - p.moving_average_fraction, affine=False)


def _scale(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.scale_param
    axis = _axis(p.axis, shapes[0])
    if len(shapes) > 1:
        if p.bias_term:
            raise Unusable("bias_term with two inputs is not supported; add a Scale layer for it")
        if shapes[0][axis : axis + len(shapes[1])] != shapes[1]:
            raise Unusable(f"its inputs of {shapes[0]} and {shapes[1]} do not fit at axis {axis}")
        return ScaleBy(axis)
    end = len(shapes[0]) if p.num_axes == -1 else axis + p.num_axes
    if not axis or end > len(shapes[0]) or p.num_axes < -1:
        raise Unusable(f"axis {p.axis} and num_axes {p.num_axes} do not fit {shapes[0]}")
    _weights(*shapes[0][axis:end])
    return Scale(shapes[0][axis:end], len(shapes[0]) - end, bias=p.bias_term)


def _eltwise(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.eltwise_param
    operation, coefficients = choice(p, "operation"), list(p.coeff)
    if len(set(shapes)) > 1:
        raise Unusable(f"its inputs have different sides: {' and '.join(map(str, shapes))}")
    if coefficients and (operation != "SUM" or len(coefficients) != len(shapes)):
        raise Unusable("coeff is for SUM only, one for each input")
    return Eltwise(operation, coefficients or [1.0] * len(shapes))


def _concat(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.concat_param
    axis = _axis(p.concat_dim if p.HasField("concat_dim") else p.axis, shapes[0])
    if len({(*s[:axis], *s[axis + 1 :]) for s in shapes if len(s) > axis}) > 1:
        raise Unusable(f"its inputs do not fit: {' and '.join(map(str, shapes))}")
    return Concat(axis)


def _slice(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.slice_param
    axis = _axis(p.slice_dim if p.HasField("slice_dim") else p.axis, shapes[0])
    side, parts = shapes[0][axis], len(layer.tops)
    points = list(p.slice_point) or [side * i // parts for i in range(1, parts)]
    ends = [0, *points, side]
    sizes = [b - a for a, b in zip(ends[:-1], ends[1:], strict=True)]
    if len(sizes) != parts or min(sizes) < 1 or (not p.slice_point and side % parts):
        raise Unusable(f"{side} does not fall into {parts} parts at {points}")
    return Slice(axis, sizes)


def _reshape(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.reshape_param
    old = shapes[0]
    axis = p.axis if p.axis >= 0 else len(old) + 1 + p.axis
    end = len(old) if p.num_axes == -1 else axis + p.num_axes
    wanted = list(p.shape.dim)
    if not 0 <= axis <= end <= len(old) or any(
        d == 0 and axis + i >= len(old) for i, d in enumerate(wanted)
    ):
        raise Unusable(f"shape, axis and num_axes do not fit {old}")
    # The batch is left to PyTorch: its side in the file is only an example.
    new = [*old[:axis], *(d or old[axis + i] for i, d in enumerate(wanted)), *old[end:]]
    if axis == 0 and wanted and wanted[0] not in (0, old[0], -1):
        raise Unusable("it would mix the images of a batch")
    rest = [math.prod(old[1:]) // max(1, -math.prod(new[1:])) if d == -1 else d for d in new[1:]]
    if new[1:].count(-1) > 1 or math.prod(rest) != math.prod(old[1:]):
        raise Unusable(f"{old} cannot become {tuple(new)}")
    return nn.Unflatten(1, rest) if len(old) == 2 else Reshape(rest)


def _softmax(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    return nn.Softmax(_axis(layer.parameters.softmax_param.axis, shapes[0]))


def _flatten(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.flatten_param
    return nn.Flatten(_axis(p.axis, shapes[0]), _axis(p.end_axis, shapes[0]))


def _power(layer: LayerText, shapes: Sequence[Shape]) -> nn.Module:
    p = layer.parameters.power_param
    return Power(p.power, p.scale, p.shift)
