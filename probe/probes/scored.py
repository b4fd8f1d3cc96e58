"""The class scores of held-out rows at one point of a probe's grid."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from features.arrays import Floats


@dataclass(frozen=True)
class Scored:
    """Class scores of held-out rows at one point of the grid."""

    scores: Floats
    """`(rows, K)`; the largest is the prediction."""
    value: float
    """The C, alpha or k itself."""
    converged: bool = True
    error: float | None = None
    """Bound of the relative error of the objective; None where it is solved directly."""
    weights: Tensor | None = field(default=None, repr=False, compare=False)
    """Coordinates `(k, size + 1)`, from which a weaker penalty may start."""
