"""How often intervals hold the truth, on drawn populations: `python tests/bench/coverage.py`.

A population has clusters of images (subjects of four images on average, as geometric chance has it), two
classes, one per subject, and three backbones of two layers, whose features are a fixed linear map of
what an image shows, and noise; images of a subject share parts of both. A study draws images, and is
cross-validated as `probe fit` does: folds by subject, ridge, its penalty and the layer of a `best` row
chosen inside the training folds. The truth is the mean, over all studies of a size, of the accuracy of
their probes on 2,000 further images of other people: what the method reaches with so many images,
whichever these are. Beside it stands the truth of the probes at hand.

In the population `equal` the maps are rotations, so that all backbones are worth the same to the letter.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from itertools import combinations

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before NumPy is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from features.arrays import Doubles, Floats, Ints
from probe.analysis.statistics import Interval, accuracy_interval, band, mean_interval
from probe.analysis.training_variance import CrossValidated, widening

FOLDS, BACKBONES, LAYERS, DIM, SHOWN = 5, 3, 2, 48, 24
PENALTIES = (3000.0, 300.0, 30.0, 3.0)
KINDS = ("layer", "best", "difference of layers", "difference of bests")


@dataclass(frozen=True)
class Population:
    """What images show of their class, and how well each layer sees it."""

    means: Doubles
    """What a class shows on average, `(2, SHOWN)`."""
    maps: Doubles
    """`(BACKBONES * LAYERS, SHOWN, DIM)`."""
    noise: Doubles
    """The SD of each layer's noise, `(BACKBONES * LAYERS,)`."""

    def draw(self, rng: np.random.Generator, n: int, each: float) -> tuple[Floats, Ints, Ints]:
        """Features `(layers, n, DIM + 1)`, the last being 1, classes `(n,)` and subjects `(n,)`."""
        subjects = np.repeat(np.arange(n), rng.geometric(1 / each, n))[:n]
        people = int(subjects[-1]) + 1
        y = rng.integers(0, 2, people)[subjects]

        def shared(dim: int) -> Doubles:
            own = 0.6 * rng.normal(size=(people, dim))
            return np.asarray(own[subjects] + 0.8 * rng.normal(size=(n, dim)))

        shown = self.means[y] + shared(SHOWN)
        x = np.ones((len(self.maps), n, DIM + 1), dtype=np.float32)
        for layer, (seen, noise) in enumerate(zip(self.maps, self.noise, strict=True)):
            x[layer, :, :-1] = shown @ seen + noise * shared(DIM)
        return x, y, subjects


def population(equal: bool, seed: int = 1) -> Population:
    """Backbones of unlike worth, or all of the same."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(2, SHOWN))
    means -= means.mean(0)
    means *= 1.6 / np.sqrt((means**2).sum(1).mean())
    layers = BACKBONES * LAYERS
    if equal:
        turned = [np.linalg.qr(rng.normal(size=(DIM, SHOWN)))[0].T for _ in range(layers)]
        return Population(means, np.stack(turned), np.full(layers, 0.7))
    maps = rng.normal(size=(layers, SHOWN, DIM)) / np.sqrt(SHOWN)
    return Population(means, maps, np.repeat([0.9, 1.3, 1.8], LAYERS))


@dataclass(frozen=True)
class Study:
    """The layers and `best` rows of a drawn study, and what each is worth on other images."""

    tested: list[CrossValidated]
    truth: list[float]
    subjects: Ints


def study(drawn_from: Population, rng: np.random.Generator, n: int) -> Study:
    """A drawn study, cross-validated."""
    x, y, subjects = drawn_from.draw(rng, n, 4.0)
    other_x, other_y, _ = drawn_from.draw(rng, 2_000, 1.0)
    fold = (rng.permutation(int(subjects[-1]) + 1) % FOLDS)[subjects]
    share = np.bincount(fold, minlength=FOLDS) / n
    made = [_layer(x[i], y, fold, other_x[i], other_y) for i in range(len(x))]
    tested, truth = [], []
    for right, inner, _, worth in made:
        tested.append(CrossValidated(right, fold, inner, 0.8 * n))
        truth.append(float(share @ worth))
    for backbone in range(BACKBONES):
        mine = made[backbone * LAYERS : (backbone + 1) * LAYERS]
        chosen = np.stack([selection for _, _, selection, _ in mine]).argmax(0)
        right, inner = np.empty(n), np.empty((n, FOLDS))
        for test, layer in enumerate(chosen):
            right[fold == test] = mine[layer][0][fold == test]
            inner[:, test] = mine[layer][1][:, test]
        tested.append(CrossValidated(right, fold, inner, 0.8 * n, best=True))
        truth.append(float(share @ [mine[layer][3][test] for test, layer in enumerate(chosen)]))
    return Study(tested, truth, subjects)


def _layer(
    x: Floats, y: Ints, fold: Ints, other_x: Floats, other_y: Ints
) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Right `(n,)`, right inside `(n, folds)`, inner accuracies `(folds,)`, and what probes are worth."""
    signs = 2.0 * y - 1
    parts = [np.flatnonzero(fold == test) for test in range(FOLDS)]
    gram = np.stack([x[rows].T.astype(np.float64) @ x[rows] for rows in parts])
    moment = np.stack([signs[rows] @ x[rows] for rows in parts])
    left = [(i,) for i in range(FOLDS)] + list(combinations(range(FOLDS), 2))
    penalty = np.diag([1.0] * DIM + [1e-6])
    kept = np.stack([gram.sum(0) - gram[list(out)].sum(0) for out in left])
    aims = np.stack([moment.sum(0) - moment[list(out)].sum(0) for out in left])
    system = kept[:, None] + np.array(PENALTIES)[:, None, None] * penalty
    weights = np.linalg.solve(system, np.repeat(aims[:, None, :, None], len(PENALTIES), 1))[..., 0]
    of = dict(zip(left, weights, strict=True))
    right, inner = np.empty(len(y)), np.full((len(y), FOLDS), np.nan)
    selection, worth = np.empty(FOLDS), np.empty(FOLDS)
    for test in range(FOLDS):
        hits = {}
        for part in set(range(FOLDS)) - {test}:
            scores = x[parts[part]] @ of[min(part, test), max(part, test)].T
            hits[part] = (scores > 0) == (y[parts[part]] == 1)[:, None]
        means = np.concatenate(list(hits.values())).mean(0)
        best = int(means.argmax())
        selection[test] = means[best]
        for part, of_part in hits.items():
            inner[parts[part], test] = of_part[:, best]
        refit = of[test,][best]
        right[parts[test]] = (x[parts[test]] @ refit > 0) == (y[parts[test]] == 1)
        worth[test] = ((other_x @ refit > 0) == (other_y == 1)).mean()
    return right, inner, selection, worth


def intervals(drawn: Study, plain: bool) -> dict[str, list[tuple[Interval, float]]]:
    """The intervals of every kind, each with what the probes at hand are worth."""
    kinds: dict[str, list[tuple[Interval, float]]] = {kind: [] for kind in KINDS}
    layers = BACKBONES * LAYERS
    for i, result in enumerate(drawn.tested):
        wider = 1.0 if plain else widening([result], [1.0], drawn.subjects)
        interval = accuracy_interval(result.right, drawn.subjects, wider)
        kinds["best" if result.best else "layer"].append((interval, drawn.truth[i]))
    for group in (range(layers), range(layers, len(drawn.tested))):
        for i, j in combinations(group, 2):
            a, b = drawn.tested[i], drawn.tested[j]
            wider = 1.0 if plain else widening([a, b], [1.0, -1.0], drawn.subjects)
            interval = mean_interval(a.right - b.right, drawn.subjects, wider)
            kind = "difference of bests" if a.best else "difference of layers"
            kinds[kind].append((interval, drawn.truth[i] - drawn.truth[j]))
    return kinds


def winner(drawn: Study) -> bool:
    """Whether a backbone is ahead of all others at once, as the headline of a report has it."""
    bests = sorted((t for t in drawn.tested if t.best), key=lambda t: -t.right.mean())
    pairs = list(combinations(bests, 2))
    wider = np.array([widening(pair, [1.0, -1.0], drawn.subjects) for pair in pairs])
    apart = band(np.stack([a.right - b.right for a, b in pairs], 1), drawn.subjects, wider)
    return bool((apart.low[: len(bests) - 1] > 0).all())


def coverage(n: int, studies: int) -> None:
    """Print the share of intervals that hold the truth, and the power."""
    drawn_from = population(equal=False)
    drawn = [study(drawn_from, np.random.default_rng([n, i]), n) for i in range(studies)]
    truth = np.mean([one.truth for one in drawn], axis=0)
    layers = BACKBONES * LAYERS
    aims = {
        "layer": truth[:layers],
        "best": truth[layers:],
        "difference of layers": [a - b for a, b in combinations(truth[:layers], 2)],
        "difference of bests": [a - b for a, b in combinations(truth[layers:], 2)],
    }
    for plain in (False, True):
        made = [intervals(one, plain) for one in drawn]
        for kind in KINDS:
            low, high, own = (
                np.array([[part(cell) for cell in one[kind]] for one in made])
                for part in (lambda c: c[0].low, lambda c: c[0].high, lambda c: c[1])
            )
            held = ((low <= aims[kind]) & (aims[kind] <= high)).mean(1)
            at_hand = ((low <= own) & (own <= high)).mean(1)
            errors = [float(100 * x.std(ddof=1) / np.sqrt(studies)) for x in (held, at_hand)]
            print(
                f"{n:,} images, {kind}, {'between images alone' if plain else 'widened'}: method "
                f"{100 * held.mean():.1f} % ({errors[0]:.1f}), probes at hand {100 * at_hand.mean():.1f} % "
                f"({errors[1]:.1f}), half width {50 * (high - low).mean():.1f} points",
                flush=True,
            )
            if kind == "difference of bests":
                found = (low > 0).mean(0)
                shown = ", ".join(
                    f"{100 * aim:.1f} points {100 * p:.0f} %"
                    for aim, p in zip(aims[kind], found, strict=True)
                )
                print(f"{n:,} images, power: {shown}", flush=True)


def main() -> None:
    """Coverage at every size, then false winners among equals."""
    options = argparse.ArgumentParser()
    options.add_argument("--studies", type=int, default=400)
    options.add_argument("--images", type=int, nargs="*", default=[400, 1_200, 2_000])
    options.add_argument("--equal", type=int, default=400, help="images of studies of equals")
    asked = options.parse_args()
    started = time.perf_counter()
    drawn_from = population(equal=True)
    wins = sum(
        winner(study(drawn_from, np.random.default_rng([3, i]), asked.equal))
        for i in range(asked.studies)
    )
    print(
        f"equals, {asked.equal} images: a winner in {wins} of {asked.studies} studies", flush=True
    )
    for n in asked.images:
        coverage(n, asked.studies)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
