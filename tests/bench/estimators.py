"""LogisticProbeCV beside scikit-learn's LogisticRegressionCV: the same folds, grid and objective.

    python tests/bench/estimators.py --rows 2000 --dim 512 --classes 8

Drawn features, standardised once before either sees them; C is chosen by the log loss of held-out rows and
fitted on all rows. Printed are processor and wall seconds of either, of alternating rounds, and at the C
chosen both objectives C sum loss + |w|^2 / 2, computed here in float64 from the weights alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold

sys.path.insert(0, str(Path(__file__).parents[2]))

from probe.sklearn import LogisticProbeCV

GRID = [10.0**k for k in range(-6, 1)]


def objective(model: Any, c: float, x: Any, y: Any) -> float:
    """Of weights in float64; of two classes one column, as both have it."""
    scores = x @ model.coef_.T + model.intercept_
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], 1)
    scores -= scores.max(1, keepdims=True)
    losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(len(y)), y]
    return float(c * losses.sum() + np.square(model.coef_).sum() / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tol", type=float, default=1e-4)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    y = np.arange(given.rows) % given.classes
    means = random.standard_normal((given.classes, given.dim)) * 2 / given.dim**0.5
    x = random.standard_normal((given.rows, given.dim)) + means[y]
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32).astype(np.float64)
    folds = list(StratifiedKFold(5).split(x, y))
    times: dict[str, list[float]] = {"ours": [], "scikit-learn": []}
    for _ in range(given.rounds):
        for name, model in (
            ("ours", LogisticProbeCV(GRID, cv=folds, scale="none", tol=given.tol)),
            (
                "scikit-learn",
                LogisticRegressionCV(
                    Cs=GRID, cv=folds, scoring="neg_log_loss", max_iter=5000, tol=1e-4,
                    use_legacy_attributes=False, l1_ratios=(0,),
                ),
            ),
        ):  # fmt: skip
            wall, processor = time.perf_counter(), time.process_time()
            model.fit(x, y)
            processor = time.process_time() - processor
            times[name].append(processor)
            chosen = float(np.ravel(model.C_)[0])
            print(
                f"{name}: {processor:.2f} processor s, {time.perf_counter() - wall:.2f} s, C {chosen:g}, "
                f"objective {objective(model, chosen, x, y):.6f}",
                flush=True,
            )
    ratio = np.median(times["scikit-learn"]) / np.median(times["ours"])
    print(f"scikit-learn takes {ratio:.1f} times the processor seconds")


if __name__ == "__main__":
    main()
