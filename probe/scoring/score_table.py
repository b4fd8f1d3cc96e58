"""The transfer scores, a record each: files, tables and the agreement with accuracies read it.

To add a score, write a function in transfer_scores.py and a field of `Scores` here; it becomes a column of
scores.csv, which `probe rank` then makes again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from features.arrays import Floats, Ints
from probe.results.scores import probabilities
from probe.scoring.transfer_scores import Basis, h_score, leep, logme


@dataclass(frozen=True)
class LabelledLayer:
    """The features of a layer and the classes of their images."""

    x: Floats
    """`(n, d)`."""
    y: Ints
    """Class numbers, `(n,)`."""
    basis: Basis
    """The singular vectors of `x`."""
    is_head: bool
    """Whether the features are logits over the classes that the network was trained on."""


@dataclass(frozen=True)
class TransferScore:
    """A transfer score: larger is better."""

    heading: str
    """Its name for people."""
    of: Callable[[LabelledLayer], float | None]
    """Computes it; None where it does not apply."""
    digits: int = 3
    """The decimals that the terminal shows."""


def _score(heading: str, of: Callable[[LabelledLayer], float | None], digits: int = 3) -> Any:
    return field(metadata={"score": TransferScore(heading, of, digits)})


def _leep(layer: LabelledLayer) -> float | None:
    return leep(probabilities(layer.x, "logits"), layer.y) if layer.is_head else None


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All transfer scores, in the order of their columns."""

    logme: float = _score("LogME", lambda layer: logme(layer.basis, layer.y), digits=4)
    h_score: float = _score("H-score", lambda layer: h_score(layer.x, layer.y))
    leep: float | None = _score("LEEP", _leep)
    """Only for a layer that is the network's own output over the classes it was trained on."""


SCORES: dict[str, TransferScore] = {f.name: f.metadata["score"] for f in fields(Scores)}
"""All transfer scores by their columns in scores.csv; layers are listed by the first."""


def scores_of(layer: LabelledLayer) -> dict[str, Any]:
    """Every score of a layer by its column: the fields of `Scores`."""
    return {name: score.of(layer) for name, score in SCORES.items()}
