"""Scaling of features, by what the training rows alone say."""

from __future__ import annotations

import torch
from torch import Tensor

SCALES = ("standard", "l2", "none")
AUTO = ("standard", "l2")
"""What the scale `auto` chooses between, inside the training folds."""
FLOOR = 1e-3


def scaled(train: Tensor, other: Tensor, scale: str) -> tuple[Tensor, Tensor]:
    """Both arrays, `(rows, dim)` float32, scaled by the statistics of `train`.

    `standard` subtracts each feature's mean and divides by its SD. The SD has a floor of 1e-3 times
    the root mean square SD of all features: a unit that is dead on all but a few training images
    would otherwise be blown up by a thousand on the test images that wake it. `l2` divides each row
    by its length.
    """
    if scale == "standard":
        mean, weight = statistics(train)
        return (train - mean) * weight, (other - mean) * weight
    if scale == "l2":
        return _unit(train), _unit(other)
    return train, other


def statistics(train: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of every feature, and one over its floored SD, `(dim,)` each."""
    sd, mean = torch.std_mean(train, 0, correction=0)
    floor = float(FLOOR * sd.double().square().mean().sqrt())
    # A unit that never varies in training is left out: nothing is known of it.
    return mean, torch.where(sd > 0, 1 / sd.clamp_min(max(floor, 1e-30)), 0)


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=1)
