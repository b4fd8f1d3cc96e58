"""Training sets made of two arrays, by what makes those of a layer."""

import numpy as np
from torch import Tensor, cat

from probe.probes.layer import Prepared, Source, prepared
from probe.probes.scaling import moments, scaling


def prepare(train: Tensor, other: Tensor, scale: str, centre: bool) -> Prepared:
    """Training rows `(n, dim)` and other rows `(m, dim)`, scaled by the training rows."""
    source, rows = _source(train, other, scale)
    n = len(train)
    part = (rows >= n).astype(np.int64)
    ((_, made),) = prepared(source, part, [(rows[:n], rows[n:])], scale, centre)
    return made


def scaled(train: Tensor, other: Tensor, scale: str) -> tuple[Tensor, Tensor]:
    """Both arrays, scaled by the training rows alone."""
    source, rows = _source(train, other, scale)
    n = len(train)
    by_training = scaling(moments(source.block(rows[:n]), False), scale, centre=False)
    return by_training(source.block(rows[:n])), by_training(source.block(rows[n:]))


def _source(train: Tensor, other: Tensor, scale: str) -> tuple[Source, np.ndarray]:
    x = cat([train, other]).numpy()
    rows = np.arange(len(x))
    source = Source.of(x)
    return source.unit_rows(rows) if scale == "l2" else source, rows
