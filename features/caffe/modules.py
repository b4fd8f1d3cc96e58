"""Layers that Caffe computes differently from PyTorch, or that PyTorch has only as functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Pair = tuple[int, int]


class Pooling(nn.Module):
    """Maximum or average over windows, whose number Caffe rounds up.

    A last window that would start beyond the image is left out, and one that goes past its end is
    cut. An average divides by the size of the window on the padded image, zeros included.
    """

    def __init__(self, method: str, kernel: Pair, stride: Pair, pad: Pair, ceil: bool) -> None:
        """`method` is MAX or AVE; `ceil` False rounds down."""
        super().__init__()
        self.method, self.kernel, self.stride, self.pad = method, kernel, stride, pad
        self.ceil = ceil

    def windows(self, sides: Sequence[int]) -> list[int]:
        """The number of rows and columns of windows in an image of `sides`."""
        counts = []
        for side, kernel, stride, pad in zip(
            sides, self.kernel, self.stride, self.pad, strict=True
        ):
            steps = (side + 2 * pad - kernel) / stride
            count = (math.ceil(steps) if self.ceil else math.floor(steps)) + 1
            if any(self.pad) and (count - 1) * stride >= side + pad:
                count -= 1
            counts.append(count)
        return counts

    def forward(self, x: Tensor) -> Tensor:
        """`(n, channels, h, w)` to `(n, channels, rows of windows, columns of windows)`."""
        down, across = self.windows(x.shape[2:])
        pad = self.pad
        if 2 * pad[0] > self.kernel[0] or 2 * pad[1] > self.kernel[1]:  # PyTorch refuses these
            outside = -math.inf if self.method == "MAX" else 0.0
            x, pad = functional.pad(x, (pad[1], pad[1], pad[0], pad[0]), value=outside), (0, 0)
        if self.method == "MAX":
            x = functional.max_pool2d(x, self.kernel, self.stride, pad, ceil_mode=self.ceil)
        else:
            x = functional.avg_pool2d(x, self.kernel, self.stride, pad, ceil_mode=self.ceil)
        return x[:, :, :down, :across]


class GlobalPooling(nn.Module):
    """Maximum or average over the entire image."""

    def __init__(self, method: str) -> None:
        """`method` is MAX or AVE."""
        super().__init__()
        self.method = method

    def forward(self, x: Tensor) -> Tensor:
        """`(n, channels, h, w)` to `(n, channels, 1, 1)`."""
        return x.amax((2, 3), True) if self.method == "MAX" else x.mean((2, 3), True)


class WithinChannelNorm(nn.Module):
    """Local response normalisation over a square of the same channel; Caffe fixes k to 1."""

    def __init__(self, size: int, alpha: float, beta: float) -> None:
        """`size` is the odd side of the square."""
        super().__init__()
        self.size, self.alpha, self.beta = size, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        """`(n, channels, h, w)` to the same."""
        mean = functional.avg_pool2d(x * x, self.size, 1, self.size // 2)
        return x * (1 + self.alpha * mean).pow(-self.beta)


class InnerProduct(nn.Linear):
    """A fully connected layer that flattens its input from `axis` on."""

    def __init__(self, width: int, out: int, bias: bool, axis: int, transpose: bool) -> None:
        """The weights are `(out, width)`, or `(width, out)` with `transpose`."""
        super().__init__(width, out, bias)
        self.axis, self.transpose = axis, transpose
        if transpose:
            self.weight = nn.Parameter(self.weight.detach().t().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """The output `(..., out)`, which keeps the sides before `axis`."""
        weight = self.weight.t() if self.transpose else self.weight
        return functional.linear(x.flatten(self.axis), weight, self.bias)


class Scale(nn.Module):
    """Learned factors, and with `bias` summands, along some sides of the input."""

    def __init__(self, sides: Sequence[int], after: int, bias: bool) -> None:
        """`sides` are those of the factors, followed by `after` sides of the input."""
        super().__init__()
        self.sides = (*sides, *[1] * after)
        self.weight = nn.Parameter(torch.ones(*sides or (1,)))
        self.bias = nn.Parameter(torch.zeros(*sides or (1,))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        x = x * self.weight.reshape(self.sides)
        return x if self.bias is None else x + self.bias.reshape(self.sides)


class ScaleBy(nn.Module):
    """The first input times the second, whose sides are those of the first from `axis` on."""

    def __init__(self, axis: int) -> None:
        """Keep the axis."""
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        """The shape of `x`."""
        after = x.dim() - self.axis - factor.dim()
        return x * factor.reshape(*factor.shape, *[1] * after)


class Axpy(nn.Module):
    """A factor per channel times x, plus y, as in squeeze-and-excitation networks."""

    def forward(self, factor: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """`(n, channels, 1, 1)`, `(n, channels, h, w)` and again, to the same."""
        return factor.reshape(*factor.shape[:2], 1, 1) * x + y


class Eltwise(nn.Module):
    """The product, the weighted sum or the maximum of inputs of the same shape."""

    def __init__(self, operation: str, coefficients: Sequence[float]) -> None:
        """`operation` is PROD, SUM or MAX; only SUM uses the coefficients."""
        super().__init__()
        self.operation, self.coefficients = operation, tuple(coefficients)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The shape of each input."""
        if self.operation == "SUM":
            inputs = tuple(
                x if c == 1 else x * c for x, c in zip(inputs, self.coefficients, strict=True)
            )
        result = inputs[0]
        for x in inputs[1:]:
            if self.operation == "SUM":
                result = result + x
            elif self.operation == "PROD":
                result = result * x
            else:
                result = torch.maximum(result, x)
        return result


class Concat(nn.Module):
    """The inputs concatenated along `axis`."""

    def __init__(self, axis: int = 1) -> None:
        """Channels are axis 1."""
        super().__init__()
        self.axis = axis

    def forward(self, *inputs: Tensor) -> Tensor:
        """The concatenated inputs."""
        return torch.cat(inputs, self.axis)


class Slice(nn.Module):
    """The input divided into parts along `axis`."""

    def __init__(self, axis: int, sizes: Sequence[int]) -> None:
        """One part for each of `sizes`."""
        super().__init__()
        self.axis, self.sizes = axis, list(sizes)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The parts in order."""
        return torch.split(x, self.sizes, self.axis)


class Split(nn.Module):
    """The input, once for each of `tops` names."""

    def __init__(self, tops: int) -> None:
        """`tops` is the number of copies."""
        super().__init__()
        self.tops = tops

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The input, several times."""
        return (x,) * self.tops


class Power(nn.Module):
    """`(shift + scale * x) ** power`."""

    def __init__(self, power: float, scale: float, shift: float) -> None:
        """Keep the three numbers."""
        super().__init__()
        self.power, self.scale, self.shift = power, scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        x = x * self.scale + self.shift
        return x if self.power == 1 else x.pow(self.power)


class AbsVal(nn.Module):
    """Absolute values."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return x.abs()
