"""The settings of a probe: what defines its numbers besides features, labels and folds."""

from __future__ import annotations

from dataclasses import dataclass

SOLVERS = ("grid", "sklearn")
TOL = 1e-4
"""The relative error of the objective at which the solver `grid` stops."""


@dataclass(frozen=True)
class ProbeSettings:
    """What defines a probe besides features, labels and folds; the protocol of a row holds its fields."""

    method: str
    scale: str
    grid: tuple[float, ...]
    relative: bool
    """The grid is of C times the mean squared length of the training rows, not of C itself."""
    solver: str
    tol: float = TOL
