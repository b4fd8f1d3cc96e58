"""The grid solver against scikit-learn: same problems, same objectives, one machine, one run.

    python tests/bench/probes.py                       # sizes that take minutes
    python tests/bench/probes.py --rows 17000 --dim 4096

For every size: the whole nested grid (13 C, 5 folds, inner folds shared) by this project's solver, and
a sample of scikit-learn's fits of the same grid, from which its whole grid is estimated (said so).
Printed are seconds, the ratio, the largest relative difference of the objectives at the sampled fits,
and the peak memory. The features are drawn: a few strong directions and noise, labels from them.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
import warnings
from importlib.metadata import version

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from probe.fitting.crossval import cross_validate
from probe.folds.splits import Splits
from probe.probes.layer import Source, prepared
from probe.probes.losses import softmax_loss, squared_hinge_loss
from probe.probes.methods import GRID
from probe.probes.settings import ProbeSettings
from probe.probes.solver import solve


def drawn(rows: int, dim: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features `(rows, dim)` float32 and labels `(rows,)`."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, 40)).astype(np.float32)
    x = hidden @ rng.normal(size=(40, dim)).astype(np.float32)
    x += 3 * rng.normal(size=(rows, dim)).astype(np.float32)
    y = (hidden @ rng.normal(size=(40, classes)) + 4 * rng.normal(size=(rows, classes))).argmax(1)
    return np.maximum(x, 0), y.astype(np.int64)


def objective(
    method: str, w: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray, c: float
) -> float:
    """The objective that both minimise, in float64."""
    m = x @ w.T + b
    if method == "svm":
        t = 2.0 * (y[:, None] == np.arange(m.shape[1])) - 1
        return c * (np.maximum(0, 1 - t * m) ** 2).sum() + 0.5 * ((w**2).sum() + (b**2).sum())
    top = m.max(1, keepdims=True)
    loss = (np.log(np.exp(m - top).sum(1)) + top[:, 0] - m[np.arange(len(y)), y]).sum()
    return c * loss + 0.5 * (w**2).sum()


def sampled(
    method: str, x: np.ndarray, y: np.ndarray, points: tuple[int, ...]
) -> tuple[float, float]:
    """Mean seconds of one scikit-learn fit on one inner training set, and the worst difference.

    Its tolerance is made ten times smaller until its objective is within 1e-4 of ours or no smaller
    one helps; only the last fit counts.
    """
    train = np.flatnonzero(np.arange(len(x)) % 5 < 3)
    z = x[train]
    z = ((z - z.mean(0)) / np.maximum(z.std(0), 1e-6)).astype(np.float32)
    rows = np.arange(len(z))
    sets = [(rows, rows[:1])]
    ((_, one),) = prepared(Source.of(z), np.zeros_like(rows), sets, "none", method != "svm")
    seen, codes = np.unique(y[train], return_inverse=True)  # a rare class may be left out whole
    classes, labels = len(seen), torch.from_numpy(codes)
    signs = 2 * torch.nn.functional.one_hot(labels, classes).float() - 1
    seconds, worst = [], -np.inf
    for point in points:
        c = GRID[point] / z.shape[1]
        if method == "svm":
            made = solve(
                one.space,
                lambda q: squared_hinge_loss(signs.T[q % classes]),
                torch.full((classes,), c, dtype=torch.float64),
                1,
                penalise_bias=True,
            )
        else:
            made = solve(
                one.space,
                lambda _: softmax_loss(labels),
                torch.tensor([c], dtype=torch.float64),
                classes,
                penalise_bias=False,
            )
        ours = float(made.objective.sum())
        for tol in (1e-4, 1e-5, 1e-6):
            model = (
                LogisticRegression(C=c, tol=tol, max_iter=2_000)
                if method == "logistic"
                else LinearSVC(C=c, dual=False, tol=tol, max_iter=2_000)
            )
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(z, codes)
            spent = time.perf_counter() - started
            w, b = model.coef_.astype(float), model.intercept_.astype(float)
            theirs = objective(method, w, b, z.astype(float), codes, c)
            if theirs <= ours * (1 + 1e-4):
                break
        seconds.append(spent)
        worst = max(worst, ours / theirs - 1)
    return float(np.mean(seconds)), worst


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[2000])
    parser.add_argument("--dim", type=int, nargs="*", default=[128, 1024, 9216])
    parser.add_argument("--classes", type=int, nargs="*", default=[8])
    parser.add_argument("--points", type=int, nargs="*", default=[2, 6, 10])
    parser.add_argument("--methods", nargs="*", default=["logistic", "svm"])
    given = parser.parse_args()
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"scikit-learn {version('scikit-learn')}"
    )
    print(
        "rows dim classes method | ours s | one sklearn fit s | sklearn grid s (estimated) | ratio | "
        "objective, ours above theirs | accuracy | peak MB"
    )
    for rows in given.rows:
        for dim in given.dim:
            for classes in given.classes:
                x, y = drawn(rows, dim, classes)
                splits = Splits(np.arange(rows) % 5, np.arange(5))
                for method in given.methods:
                    settings = ProbeSettings(method, "standard", GRID, True, "grid")
                    started = time.perf_counter()
                    outcome = cross_validate(x, y, classes, splits, settings)
                    ours = time.perf_counter() - started
                    accuracy = float((outcome.scores.argmax(1) == y).mean())
                    one, worst = sampled(method, x, y, tuple(given.points))
                    fits = 10 * len(GRID) + 5  # inner training sets shared here too, to be fair
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
                    print(
                        f"{rows} {dim} {classes} {method} | {ours:.1f} | {one:.2f} | {one * fits:.0f} | "
                        f"{one * fits / ours:.0f} | {worst:+.1e} | {accuracy:.3f} | {peak:.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
