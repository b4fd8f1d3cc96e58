"""Scaling of features, by what the training rows alone say."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

SCALES = ("standard", "l2", "none")
_FLOOR = 1e-3


def scaled(
    train: Floats, other: Floats, scale: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both arrays, `(rows, dim)`, scaled by the statistics of `train`.

    `standard` subtracts each feature's mean and divides by its SD. The SD has a floor of 1e-3 times
    the root mean square SD of all features: a unit that is dead on all but a few training images
    would otherwise be blown up by a thousand on the test images that wake it. `l2` divides each row
    by its length.
    """
    x, z = train.astype(np.float64), other.astype(np.float64)
    if scale == "standard":
        mean, sd = x.mean(0), x.std(0)
        floor = _FLOOR * np.sqrt(np.mean(sd**2))
        sd = np.maximum(sd, floor if floor > 0 else 1.0)
        return (x - mean) / sd, (z - mean) / sd
    if scale == "l2":
        return x / _lengths(x), z / _lengths(z)
    return x, z


def _lengths(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
