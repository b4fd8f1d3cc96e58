import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import LinearSVC
from trainingsets import prepare, scaled

from probe.probes.grid_fit import Scored
from probe.probes.linear import fit_linear
from probe.probes.scaling import SCALES
from probe.probes.settings import ProbeSettings

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

METHODS = ("logistic", "svm", "ridge")
GRID = (0.003, 0.3, 30.0)


def blobs(n: int, dim: int, classes: int, seed: int = 0) -> tuple[Floats, Ints]:
    """Features of unlike size, off centre, that say something about the class."""
    drawn = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = drawn.standard_normal((n, dim)) + 0.5 * drawn.standard_normal((classes, dim))[y]
    return (x * drawn.lognormal(0, 0.7, dim) + 2).astype(np.float32), y


def fit(
    method: str,
    train: Floats,
    y: Ints,
    other: Floats,
    grid: tuple[float, ...] = GRID,
    *,
    classes: int | None = None,
    scale: str = "standard",
    relative: bool = False,
    solver: str = "grid",
) -> list[Scored]:
    prepared = prepare(
        torch.from_numpy(train), torch.from_numpy(other), scale, centre=method != "svm"
    )
    count = int(y.max()) + 1 if classes is None else classes
    probe = ProbeSettings(method, scale, grid, relative, solver)
    return fit_linear(probe, prepared, y, count, range(len(grid)))


def by_hand(
    method: str, train: Floats, y: Ints, other: Floats, c: float, scale: str
) -> NDArray[np.float64]:
    """Decision values of scikit-learn's own scaler and estimator, `(rows, K)`."""
    x, z = train.astype(np.float64), other.astype(np.float64)
    if scale == "standard":
        scaler = StandardScaler().fit(x)
        x, z = scaler.transform(x), scaler.transform(z)
    elif scale == "l2":
        x, z = Normalizer().transform(x), Normalizer().transform(z)
    model = {
        "logistic": LogisticRegression(C=c, tol=1e-8, max_iter=100_000),
        "svm": LinearSVC(C=c, dual=False, tol=1e-8, max_iter=100_000),
        "ridge": RidgeClassifier(alpha=1 / c),
    }[method]
    margins = np.asarray(model.fit(x, y).decision_function(z))
    if margins.ndim == 2:
        return margins
    half = margins / 2 if method == "logistic" else margins
    return np.stack([-half, half], axis=1)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("solver", ["grid", "sklearn"])
def test_scores_are_scikit_learns(solver: str, method: str, scale: str, classes: int) -> None:
    x, y = blobs(300, 12, classes)
    train, other = x[:200], x[200:]
    for c, one in zip(
        GRID, fit(method, train, y[:200], other, scale=scale, solver=solver), strict=True
    ):
        wanted = by_hand(method, train, y[:200], other, c, scale)
        assert one.converged
        assert one.scores.dtype == np.float32
        near = {"grid": 0.02, "sklearn": 0.05}[solver] * wanted.std()  # its own tol is 1e-4
        np.testing.assert_allclose(one.scores, wanted, rtol=0, atol=near)
        first, second = np.sort(wanted, axis=1)[:, :-3:-1].T
        clear = first - second > 2 * near
        assert clear.mean() > 0.5
        np.testing.assert_array_equal(one.scores.argmax(1)[clear], wanted.argmax(1)[clear])


def test_two_classes_of_logistic_give_its_probabilities() -> None:
    x, y = blobs(300, 12, 2)
    model = LogisticRegression(C=0.3, tol=1e-8).fit(x[:200], y[:200])
    for solver in ("grid", "sklearn"):
        (one,) = fit("logistic", x[:200], y[:200], x[200:], (0.3,), scale="none", solver=solver)
        p = np.exp(one.scores) / np.exp(one.scores).sum(1, keepdims=True)
        np.testing.assert_allclose(p, model.predict_proba(x[200:]), atol=2e-3)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dim", [12, 150])
def test_scores_of_a_row_do_not_know_its_companions(method: str, scale: str, dim: int) -> None:
    x, y = blobs(120, dim, 3)
    other = x[100:]
    wild = other.copy()
    wild[1:] = 1e6 * np.random.default_rng(1).standard_normal(wild[1:].shape)
    for calm, loud in zip(
        fit(method, x[:100], y[:100], other, scale=scale),
        fit(method, x[:100], y[:100], wild, scale=scale),
        strict=True,
    ):
        assert calm.scores[0].tobytes() == loud.scores[0].tobytes()
        assert not np.allclose(calm.scores[1:], loud.scores[1:])


@pytest.mark.parametrize("solver", ["grid", "sklearn"])
@pytest.mark.parametrize("method", METHODS)
def test_a_class_that_training_lacks_can_not_be_said(method: str, solver: str) -> None:
    x, y = blobs(120, 8, 3)
    named = np.array([0, 2, 4])[y]
    for one, same in zip(
        fit(method, x[:100], named[:100], x[100:], classes=6, solver=solver),
        fit(method, x[:100], y[:100], x[100:], solver=solver),
        strict=True,
    ):
        assert one.scores.shape == (20, 6)
        assert (one.scores[:, [1, 3, 5]] == -np.inf).all()
        np.testing.assert_array_equal(one.scores[:, [0, 2, 4]], same.scores)


@pytest.mark.parametrize("solver", ["grid", "sklearn"])
@pytest.mark.parametrize("method", METHODS)
def test_a_training_set_of_one_class_says_that_class(method: str, solver: str) -> None:
    x, _ = blobs(40, 8, 2)
    for one in fit(method, x[:30], np.full(30, 1), x[30:], classes=3, solver=solver):
        assert (one.scores.argmax(1) == 1).all()
        assert np.isfinite(one.scores[:, 1]).all()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", METHODS)
def test_a_relative_grid_is_of_c_times_the_mean_squared_length(method: str, scale: str) -> None:
    x, y = blobs(120, 8, 3)
    train, other = x[:100], x[100:]
    seen = train.astype(np.float64)
    if scale == "standard":
        seen = StandardScaler().fit_transform(seen)
        assert (seen**2).sum(1).mean() == pytest.approx(8)
    elif scale == "l2":
        seen = Normalizer().transform(seen)
    unit = float((seen**2).sum(1).mean())
    relative = fit(method, train, y[:100], other, scale=scale, relative=True)
    absolute = fit(method, train, y[:100], other, tuple(g / unit for g in GRID), scale=scale)
    for point, a, b in zip(GRID, relative, absolute, strict=True):
        assert a.value == pytest.approx(unit / point if method == "ridge" else point / unit)
        assert a.value == pytest.approx(b.value)
        np.testing.assert_allclose(a.scores, b.scores, rtol=0, atol=0.01 * float(b.scores.std()))


def test_a_relative_grid_does_not_change_with_the_unit_of_the_features() -> None:
    """Where the bias has no penalty; that of the svm has, and so a unit of its own."""
    x, y = blobs(120, 8, 3)
    for method in ("logistic", "ridge"):
        small = fit(method, x[:100], y[:100], x[100:], scale="none", relative=True)
        large = fit(method, 1e3 * x[:100], y[:100], 1e3 * x[100:], scale="none", relative=True)
        for a, b in zip(small, large, strict=True):
            near = 0.02 * float(a.scores.std())
            np.testing.assert_allclose(a.scores, b.scores, rtol=0, atol=near)


def test_the_sd_of_a_nearly_dead_unit_has_a_floor() -> None:
    """SDs 1, 1 and 1e-6: the floor is 1e-3 sqrt(2/3), so a test row that wakes it shows 1225, not 1e6."""
    train = np.array([[1, 1, 0], [-1, 1, 0], [1, -1, 0], [-1, -1, 0]], dtype=np.float32)
    train[:, 2] = np.array([1, 1, -1, -1]) * 1e-6
    other = np.array([[0.5, 0, 1]], dtype=np.float32)
    x, z = scaled(torch.from_numpy(train), torch.from_numpy(other), "standard")
    floor = 1e-3 * np.sqrt((1 + 1 + 1e-12) / 3)
    np.testing.assert_allclose(z.numpy(), [[0.5, 0, 1 / floor]], rtol=1e-5)
    np.testing.assert_allclose(x.numpy()[:, 2], train[:, 2] / floor, rtol=1e-4)
    np.testing.assert_allclose(x.numpy()[:, :2], train[:, :2], rtol=1e-6)


@pytest.mark.parametrize("dim", [11, 150])
@pytest.mark.parametrize("method", METHODS)
def test_a_unit_that_no_training_row_wakes_has_no_say(method: str, dim: int) -> None:
    x, y = blobs(300, dim, 2)
    x[:250, 3] = 0
    asleep, awake = x[250:].copy(), x[250:].copy()
    asleep[:, 3] = 0
    awake[:, 3] = np.where(y[250:], 1, -1)
    grid = tuple(10.0**e for e in range(-2, 5))
    before = fit(method, x[:250], y[:250], asleep, grid, relative=True)
    after = fit(method, x[:250], y[:250], awake, grid, relative=True)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, rtol=0, atol=1e-3 * float(a.scores.std()))


def test_one_waking_unit_does_not_decide() -> None:
    """A unit dead on all training rows but one, awake on a test row, leaves the answer to the others."""
    x, y = blobs(200, 6, 2)
    alive = np.c_[x, np.zeros(200)].astype(np.float32)
    alive[3, -1] = 1e-5
    asleep, awake = alive[100:].copy(), alive[100:].copy()
    awake[:, -1] = 0.01
    for method in METHODS:
        before = fit(method, alive[:100], y[:100], asleep, (0.3,))[0].scores
        after = fit(method, alive[:100], y[:100], awake, (0.3,))[0].scores
        assert np.abs(after - before).max() < 0.3 * before.std()


@pytest.mark.parametrize("scale", SCALES)
def test_scaling_keeps_rows_that_are_all_alike_finite(scale: str) -> None:
    for value in (0.0, 3.0):
        train = torch.full((5, 4), value)
        x, z = scaled(train, train + 1, scale)
        assert bool(torch.isfinite(x).all())
        assert bool(torch.isfinite(z).all())


@settings(deadline=None, max_examples=50)
@given(n=st.integers(2, 30), dim=st.integers(1, 8), seed=st.integers(0, 2**16))
def test_scaling_is_scikit_learns(n: int, dim: int, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    train, other = (drawn.normal(2, 3, (rows, dim)).astype(np.float32) for rows in (n, 5))
    a, b = torch.from_numpy(train), torch.from_numpy(other)
    scaler = StandardScaler().fit(train.astype(np.float64))
    if scaler.scale_.min() > 0.01:
        x, z = scaled(a, b, "standard")
        np.testing.assert_allclose(x, scaler.transform(train), rtol=1e-3, atol=2e-3)
        np.testing.assert_allclose(z, scaler.transform(other), rtol=1e-3, atol=2e-3)
    x, z = scaled(a, b, "l2")
    np.testing.assert_allclose(z, Normalizer().transform(other), atol=1e-6)
    for same, given_ in zip(scaled(a, b, "none"), (a, b), strict=True):
        assert torch.equal(same, given_)
