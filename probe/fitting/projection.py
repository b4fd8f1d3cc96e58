"""Features of one width, whatever the layer's own: a random projection."""

from __future__ import annotations

import numpy as np

from features.arrays import Floats
from features.store.featurefile import FeatureFile

_BYTES = 256 << 20


def projected(file: FeatureFile, key: str, width: int, seed: int) -> Floats:
    """The features of a layer times a matrix of normal numbers, `(n, width)` float32.

    The matrix is drawn from the seed, the layer's width and nothing else, so no image decides it, and
    distances are kept on average (Johnson and Lindenstrauss 1984). Rows that are not done are NaN. The
    layer is read in blocks, so that it needs not be in memory.
    """
    n, dim = len(file), file.about(key)["dim"]
    drawn = np.random.default_rng([seed, dim, width])
    matrix = drawn.standard_normal((dim, width), dtype=np.float32) / np.float32(width**0.5)
    made = np.empty((n, width), dtype=np.float32)
    step = max(1, _BYTES // (4 * dim))
    for start in range(0, n, step):
        rows = np.arange(start, min(n, start + step))
        made[rows] = file.read(key, rows).astype(np.float32) @ matrix
    return made
