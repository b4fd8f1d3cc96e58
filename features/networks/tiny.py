"""Trivial features: a tiny grey image, colour statistics, and gradients by direction and place."""

from collections import OrderedDict
from math import cos, pi, sin

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

_GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601
_SIDE = 8
_CELLS = 4
_DIRECTIONS = 8


def tiny() -> nn.Module:
    """A network without weights whose module `tiny` makes `(n, 3, h, w)` into `(n, 198)`.

    They are a grey image of 8 x 8; the mean and the standard deviation of each colour; and, in each of
    4 x 4 cells, the mean of the grey gradient's part towards each of eight directions.
    """
    return nn.Sequential(OrderedDict(tiny=_Tiny()))


class _Tiny(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        grey = sum(weight * x[:, i : i + 1] for i, weight in enumerate(_GREY))
        assert isinstance(grey, Tensor)
        right = grey[:, :, :-1, 1:] - grey[:, :, :-1, :-1]
        down = grey[:, :, 1:, :-1] - grey[:, :, :-1, :-1]
        angles = [2 * pi * i / _DIRECTIONS for i in range(_DIRECTIONS)]
        towards = torch.cat([cos(a) * right + sin(a) * down for a in angles], 1).relu()
        colours = x.flatten(2)
        parts = (
            adaptive_avg_pool2d(grey, _SIDE),
            colours.mean(2),
            colours.std(2, unbiased=False),
            adaptive_avg_pool2d(towards, _CELLS),
        )
        return torch.cat([part.flatten(1) for part in parts], 1)
