import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from probe.probes import knn
from probe.probes.methods import METHODS

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

GRID = [int(k) for k in METHODS["knn"].grid]
SEARCHES = ("faiss", "torch")


def blobs(n: int, dim: int, classes: int, seed: int = 0) -> tuple[Floats, Ints]:
    drawn = np.random.default_rng(seed)
    y = drawn.integers(0, classes, n)
    x = drawn.standard_normal((n, dim)) + 0.4 * drawn.standard_normal((classes, dim))[y]
    return x.astype(np.float32), y


def share_of_votes(
    x: Floats, y: Ints, other: Floats, k: int, classes: int, cosine: bool = True, spread: float = 1
) -> NDArray[np.float64]:
    def weights(away: Floats) -> Floats:
        near = 1 - away if cosine else -(away**2) / 2
        return np.exp((near - near.max(1, keepdims=True)) / knn.TEMPERATURE / spread)

    metric = "cosine" if cosine else "euclidean"
    model = KNeighborsClassifier(k, metric=metric, algorithm="brute", weights=weights)
    found = np.zeros((len(other), classes))
    found[:, np.unique(y)] = model.fit(x.astype(np.float64), y).predict_proba(other.astype(float))
    return found


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("cosine", [True, False])
def test_votes_are_scikit_learns_for_every_k(
    search: str, classes: int, parts: int, cosine: bool
) -> None:
    """And neighbours merged from parts are those of one search over the whole training set."""
    pytest.importorskip(search)
    x, y = blobs(400, 16, classes)
    part = np.where(np.arange(400) < 300, np.arange(400) % parts, parts)
    spread = 1.0 if cosine else float(x[:300].astype(float).var(0).sum())
    found = knn.neighbours(x, part, GRID[-1], search, cosine)
    rows = np.flatnonzero(part == parts)
    made = knn.vote(found, frozenset({parts}), rows, y, classes, 300, GRID, spread)
    assert [one.value for one in made] == list(map(float, GRID))
    for k, one in zip(GRID, made, strict=True):
        wanted = share_of_votes(x[:300], y[:300], x[300:], k, classes, cosine, spread)
        np.testing.assert_allclose(one.scores, wanted, atol=2e-4)
        first, second = np.sort(wanted, axis=1)[:, :-3:-1].T
        clear = first - second > 1e-3
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(one.scores.argmax(1)[clear], wanted.argmax(1)[clear])


@pytest.mark.parametrize("n", [60, 5_000])
def test_faiss_and_torch_find_the_same(n: int) -> None:
    """5,000 queries are more than one block of either."""
    pytest.importorskip("faiss")
    x, y = blobs(n, 12, 3)
    part = np.arange(n) % 3
    by = {search: knn.neighbours(x, part, GRID[-1], search) for search in SEARCHES}
    for one in range(3):
        (a, rows), (b, same) = by["faiss"][one], by["torch"][one]
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert (rows == same).mean() > 0.999  # rows equally near may change places
        assert (part[rows] == one).all()
        assert (np.diff(a, axis=1) <= 0).all()
    held = np.flatnonzero(part == 0)
    votes = [knn.vote(by[s], frozenset({0}), held, y, 3, n - len(held), GRID) for s in SEARCHES]
    for a, b in zip(*votes, strict=True):
        assert (a.scores.argmax(1) == b.scores.argmax(1)).mean() > 0.999
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(
    parts=st.integers(2, 6), seed=st.integers(0, 2**16), n=st.integers(12, 60),
    out=st.sets(st.integers(0, 5), min_size=1, max_size=3),
)  # fmt: skip
def test_merging_parts_is_searching_the_training_set(
    parts: int, seed: int, n: int, out: set[int]
) -> None:
    x, y = blobs(n, 5, 3, seed)
    part = np.arange(n) % parts
    left_out = frozenset(one for one in out if one < parts - 1) or frozenset({0})
    train = ~np.isin(part, sorted(left_out))
    rows = np.flatnonzero(~train)
    made = knn.vote(knn.neighbours(x, part, GRID[-1]), left_out, rows, y, 3, int(train.sum()), GRID)
    assert len(made) == sum(k <= train.sum() for k in GRID)
    for one in made:
        wanted = share_of_votes(x[train], y[train], x[rows], int(one.value), 3)
        np.testing.assert_allclose(one.scores, wanted, atol=2e-4)


def test_by_hand() -> None:
    """Similarities 1 and 0.6 to two rows of class 1, 0.8 to one of class 0."""
    x = np.array([[1, 0], [3, 0], [4, 3], [3, 4]], dtype=np.float32)
    y = np.array([0, 1, 0, 1])
    part = np.array([0, 1, 1, 2])
    made = knn.vote(knn.neighbours(x, part, 200), frozenset({0}), np.array([0]), y, 2, 3, GRID)
    assert [one.value for one in made] == [1.0]
    np.testing.assert_array_equal(made[0].scores, [[0, 1]])
    x = np.repeat(x, [1, 2, 2, 1], axis=0)
    y, part = np.array([0, 1, 1, 0, 0, 1]), np.array([0, 1, 1, 1, 1, 2])
    one = knn.vote(knn.neighbours(x, part, 200), frozenset({0}), np.array([0]), y, 2, 5, GRID)[1]
    weight = np.exp(np.array([1, 0.8, 0.6]) / 0.07)
    for_one = 2 * weight[0] + weight[2]
    assert one.value == 5
    np.testing.assert_allclose(one.scores[0, 1], for_one / (for_one + 2 * weight[1]), rtol=1e-4)


def test_only_directions_count() -> None:
    x, y = blobs(200, 8, 3)
    lengths = np.random.default_rng(1).lognormal(0, 2, (200, 1)).astype(np.float32)
    part = np.arange(200) % 4
    rows = np.flatnonzero(part == 0)

    def votes(features: Floats) -> list[Floats]:
        found = knn.neighbours(features, part, GRID[-1])
        return [one.scores for one in knn.vote(found, frozenset({0}), rows, y, 3, 150, GRID)]

    for a, b in zip(votes(x), votes(x * lengths), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("search", SEARCHES)
def test_rows_of_zeros_and_rows_without_features_do_no_harm(search: str) -> None:
    pytest.importorskip(search)
    x, y = blobs(80, 6, 2)
    part = np.arange(80) % 4
    part[:5] = -1
    spoiled = x.copy()
    spoiled[:5] = np.nan
    spoiled[9] = x[9] = 0
    rows = np.flatnonzero(part == 0)
    made = [
        knn.vote(knn.neighbours(a, part, 200, search), frozenset({0}), rows, y, 2, 56, GRID)
        for a in (x, spoiled)
    ]
    for a, b in zip(*made, strict=True):
        np.testing.assert_array_equal(a.scores, b.scores)
        assert np.isfinite(a.scores).all()


def test_without_faiss_torch_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    knn.engine.cache_clear()
    try:
        assert knn.engine() == "torch"
    finally:
        knn.engine.cache_clear()
