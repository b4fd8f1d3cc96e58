from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from features.arrays import Doubles, Ints
from probe.analysis.detectable import detectable
from probe.analysis.statistics import (
    Interval,
    accuracy_interval,
    band,
    difference_interval,
    mean_interval,
    sign_flip,
    slope,
)


def half_width(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def naive_error(values: Doubles, subjects: Ints) -> float:
    """The delete-one jackknife, written out."""
    without = [values[subjects != subject].mean() for subject in np.unique(subjects)]
    g = len(without)
    return float(np.sqrt((g - 1) / g * sum((w - np.mean(without)) ** 2 for w in without)))


def student(effective: float) -> float:
    return float(stats.t.ppf(0.975, max(effective - 1, 1)))


@given(
    groups=st.lists(st.integers(1, 9), min_size=2, max_size=25),
    seed=st.integers(0, 2**16),
)
def test_the_error_is_that_of_leaving_out_a_subject_at_a_time(groups: list[int], seed: int) -> None:
    drawn = np.random.default_rng(seed)
    subjects = drawn.permutation(np.repeat(np.arange(len(groups)) * 7, groups))
    values = drawn.normal(size=len(subjects))
    interval = mean_interval(values, subjects)
    effective = sum(groups) ** 2 / sum(n * n for n in groups)
    assert interval.effective == pytest.approx(effective)
    assert interval.value == pytest.approx(values.mean())
    assert half_width(interval) == pytest.approx(student(effective) * naive_error(values, subjects))


@given(n=st.integers(3, 60), seed=st.integers(0, 2**16))
def test_one_image_per_subject_is_the_textbook_interval(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=n)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    interval = mean_interval(values, np.arange(n))
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))


def test_by_hand() -> None:
    """Right of images: 2 of 2, 1 of 2, 0 of 1. Left out one by one: 1/3, 2/3, 3/4, mean 7/12.

    Deviations -3/12, 1/12, 2/12; error sqrt(2/3 (9 + 1 + 4) / 144); effectively 25 / 9 subjects.
    """
    values, subjects = np.array([1.0, 1, 0, 1, 0]), np.array([3, 3, 5, 5, 8])
    interval = mean_interval(values, subjects)
    assert interval.value == pytest.approx(3 / 5)
    assert interval.effective == pytest.approx(25 / 9)
    assert half_width(interval) == pytest.approx(
        stats.t.ppf(0.975, 16 / 9) * np.sqrt(2 / 3 * 14 / 144)
    )


def test_the_same_images_again_are_no_new_evidence() -> None:
    drawn = np.random.default_rng(0)
    values, subjects = drawn.integers(0, 2, 80).astype(float), drawn.integers(0, 20, 80)
    once = mean_interval(values, subjects)
    many = mean_interval(np.tile(values, 5), np.tile(subjects, 5))
    assert (many.low, many.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert many.effective == pytest.approx(once.effective)


def test_one_subject_says_nothing() -> None:
    interval = mean_interval(np.array([0.0, 1.0]), np.zeros(2, dtype=np.int64))
    assert (interval.value, interval.low, interval.high) == (0.5, -np.inf, np.inf)
    held = accuracy_interval(np.array([0.0, 1.0]), np.zeros(2, dtype=np.int64))
    assert (held.low, held.high) == (0, 1)


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_all_right_or_all_wrong_is_wilsons_interval(right: float) -> None:
    """z^2 / (n + z^2) from the end, n the effective subjects: here 36 / 12 = 3."""
    subjects = np.repeat([0, 1, 2], 2)
    interval = accuracy_interval(np.full(6, right), subjects)
    reach = 1.959964**2 / (3 + 1.959964**2)
    assert interval.value == right
    assert interval.effective == pytest.approx(3)
    assert sorted([abs(interval.low - right), abs(interval.high - right)]) == pytest.approx(
        [0, reach], abs=1e-6
    )


@settings(deadline=None)
@given(
    n=st.integers(2, 60), seed=st.integers(0, 2**16), rate=st.floats(0, 1),
    people=st.integers(1, 30),
)  # fmt: skip
def test_an_accuracy_lies_in_its_interval_within_0_and_1(
    n: int, seed: int, rate: float, people: int
) -> None:
    drawn = np.random.default_rng(seed)
    right = (drawn.random(n) < rate).astype(float)
    interval = accuracy_interval(right, drawn.integers(0, people, n))
    assert 0 <= interval.low <= interval.value + 1e-12
    assert interval.value - 1e-12 <= interval.high <= 1
    assert interval.value == pytest.approx(right.mean())
    assert interval.low < interval.high


def test_the_interval_of_an_accuracy_is_symmetric_in_its_logit() -> None:
    values, subjects = np.repeat([1.0, 1, 1, 0], 10), np.arange(40)
    interval, plain = accuracy_interval(values, subjects), mean_interval(values, subjects)
    middle = special.logit(0.75)
    reach = half_width(plain) / (0.75 * 0.25)
    assert special.logit(interval.low) == pytest.approx(middle - reach)
    assert special.logit(interval.high) == pytest.approx(middle + reach)


@pytest.mark.parametrize("seed", range(4))
def test_all_signs_of_few_subjects(seed: int) -> None:
    """Against every combination, spelled out."""
    drawn = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(7) * 3, drawn.integers(1, 5, 7))
    values = drawn.integers(-1, 2, len(subjects)).astype(float)
    sums = [values[subjects == value].sum() for value in np.unique(subjects)]
    flipped = [abs(np.dot(signs, sums)) for signs in product((-1, 1), repeat=7)]
    wanted = np.mean([value >= abs(sum(sums)) - 1e-9 for value in flipped])
    assert sign_flip(values, subjects) == pytest.approx(wanted)


def test_many_subjects_are_drawn_and_agree_with_the_normal_limit() -> None:
    drawn = np.random.default_rng(0)
    subjects = np.repeat(np.arange(200), 3)
    values = drawn.normal(0.04, 1, 200)[subjects] + drawn.normal(0, 1, 600)
    sums = np.bincount(subjects, weights=values)
    limit = 2 * stats.norm.sf(abs(sums.sum()) / np.sqrt((sums**2).sum()))
    p = sign_flip(values, subjects)
    assert p == pytest.approx(limit, abs=0.02)
    assert p == sign_flip(values, subjects)
    assert sign_flip(values + 9, subjects) == pytest.approx(1e-4)  # none of 9,999 is as far
    assert sign_flip(np.zeros(600), subjects) == 1


def test_equal_sums_of_drawn_signs_count_half() -> None:
    """One image per subject is McNemar's test: 19 against 9, whose mid-p value is in the tables."""
    values = np.r_[np.ones(19), -np.ones(9), np.zeros(50)]
    exact = stats.binomtest(19, 28).pvalue
    wanted = exact - stats.binom.pmf(19, 28, 0.5)
    assert exact > 0.08
    assert sign_flip(values, np.arange(78)) == pytest.approx(wanted, abs=0.008)


def test_large_subjects_that_are_all_right_do_not_make_an_accuracy_sure() -> None:
    """Six subjects of 20 images all right, 60 of two images, each all right or all wrong.

    Images of a subject are always alike, so the accuracy is worth n^2 / sum n_g^2 = 21.8 images; the
    jackknife sees the small ones alone err.
    """
    sizes = np.r_[np.full(6, 20), np.full(60, 2)]
    right = np.r_[np.ones(6), np.arange(60) % 2]
    subjects = np.repeat(np.arange(66), sizes)
    values = np.repeat(right, sizes)
    interval = accuracy_interval(values, subjects)
    p, n = interval.value, sizes.sum() ** 2 / (sizes**2).sum()
    error = np.sqrt(66 / 65 * p * (1 - p) / n)
    assert naive_error(values, subjects) < 0.75 * error
    reach = student(n) * error / (p * (1 - p))
    assert special.logit(interval.high) - special.logit(p) == pytest.approx(reach)
    assert special.logit(interval.low) - special.logit(p) == pytest.approx(-reach)


def test_what_can_be_detected_is_detected_four_times_in_five() -> None:
    """100 people of ten images, differences of +-1 on a fifth of the images, alike by 0.1."""
    drawn = np.random.default_rng(0)
    subjects = np.repeat(np.arange(100), 10)
    gap = detectable(subjects, 0.2)
    assert gap == pytest.approx(2.825 * np.sqrt(0.2 * 1.9 / 1000), rel=0.01)
    detected = 0
    for _ in range(300):
        noise = np.sqrt(0.1) * drawn.normal(size=100)[subjects] + np.sqrt(0.9) * drawn.normal(
            size=1000
        )
        difference = mean_interval(gap + np.sqrt(0.2) * noise, subjects)
        detected += difference.low > 0
    assert detected / 300 == pytest.approx(0.8, abs=3.5 * 0.4 / np.sqrt(300))


def test_an_interval_in_words() -> None:
    assert str(Interval(0.6123, 0.58, 0.6444, 12.0)) == "61.2 % [58.0, 64.4]"


def several(layers: int, people: int, seed: int = 0) -> tuple[Doubles, Ints]:
    drawn = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(people), drawn.integers(1, 8, people))
    own = drawn.normal(size=(people, layers))[subjects]
    return own + drawn.normal(size=(len(subjects), layers)), subjects


@pytest.mark.parametrize("layers", [1, 2, 8])
def test_a_band_is_never_narrower_than_the_interval_of_one_layer(layers: int) -> None:
    for seed in range(10):
        values, subjects = several(layers, 5 + 10 * seed, seed)
        means = band(values, subjects)
        for i in range(layers):
            layer = mean_interval(values[:, i], subjects)
            assert means.value[i] == pytest.approx(layer.value)
            assert means.high[i] >= layer.high - 1e-12
            assert means.low[i] <= layer.low + 1e-12
            assert means.high[i] - layer.value == pytest.approx(layer.value - means.low[i])


def test_a_band_is_as_wide_as_its_layers_are_unlike() -> None:
    """Ten unrelated layers need the normal quantile of 0.95^(1/10); ten copies need that of one."""
    values, subjects = several(10, 300)
    single = half_width(mean_interval(values[:, 0], subjects))
    apart = band(values, subjects)
    alike = band(np.repeat(values[:, :1], 10, axis=1), subjects)
    needed = stats.norm.ppf(0.5 + 0.95 ** (1 / 10) / 2) / stats.norm.ppf(0.975)
    assert (apart.high - apart.low)[0] / 2 / single == pytest.approx(needed, rel=0.03)
    assert (alike.high - alike.low)[0] / 2 / single == pytest.approx(1, rel=0.03)


def test_a_band_repeats_and_passes_through_a_layer_without_spread() -> None:
    values, subjects = several(4, 40)
    values[:, 2] = 1
    first, again = band(values, subjects), band(values, subjects)
    np.testing.assert_array_equal(first.low, again.low)
    assert first.low[2] == first.value[2] == first.high[2] == 1
    assert (first.low < first.value)[[0, 1, 3]].all()
    still = band(np.ones((9, 3)), np.arange(9))
    np.testing.assert_array_equal(still.low, still.high)


@given(
    depth=st.lists(st.floats(0, 1), min_size=2, max_size=9, unique=True).filter(
        lambda depths: np.ptp(depths) > 0.01
    ),
    seed=st.integers(0, 2**16),
)
def test_the_slope_is_the_least_squares_line_through_the_means(
    depth: list[float], seed: int
) -> None:
    drawn = np.random.default_rng(seed)
    values, subjects = drawn.normal(size=(40, len(depth))), drawn.integers(0, 9, 40)
    fitted = slope(values, np.array(depth), subjects)
    wanted = np.polyfit(depth, values.mean(0), 1)[0]
    assert fitted.value == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    per_image = np.polyfit(depth, values.T, 1)[0]
    of_images = mean_interval(per_image, subjects)
    assert half_width(fitted) == pytest.approx(half_width(of_images), rel=1e-5, abs=1e-6)


def test_errors_are_wider_by_what_is_asked() -> None:
    values, subjects = several(3, 40)
    depth = np.array([0.2, 0.5, 1.0])
    plain, wide = (mean_interval(values[:, 0], subjects, w) for w in (1.0, 1.5))
    assert half_width(wide) == pytest.approx(1.5 * half_width(plain))
    plain, wide = (slope(values, depth, subjects, w) for w in (1.0, 1.5))
    assert half_width(wide) == pytest.approx(1.5 * half_width(plain))
    narrow, wide = (band(values, subjects, w) for w in (1.0, 1.5))
    assert wide.high - wide.value == pytest.approx(1.5 * (narrow.high - narrow.value))
    assert wide.value - wide.low == pytest.approx(1.5 * (narrow.value - narrow.low))
    by_layer = band(values, subjects, np.array([1.0, 1.5, 1.5]))
    assert wide.high[1:] == pytest.approx(by_layer.high[1:])
    assert narrow.high[0] == pytest.approx(by_layer.high[0])
    assert detectable(subjects, 0.2, 1.5) == pytest.approx(1.5 * detectable(subjects, 0.2))


def test_layers_at_one_depth_have_no_slope() -> None:
    values, subjects = several(3, 20)
    fitted = slope(values, np.full(3, 0.4), subjects)
    assert (fitted.value, fitted.low, fitted.high) == pytest.approx((0, 0, 0), abs=1e-4)


def test_two_results_that_agree_on_every_image_may_still_differ() -> None:
    """No more than leaves nothing to be seen in n subjects with 2.5 %: a law, at each end."""
    subjects = np.repeat(np.arange(40), 3)
    equal = difference_interval(np.zeros(120), subjects)
    assert (equal.value, equal.effective) == (0, pytest.approx(40))
    assert (1 - equal.high) ** 40 == pytest.approx(0.025)
    assert equal.low == -equal.high
    some = np.zeros(120)
    some[:2] = (1, -1)
    assert difference_interval(some, subjects) == mean_interval(some, subjects)
