"""A network without computation: its only layer is the image itself, the floor of every table."""

from collections import OrderedDict

from torch import nn


def pixels() -> nn.Module:
    """A network whose module `pixels` flattens its input, `(n, 3, h, w)` to `(n, 3 * h * w)`."""
    return nn.Sequential(OrderedDict(pixels=nn.Flatten()))
