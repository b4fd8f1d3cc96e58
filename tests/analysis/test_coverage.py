"""How often intervals hold the truth and tests reject it, counted over thousands of drawn studies."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from features.arrays import Bools, Doubles, Ints
from probe.analysis.statistics import (
    accuracy_interval,
    band,
    mean_interval,
    sign_flip,
)
from probe.analysis.training_variance import CrossValidated, widening


def even(_: np.random.Generator) -> Ints:
    """100 subjects of ten images."""
    return np.full(100, 10)


ADIENCE = (
    669, 598, 557, 535, 473, 437, 404, 391, 390, 361, 335, 328, 325, 324, 314, 300, 299, 297,
    287, 281, 277, 276, 234, 229, 227, 203, 199, 185, 183, 181, 180, 164, 163, 155, 152, 150,
    145, 142, 141, 139, 136, 131, 131, 127, 127, 125, 124, 124, 120, 120, 118, 118, 114, 111,
    104, 101, 94, 93, 92, 91, 87, 84, 83, 82, 81, 81, 80, 78, 76, 72, 72, 71, 69, 69, 65, 65, 65,
    63, 62, 61, 59, 59, 58, 58, 55, 54, 53, 51, 51, 50, 49, 47, 47, 46, 45, 44, 43, 42, 41, 40,
    38, 36, 36, 35, 35, 35, 33, 33, 29, 29, 27, 27, 26, 26, 26, 26, 26, 25, 25, 24, 23, 23, 22,
    21, 20, 20, 20, 18, 17, 16, 16, 16, 15, 15, 13, 12, 12, 11, 11, 11, 9, 9, 8, 8, 7, 7, 7, 7,
    7, 6, 5, 5, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1,
)  # fmt: skip


def adience(_: np.random.Generator) -> Ints:
    """Adience's 162 users with the eight published ages, 17,424 images: effectively 67 users."""
    return np.array(ADIENCE)


def drawn_sizes(rng: np.random.Generator) -> Ints:
    """120 subjects of one to sixty images, as geometric chance has it."""
    return rng.geometric(1 / 10, 120)


Sizes = Callable[[np.random.Generator], Ints]


def clustered(
    rng: np.random.Generator, sizes: Ints, rate: float, alike: float = 0.2
) -> tuple[Doubles, Ints]:
    """Right or wrong per image; two images of a subject correlate by `alike`. And the subjects."""
    spread = (1 - alike) / alike
    own = rng.beta(rate * spread, (1 - rate) * spread, len(sizes))
    subjects = np.repeat(np.arange(len(sizes)), sizes)
    return (rng.random(len(subjects)) < own[subjects]).astype(float), subjects


def coverage(sizes: Sizes, rate: float, studies: int, alike: float = 0.2, seed: int = 0) -> float:
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(studies):
        interval = accuracy_interval(*clustered(rng, sizes(rng), rate, alike))
        held += interval.low <= rate <= interval.high
    return held / studies


def two_methods(rng: np.random.Generator, sizes: Ints, rate: float) -> tuple[Doubles, Ints]:
    """Differences between two methods equally good, which agree on subjects and on most images."""
    spread = 4.0
    own = rng.beta(rate * spread, (1 - rate) * spread, len(sizes))
    apart = rng.normal(0, 0.05, len(sizes))
    subjects = np.repeat(np.arange(len(sizes)), sizes)
    first = rng.random(len(subjects))
    second = np.where(rng.random(len(subjects)) < 0.6, first, rng.random(len(subjects)))
    a = first < np.clip(own + apart, 0, 1)[subjects]
    b = second < np.clip(own - apart, 0, 1)[subjects]
    return a.astype(float) - b, subjects


def rejections(sizes: Sizes, rate: float, studies: int, seed: int = 0) -> float:
    rng = np.random.default_rng(seed)
    intervals = (mean_interval(*two_methods(rng, sizes(rng), rate)) for _ in range(studies))
    return sum(not interval.low <= 0 <= interval.high for interval in intervals) / studies


def band_coverage(sizes: Sizes, studies: int, seed: int = 0) -> float:
    """Eight layers, each as the one before with news of its own; how often a band holds all means."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(studies):
        n = sizes(rng)
        subjects = np.repeat(np.arange(len(n)), n)
        own, image = rng.normal(size=(len(n), 8)), rng.normal(size=(len(subjects), 8))
        for layer in range(1, 8):
            for noise in (own, image):
                noise[:, layer] = 0.8 * noise[:, layer - 1] + 0.6 * noise[:, layer]
        means = band(0.5 * own[subjects] + image, subjects)
        held += bool(((means.low <= 0) & (means.high >= 0)).all())
    return held / studies


@pytest.mark.parametrize("sizes", [even, drawn_sizes])
def test_intervals_hold_the_truth_about_as_often_as_they_say(sizes: Sizes) -> None:
    """400 studies: 95 % give or take 3.5 times 1.1 %; without subjects it would be 65 %."""
    assert coverage(sizes, 0.7, 400) == pytest.approx(0.95, abs=0.038)
    assert rejections(sizes, 0.7, 400) == pytest.approx(0.05, abs=0.038)


def test_bands_hold_all_layers_about_as_often_as_they_say() -> None:
    assert band_coverage(even, 150) >= 0.89


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("sizes", [even, drawn_sizes, adience])
def test_coverage_of_6000_studies(
    sizes: Sizes, rate: float, alike: float, record_property: Any
) -> None:
    """Per cent of intervals that hold the truth, at accuracies 0.5, 0.8 and 0.95.

    Of 20,000 studies each, by the same formula for all at once; with the jackknife's error alone:

    alike by       0.05            0.2             0.4
    even           95.2 95.2 95.2  95.5 95.2 94.7  95.1 95.2 94.5
      jackknife    95.2 95.1 95.1  95.4 95.1 94.6  95.0 95.1 94.4
    drawn_sizes    95.6 95.6 96.0  95.7 95.7 95.9  95.9 95.8 96.2
      jackknife    95.0 94.9 94.7  95.0 94.7 93.3  95.2 94.2 92.1
    adience        95.4 95.6 95.6  95.7 95.9 96.0  95.6 95.9 96.2
      jackknife    94.5 94.7 93.9  95.0 94.5 92.3  94.9 94.2 90.8
    """
    share = coverage(sizes, rate, 6_000, alike)
    record_property("coverage", share)
    print(
        f"\n{sizes.__name__}, accuracy {rate}, alike by {alike}: {share:.1%} of intervals hold it"
    )
    assert 0.93 <= share <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.6, 0.9])
@pytest.mark.parametrize("sizes", [even, drawn_sizes, adience])
def test_a_difference_is_seldom_found_where_there_is_none(
    sizes: Sizes, rate: float, record_property: Any
) -> None:
    """Per cent rejected at accuracies 0.6 and 0.9: even 4.6 5.3, drawn 4.7 5.2, adience 4.8 5.1."""
    share = rejections(sizes, rate, 10_000)
    record_property("rejections", share)
    print(f"\n{sizes.__name__}, accuracy {rate}: {share:.1%} of 10,000 null differences rejected")
    assert 0.04 <= share <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("sizes", [even, drawn_sizes, adience])
def test_the_paired_test_seldom_rejects_where_there_is_nothing(
    sizes: Sizes, rate: float, record_property: Any
) -> None:
    """Per cent rejected at accuracies 0.5, 0.8 and 0.95 (standard error 0.5).

    even 5.5 4.7 4.7, drawn sizes 5.3 4.8 4.9, adience 4.5 5.1 5.1. Counting equal sums in full it
    rejects less: at 0.8 even 3.9, drawn sizes 4.1.
    """
    rng = np.random.default_rng(0)
    p = [sign_flip(*two_methods(rng, sizes(rng), rate), seed=i) for i in range(2_000)]
    share = float(np.mean(np.array(p) <= 0.05))
    record_property("rejections", share)
    print(
        f"\n{sizes.__name__}, accuracy {rate}: {share:.1%} of 2,000 null differences rejected by signs"
    )
    assert 0.04 <= share <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [even, drawn_sizes, adience])
def test_coverage_of_4000_bands(sizes: Sizes, record_property: Any) -> None:
    """Per cent of bands that hold all layers, for even, drawn sizes and adience.

    Maximum studentised draw by draw, Student's t at its level: 96.0 94.3 94.8. With the errors of the
    data and the ratio of normal quantiles: 94.8 92.9 93.8.
    """
    share = band_coverage(sizes, 4_000)
    record_property("coverage", share)
    print(f"\n{sizes.__name__}: {share:.1%} of 4,000 bands hold all eight layers")
    assert 0.93 <= share <= 0.97


def _right(x: Doubles, y: Ints, train: Bools, tested: Bools) -> Bools:
    """Whether a ridge probe of some rows is right on others."""
    z = (x - x[train].mean(0)) / x[train].std(0)
    mean = y[train].mean()
    weights = np.linalg.solve(
        z[train].T @ z[train] + 10 * np.eye(8), z[train].T @ (y[train] - mean)
    )
    return np.asarray((z[tested] @ weights + mean > 0.5) == y[tested])


def two_ridges(
    rng: np.random.Generator, folds: float, apart: float, alike: bool
) -> tuple[Doubles, Ints, float]:
    """Differences between two ridge probes on features of equal worth, and `widening` of them.

    240 images of 60 people, whose label is their own or (`alike` is false) each image's. Under 1,
    `folds` is the share of people that a single split tests.
    """
    people = np.repeat(np.arange(60), 4)
    y = rng.integers(0, 2, 60)[people] if alike else rng.integers(0, 2, 240)
    order = rng.permutation(60)
    fold = (order % int(folds) if folds > 1 else -(order >= folds * 60).astype(int))[people]
    tests = range(int(fold.max()) + 1)
    right = np.full((2, 240), np.nan)
    inner = np.full((2, 240, len(tests)), np.nan)
    for hits, hits_inside in zip(right, inner, strict=True):
        x = rng.normal(size=(60, 8))[people] + rng.normal(size=(240, 8))
        x[:, 0] += apart * (2 * y - 1)
        for test in tests:
            here = fold == test
            hits[here] = _right(x, y, ~here, here)
            for other in set(tests) - {test}:
                # With two folds, by a probe of two thirds of the image's own fold.
                validate = fold == other
                thirds = [validate & (order[people] // 2 % 3 == third) for third in range(3)]
                for rows in thirds if len(tests) == 2 else [validate]:
                    hits_inside[rows, test] = _right(x, y, ~here & ~rows, rows)
    tested = fold >= 0
    trained = float(np.mean([(fold != test).sum() for test in tests]))
    results = [
        CrossValidated(hits, fold, hits_inside, trained, split=len(tests) == 1)
        for hits, hits_inside in zip(right, inner, strict=True)
    ]
    wider = widening(results, [1.0, -1.0], people)
    return (right[0] - right[1])[tested], people[tested], wider


@pytest.mark.slow
@pytest.mark.parametrize("folds", [2, 5, 10, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("apart", [0.0, 0.8, 1.5])
@pytest.mark.parametrize("alike", [False, True])
def test_methods_equally_good_are_seldom_told_apart(
    folds: float, apart: float, alike: bool, record_property: Any
) -> None:
    """Per cent told apart, over labels and worth, first with the errors between images alone.

    Of 200 studies each: 2 folds 10 to 20, then 3 to 12 (with 30 people to train on); 5 folds 7 to 14,
    then 4 to 5; 10 folds 6 to 17, then 2 to 6; one split that tests a fifth 2 to 7, then 2 to 7; a half 2
    to 9, then 0 to 7; four fifths 4 to 17, then 0 to 6.
    """
    rng = np.random.default_rng(0)
    plain = widened = 0
    for _ in range(1_000):
        values, subjects, wider = two_ridges(rng, folds, apart, alike)
        narrow, wide = (mean_interval(values, subjects, w) for w in (1.0, wider))
        plain += not narrow.low <= 0 <= narrow.high
        widened += not wide.low <= 0 <= wide.high
    record_property("rejections", widened / 1_000)
    print(
        f"\nfolds {folds}, apart {apart}, people alike {alike}: {plain / 10} and {widened / 10} %"
    )
    assert widened / 1_000 <= (0.14 if folds == 2 else 0.08)
