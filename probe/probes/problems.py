"""What the solver is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from probe.probes.losses import Loss


@dataclass(frozen=True)
class Problems:
    """Problems that differ in C, and for one against the others in the class."""

    loss: Loss
    c: Tensor
    """C of every problem, `(q,)` float64."""
    penalise_bias: bool
    tol: float = 1e-4
    """The relative error of the objective to stop at."""
    steps: int = 1_000
    """Iterations after which they stop in any case; their `gap` then says how far they came."""
    single: bool = False
    """They stop where float32 is too coarse, too."""
    start: Tensor | None = None
    """Coordinates to start from, `(q, k, size + 1)`; zeros by default."""


@dataclass(frozen=True)
class Solved:
    """The optimum of every problem."""

    weights: Tensor
    """Coordinates, `(q, k, size + 1)` float64; the last is the bias."""
    objective: Tensor
    """`(q,)` float64."""
    gap: Tensor
    """Bound of the error of the objective, relative, `(q,)` float64."""
    iterations: int
