"""The probes, a record each: everything that the options, the fit and the report need to know of one.

To add a probe, write a file beside this one with a function that makes its scorer (as `knn_scorer` in
knn.py), and a record here. Nothing in this file imports PyTorch, since the help of the program reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from features.arrays import Doubles, Ints
    from probe.folds.splits import Splits
    from probe.probes.layer import Source
    from probe.probes.ridge_numbers import Predicted
    from probe.probes.scorer import HeldOut, Left, Scorer, Shared
    from probe.probes.settings import ProbeSettings

ScoreKind = Literal["logits", "shares", "margins"]
"""What scores are: softmax makes probabilities of logits, shares are probabilities, margins are not."""

MakeScorer = Callable[
    ["Source", "Ints", int, "Splits", "ProbeSettings", "Shared", "HeldOut | None"], "Scorer"
]
"""From features, labels, the number of classes, splits, settings, what is shared and, where other rows are
scored than those held out, which: to what fits and scores training sets."""

MakeNumbers = Callable[
    ["Source", "Doubles", "Splits", "ProbeSettings", "HeldOut | None"],
    Callable[["Left"], "Predicted"],
]
"""From features, numbers, splits, settings and the rows to score: to what a training set predicts."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A probe: how it is named, what it chooses and by what, and what fits it."""

    name: str
    """As in `--probe` and the column `method`."""
    words: str
    """What it is, in the field's words."""
    scorer: MakeScorer
    """Makes what fits training sets and scores the rows held out."""
    scores: ScoreKind
    """What its scores are."""
    grid: tuple[float, ...]
    """The values chosen between inside the training folds, the most regular model first."""
    selection: Literal["log_loss", "accuracy"] = "accuracy"
    """The metric by which they are chosen."""
    scales: tuple[str, ...] = ("standard", "l2", "none", "auto")
    """The scalings that it takes; in the place of any other, the first."""
    own_solver: Callable[[str], str] | None = None
    """What searches or solves, by the type of the device; None: `--solver`, `--tol` and `--C` say it."""
    has_hinge: bool = False
    """It minimises the squared hinge loss, by which, held out, its path ends: accuracy is full of ties."""
    is_path: bool = True
    """The grid goes from strong penalties to weak ones: it may end early, where it only overfits, and
    where nothing validates its middle is taken. Otherwise all is tried and the first is taken."""
    joins: bool = False
    """It is solved side by side with other probes and tasks on the same training sets."""
    at_once: bool = False
    """Where features are few, all values of the grid come from one factorisation."""
    is_linear: bool = False
    """Its scores are linear in the features, so that it has weights, which can be exported."""
    value_is_alpha: bool = False
    """What is reported as chosen is alpha, one over the C of the grid."""
    default: bool = False
    """Whether `fit` fits it where no probe is named."""
    labels: bool = False
    """Whether its scorer takes several labels an image, `(n, labels)`, too."""
    numbers: Callable[[], MakeNumbers] | None = None
    """Imports what predicts numbers; None: it has classes only."""


def _linear(
    source: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: ProbeSettings,
    shared: Shared,
    held_out: HeldOut | None,
) -> Scorer:
    from probe.probes.linear_scorer import linear_scorer

    return linear_scorer(source, y, classes, splits, settings, shared, held_out)


def _knn(
    source: Source,
    y: Ints,
    classes: int,
    splits: Splits,
    settings: ProbeSettings,
    _: Shared,
    held_out: HeldOut | None,
) -> Scorer:
    from probe.probes.knn import knn_scorer

    return knn_scorer(source, y, classes, splits, settings, held_out)


def _ridge_numbers() -> MakeNumbers:
    from probe.probes.ridge_numbers import RidgeNumbers

    return RidgeNumbers


def _knn_numbers() -> MakeNumbers:
    from probe.probes.knn_numbers import KnnNumbers

    return KnnNumbers


def _neighbour_search(device: str) -> str:
    from probe.probes.knn import engine

    return engine() if device == "cpu" else "torch"


GRID = (
    0.01, 0.03162277660168379, 0.1, 0.31622776601683794, 1.0, 3.1622776601683795, 10.0,
    31.622776601683793, 100.0, 316.2277660168379, 1000.0, 3162.2776601683795, 10000.0,
)  # fmt: skip
"""The values of C times the mean squared length of the training rows, two in a decade.

As digits and not as powers, so that protocols, which hold them, are the same on every machine.
"""

METHODS = {
    method.name: method
    for method in (
        Method(
            name="logistic",
            words="logistic regression",
            scorer=_linear,
            scores="logits",
            grid=GRID,
            selection="log_loss",
            is_linear=True,
            joins=True,
            default=True,
            labels=True,
        ),
        Method(
            name="svm",
            words="linear SVM",
            scorer=_linear,
            scores="margins",
            grid=GRID,
            has_hinge=True,
            is_linear=True,
            joins=True,
            default=True,
            labels=True,
        ),
        Method(
            name="ridge",
            words="ridge regression on the classes, or on a number",
            scorer=_linear,
            scores="margins",
            grid=GRID,
            at_once=True,
            is_linear=True,
            value_is_alpha=True,
            numbers=_ridge_numbers,
        ),
        Method(
            name="knn",
            words="nearest neighbours",
            scorer=_knn,
            scores="shares",
            grid=(1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0),
            scales=("l2", "none"),
            own_solver=_neighbour_search,
            is_path=False,
            labels=True,
            numbers=_knn_numbers,
        ),
    )
}
"""All probes by name, in the order of the report."""

FOR_NUMBERS = tuple(method.name for method in METHODS.values() if method.numbers is not None)
"""The probes that predict numbers; the first is fitted where none of them is named."""

FOR_LABELS = tuple(method.name for method in METHODS.values() if method.labels)
"""The probes that predict several labels an image; the first is fitted where none of them is named."""

DEFAULT = tuple(method.name for method in METHODS.values() if method.default)
"""The probes that `fit` fits where none is named."""
