"""The interval of the accuracy on new images holds as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from features.arrays import Ints
from probe.analysis.statistics import accuracy_interval
from probe.exported.promise import Promise, promise_of, within_subjects


def right(subjects: Ints, mean: float, within: float, seed: int) -> np.ndarray:
    """Right answers of subjects that differ: beta-binomial with this correlation."""
    drawn = np.random.default_rng(seed)
    size = 1 / within - 1
    own = drawn.beta(mean * size, (1 - mean) * size, int(subjects.max()) + 1)
    return (drawn.random(len(subjects)) < own[subjects]).astype(np.float64)


@pytest.mark.parametrize(("mean", "each", "new"), [(0.9, 1, 200), (0.7, 4, 60), (0.95, 3, 400)])
def test_new_accuracies_lie_inside_as_often_as_promised(mean: float, each: int, new: int) -> None:
    inside, wide, times = 0, [], 400
    for seed in range(times):
        subjects = np.arange(300) // each
        first = right(subjects, mean, 0.2, seed)
        promise = promise_of(accuracy_interval(first, subjects), first, subjects)
        others = np.arange(new) // each
        accuracy = right(others, mean, 0.2, 10_000 + seed).mean()
        low, high = promise.predicted(others.tolist())
        inside += low <= accuracy <= high
        wide.append(high - low)
    assert 0.92 <= inside / times <= 0.985
    assert np.mean(wide) < 0.4


def test_one_sample_that_knows_everything_leaves_the_chance_of_the_other() -> None:
    promise = Promise(0.8, 0.7999999, 0.8000001, 10**9, 10**9, 1e9, 0.0)
    low, high = promise.predicted([None] * 100)
    # Wilson's ends for a known share: the y whose distance is 1.96 SD of the share, 0.04
    assert low == pytest.approx(0.8 - 1.96 * 0.04, abs=5e-3)
    assert high == pytest.approx(0.8 + 1.96 * 0.04, abs=5e-3)


def test_images_of_one_subject_tell_less_than_of_many() -> None:
    promise = Promise(0.8, 0.75, 0.84, 300, 100, 100, 0.5)
    of_many = promise.predicted([None] * 50)
    of_one = promise.predicted(["anna"] * 50)
    assert of_one[1] - of_one[0] > 1.5 * (of_many[1] - of_many[0])


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_ends_stay_within_nought_and_one(accuracy: float) -> None:
    correct = np.full(40, accuracy)
    promise = promise_of(accuracy_interval(correct, np.arange(40)), correct, np.arange(40))
    low, high = promise.predicted([None] * 10)
    assert 0 <= low <= accuracy <= high <= 1
    assert high - low > 0.05


def test_the_correlation_is_found_again() -> None:
    subjects = np.arange(6000) // 4
    found = within_subjects(right(subjects, 0.7, 0.3, 1), subjects)
    assert found == pytest.approx(0.3, abs=0.05)
    assert within_subjects(right(np.arange(50), 0.7, 0.3, 1), np.arange(50)) == 0.0
