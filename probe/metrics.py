"""What a set of predictions is worth. All are fractions, but the mean absolute error in classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def measure(
    scores: npt.NDArray[np.floating], y: npt.NDArray[np.int64], ordered: bool
) -> dict[str, float]:
    """Metrics of the largest score against the truth.

    Args:
        scores: `(n, K)`.
        y: Class numbers, `(n,)`.
        ordered: Whether classes have an order; adds `one_off` and `mae`.

    Returns:
        `accuracy`; `balanced_accuracy`, the mean recall of the classes that occur; `macro_f1`, the
        mean F1 of the classes that occur or are predicted; for ordered tasks `one_off`, the share at
        most one class off, and `mae`, the mean distance in classes.
    """
    predicted = scores.argmax(1)
    classes = scores.shape[1]
    table = np.bincount(y * classes + predicted, minlength=classes**2).reshape(classes, classes)
    hits, occurs, claimed = np.diag(table), table.sum(1), table.sum(0)
    either = (occurs + claimed) > 0
    found = {
        "accuracy": float(hits.sum() / len(y)),
        "balanced_accuracy": float((hits[occurs > 0] / occurs[occurs > 0]).mean()),
        "macro_f1": float((2 * hits[either] / (occurs + claimed)[either]).mean()),
    }
    if ordered:
        off = np.abs(predicted - y)
        found |= {"one_off": float((off <= 1).mean()), "mae": float(off.mean())}
    return found
