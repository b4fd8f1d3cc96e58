from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import LinearSVC
from torch import Tensor
from trainingsets import prepare

import probe.probes.linear
import probe.probes.solver
from probe.probes.layer import Prepared
from probe.probes.linear import fit_linear
from probe.probes.losses import logistic_loss, softmax_loss, squared_hinge_loss
from probe.probes.matrix import Held
from probe.probes.methods import GRID
from probe.probes.settings import ProbeSettings
from probe.probes.solver import TO_CHOOSE, Solved, Stop, solve

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHAPES = {"tall": (300, 15, 0.7), "wide": (60, 150, 0.7), "many rows": (1_000, 15, 1.0)}
AWAY = 64
"""Rows scored in the laws, none of them trained on."""


def problem(
    n: int, dim: int, classes: int, apart: float = 0.7, seed: int = 0
) -> tuple[NDArray[np.float32], Ints]:
    """Standardised features of unlike widths whose class means lie `apart` SDs from each other."""
    drawn = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = drawn.standard_normal((n, dim)) + apart * drawn.standard_normal((classes, dim))[y]
    x *= drawn.lognormal(0, 1, dim)
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32), y


def noise(
    n: int, dim: int, classes: int, seed: int = 0
) -> tuple[NDArray[np.float32], Ints, NDArray[np.float32]]:
    """Features that say a little about the class: no plane parts the classes. And rows to score."""
    x, y = problem(n + AWAY, dim, classes, apart=0.3, seed=seed)
    return x[:n], y[:n], x[n:]


def grid_of(x: NDArray[np.float32], points: tuple[float, ...] = GRID) -> list[float]:
    return [point / float((x.astype(np.float64) ** 2).sum(1).mean()) for point in points]


def logistic_objective(margins: Floats, weights: Floats, y: Ints, c: float) -> float:
    """C sum -log softmax + |W|^2 / 2; two classes have one column."""
    if margins.shape[1] == 1:
        loss = np.logaddexp(0, -(2 * y - 1) * margins[:, 0])
    else:
        shifted = margins - margins.max(1, keepdims=True)
        loss = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), y]
    return float(c * loss.sum() + (weights**2).sum() / 2)


def hinge_objective(margins: Floats, weights: Floats, sign: Ints, c: float) -> float:
    """C sum max(0, 1 - t m)^2 + |w|^2 / 2, the bias among the weights."""
    return float(c * (np.maximum(0, 1 - sign * margins) ** 2).sum() + (weights**2).sum() / 2)


def prepare_as_they_are(x: NDArray[np.float32]) -> Prepared:
    return prepare(torch.from_numpy(x), torch.from_numpy(x), "none", centre=False)


def coordinates(one: Prepared) -> Floats:
    assert isinstance(one.train, Held)
    return one.train.x.double().numpy()


def solve_logistic(x: NDArray[np.float32], y: Ints, cs: list[float], **options: Any) -> Solved:
    one = prepare_as_they_are(x)
    c, classes = torch.tensor(cs, dtype=torch.float64), int(y.max()) + 1
    if classes == 2:
        signs = torch.from_numpy(2 * y - 1).float()
        return solve(
            one.space,
            lambda _: logistic_loss(signs),
            c,
            1,
            penalise_bias=False,
            **options,
        )
    labels = torch.from_numpy(y)
    return solve(
        one.space, lambda _: softmax_loss(labels), c, classes,
        penalise_bias=False, **options,
    )  # fmt: skip


def scores(
    method: str, x: NDArray[np.float32], y: Ints, other: NDArray[np.float32], cs: list[float]
) -> NDArray[np.float32]:
    """Scores of other rows at every C, `(points, rows, K)`; the features are taken as they are."""
    prepared = prepare(torch.from_numpy(x), torch.from_numpy(other), "none", centre=method != "svm")
    probe = ProbeSettings(method, "none", tuple(cs), False, "grid")
    found = fit_linear(probe, prepared, y, int(y.max()) + 1, range(len(cs)))
    assert all(scored.converged for scored in found)
    return np.stack([scored.scores for scored in found])


def assert_close(a: NDArray[np.float32], b: NDArray[np.float32], share: float = 0.02) -> None:
    """At every C, no score differs by more than a share of the spread of the scores there."""
    for i, (one, two) in enumerate(zip(a, b, strict=True)):
        assert np.abs(one - two).max() <= share * max(float(one.std()), 1e-6), f"point {i}"


@pytest.mark.parametrize("classes", [2, 3, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_logistic_comes_as_low_as_scikit_learn_at_every_c(shape: str, classes: int) -> None:
    n, dim, apart = SHAPES[shape]
    x, y = problem(n, dim, classes, apart)
    cs = grid_of(x)
    made = solve_logistic(x, y, cs)
    z = coordinates(prepare_as_they_are(x))
    exact = x.astype(np.float64)
    for i, c in enumerate(cs):
        w = made.weights[:, i].double().numpy()
        ours = logistic_objective(z @ w[:-1] + w[-1], w[:-1], y, c)
        model = LogisticRegression(
            C=c, tol=1e-8, max_iter=100_000, solver="lbfgs" if n < dim else "newton-cholesky"
        ).fit(exact, y)
        margins = exact @ model.coef_.T + model.intercept_
        best = logistic_objective(margins, model.coef_, y, c)
        assert ours <= best * (1 + 1e-4), f"point {i}: {ours / best - 1:.1e} above"
        assert float(made.objective[i]) == pytest.approx(ours, rel=1e-4)
        assert float(made.gap[i]) <= 1e-4


@pytest.mark.filterwarnings("ignore:Liblinear failed to converge")  # it is close enough by then
@pytest.mark.parametrize("classes", [2, 3, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_svm_comes_as_low_as_scikit_learn_at_every_c(shape: str, classes: int) -> None:
    n, dim, apart = SHAPES[shape]
    x, y = problem(n, dim, classes, apart)
    cs = grid_of(x)
    one = prepare_as_they_are(x)
    signs = 2 * np.eye(classes, dtype=np.int64)[y] - 1
    made = solve(
        one.space,
        lambda q: squared_hinge_loss(torch.from_numpy(signs).float().T[q % classes]),
        torch.tensor(cs, dtype=torch.float64).repeat_interleave(classes),
        1,
        penalise_bias=True,
    )
    z = np.c_[coordinates(one), np.ones(n)]
    exact = np.c_[x.astype(np.float64), np.ones(n)]
    for i, c in enumerate(cs):
        model = LinearSVC(C=c, dual=False, tol=1e-8, max_iter=10_000).fit(exact[:, :-1], y)
        theirs = np.c_[model.coef_, model.intercept_]  # (K, dim + 1), one row for two classes
        for k, w in enumerate(theirs, classes - len(theirs)):
            v = made.weights[:, i * classes + k, 0].double().numpy()
            ours = hinge_objective(z @ v, v, signs[:, k], c)
            best = hinge_objective(exact @ w, w, signs[:, k], c)
            assert ours <= best * (1 + 1e-4), f"point {i}, class {k}: {ours / best - 1:.1e} above"


@pytest.mark.parametrize("classes", [2, 3, 8])
@pytest.mark.parametrize(("n", "dim"), [(300, 15), (60, 150)])
def test_ridge_is_scikit_learns(n: int, dim: int, classes: int) -> None:
    x, y = problem(n + AWAY, dim, classes)
    x, y, other = x[:n], y[:n], x[n:]
    cs = grid_of(x)
    for c, found in zip(cs, scores("ridge", x, y, other, cs), strict=True):
        model = RidgeClassifier(alpha=1 / c).fit(x.astype(np.float64), y)
        wanted = model.decision_function(other.astype(np.float64))
        ours = found if classes > 2 else found[:, 1]
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=2e-4 * np.abs(wanted).max())
        if classes == 2:
            np.testing.assert_array_equal(found[:, 0], -found[:, 1])


METHODS = ("logistic", "svm", "ridge")
LAWS = [(m, k, dim) for m in METHODS for k in (2, 4) for dim in (12, 200)]


@pytest.mark.parametrize(("method", "classes", "dim"), LAWS)
def test_every_row_twice_at_half_the_c_is_the_same_problem(
    method: str, classes: int, dim: int
) -> None:
    x, y, other = noise(120, dim, classes)
    cs = grid_of(x, GRID[::3])
    once = scores(method, x, y, other, cs)
    twice = scores(method, np.r_[x, x], np.r_[y, y], other, [c / 2 for c in cs])
    assert_close(once, twice)


@pytest.mark.parametrize(("method", "classes", "dim"), LAWS)
def test_the_order_of_rows_does_not_matter(method: str, classes: int, dim: int) -> None:
    x, y, other = noise(120, dim, classes)
    order = np.random.default_rng(1).permutation(len(x))
    cs = grid_of(x, GRID[::3])
    assert_close(scores(method, x, y, other, cs), scores(method, x[order], y[order], other, cs))


@pytest.mark.parametrize(("method", "classes", "dim"), LAWS)
def test_the_order_of_classes_does_not_matter(method: str, classes: int, dim: int) -> None:
    x, y, other = noise(120, dim, classes)
    renamed = np.random.default_rng(2).permutation(classes)
    if classes == 2:
        renamed = np.array([1, 0])
    cs = grid_of(x, GRID[::3])
    again = scores(method, x, renamed[y], other, cs)
    assert_close(scores(method, x, y, other, cs), again[:, :, renamed])


@pytest.mark.parametrize(("method", "classes", "dim"), LAWS)
def test_turning_the_features_does_not_matter(method: str, classes: int, dim: int) -> None:
    x, y, other = noise(120, dim, classes)
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((dim, dim)))[0].astype(np.float32)
    cs = grid_of(x, GRID[::3])
    assert_close(scores(method, x, y, other, cs), scores(method, x @ turn, y, other @ turn, cs))


@pytest.mark.parametrize(("method", "classes", "dim"), LAWS)
def test_constant_columns_add_nothing_to_a_free_bias(method: str, classes: int, dim: int) -> None:
    """The svm's bias has a penalty; there a column of ones must act as in scikit-learn."""
    x, y, other = noise(120, dim, classes)
    cs = grid_of(x, GRID[:10:3])
    more = [np.c_[a, np.full((len(a), 3), 2, np.float32)].astype(np.float32) for a in (x, other)]
    found = scores(method, more[0], y, more[1], cs)
    if method != "svm":
        assert_close(scores(method, x, y, other, cs), found)
        return
    for c, ours in zip(cs, found, strict=True):
        model = LinearSVC(C=c, dual=False, tol=1e-8, max_iter=10_000).fit(more[0], y)
        theirs = model.decision_function(more[1])
        mine = ours if classes > 2 else ours[:, 1]
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=0.01 * np.abs(theirs).max())


@pytest.mark.parametrize("seed", range(3))
def test_features_that_are_almost_combinations_of_others_end_at_any_c(seed: int) -> None:
    """Rounding of the products between them may be more than the penalty; it decides only the speed."""
    drawn = np.random.default_rng(seed)
    x = drawn.normal(size=(300, 6)) @ drawn.normal(size=(6, 50)) * drawn.lognormal(0, 1.5, 50)
    x += 0.003 * drawn.normal(size=x.shape)
    y = np.where(drawn.random(300) < 0.8, 0, drawn.integers(0, 4, 300))
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    space, cs = prepare_as_they_are(x).space, torch.tensor([1e3, 1e5, 1e6], dtype=torch.float64)
    labels = torch.from_numpy(y)
    made = solve(space, lambda _: softmax_loss(labels), cs, 4, penalise_bias=False)
    assert float(made.gap.max()) <= 1e-4


def test_a_search_that_comes_to_no_end_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some problems end in the last of its steps, others never do; none counts as near for that."""
    x, y = problem(300, 40, 4, seed=2)
    x = x * np.logspace(-2, 1, 40, dtype=np.float32)
    space = prepare_as_they_are(x).space
    cs = torch.tensor(grid_of(x), dtype=torch.float64)
    sign = torch.from_numpy(np.where(y == 0, 1.0, -1.0).astype(np.float32)).expand(len(cs), -1)
    exact = solve(space, lambda q: squared_hinge_loss(sign[q]), cs, 1, penalise_bias=True)
    for steps in (6, 9, 12):
        monkeypatch.setattr("probe.probes.newton._CONJUGATE_STEPS", steps)
        made = solve(
            space, lambda q: squared_hinge_loss(sign[q]), cs, 1, penalise_bias=True,
            stop=Stop(1e-4, TO_CHOOSE),
        )  # fmt: skip
        assert float(made.gap.max()) <= 1e-4
        above = (made.objective - exact.objective) / exact.objective
        assert float(above.max()) < 1e-4


@pytest.mark.parametrize("dim", [12, 200])
def test_a_tiny_c_leaves_the_class_shares(dim: int) -> None:
    x, _, other = noise(120, dim, 3)
    y = np.repeat([0, 1, 2], [72, 36, 12])
    logistic, svm, ridge = (scores(m, x, y, other, [1e-9])[0] for m in METHODS)
    p = np.exp(logistic) / np.exp(logistic).sum(1, keepdims=True)
    np.testing.assert_allclose(p, np.tile([0.6, 0.3, 0.1], (len(other), 1)), atol=1e-3)
    np.testing.assert_allclose(ridge, np.tile([0.2, -0.4, -0.8], (len(other), 1)), atol=1e-3)
    assert np.abs(svm).max() < 1e-4  # its bias has a penalty too


def test_two_classes_at_a_tiny_c_leave_the_class_shares() -> None:
    x, _, other = noise(120, 12, 2)
    y = np.repeat([0, 1], [90, 30])
    found = scores("logistic", x, y, other, [1e-9])[0]
    p = np.exp(found) / np.exp(found).sum(1, keepdims=True)
    np.testing.assert_allclose(p, np.tile([0.75, 0.25], (len(other), 1)), atol=1e-3)


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_the_largest_c_on_classes_that_no_plane_parts(classes: int) -> None:
    x, y, other = noise(400, 20, classes)
    c = grid_of(x)[-1]
    found = scores("logistic", x, y, other, [c])[0]
    model = LogisticRegression(C=c, tol=1e-8, max_iter=100, solver="newton-cholesky").fit(x, y)
    p = np.exp(found.astype(np.float64))
    np.testing.assert_allclose(p / p.sum(1, keepdims=True), model.predict_proba(other), atol=0.01)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("method", METHODS)
def test_classes_far_apart_are_told_apart_at_every_c(method: str, classes: int) -> None:
    x, y = problem(100 + AWAY, 40, classes, apart=8)
    found = scores(method, x[:100], y[:100], x[100:], grid_of(x[:100]))
    assert np.isfinite(found).all()
    for i, point in enumerate(found):
        assert (point.argmax(1) == y[100:]).all(), f"point {i}"


@pytest.mark.parametrize("method", METHODS)
def test_one_row_per_class(method: str) -> None:
    x = np.eye(4, 9, dtype=np.float32)
    found = scores(method, x, np.arange(4), x, grid_of(x))
    for i, point in enumerate(found):
        assert (point.argmax(1) == np.arange(4)).all(), f"point {i}"


@pytest.mark.parametrize("method", METHODS)
def test_rows_that_are_all_alike_say_only_how_common_a_class_is(method: str) -> None:
    x = np.full((12, 5), 3, dtype=np.float32)
    found = scores(method, x, np.repeat([0, 1, 2], [6, 4, 2]), x[:2], [1e-2, 1.0, 1e2])
    assert (found.argmax(2) == 0).all()


@pytest.mark.parametrize(("method", "classes", "dim"), LAWS)
def test_the_same_bits_twice(method: str, classes: int, dim: int) -> None:
    x, y, other = noise(120, dim, classes)
    first, again = (scores(method, x, y, other, grid_of(x)) for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_a_problem_alone_is_solved_as_it_is_in_a_grid() -> None:
    x, y, other = noise(200, 20, 4)
    for method in METHODS:
        together = scores(method, x, y, other, grid_of(x))
        alone = np.concatenate([scores(method, x, y, other, [c]) for c in grid_of(x)])
        assert_close(together, alone)


def test_a_search_cut_short_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = problem(1_000, 15, 8, 1.0)
    cs = grid_of(x)
    whole = solve_logistic(x, y, cs)
    monkeypatch.setattr(probe.probes.solver, "_MAX_ITER", 2)
    short = solve_logistic(x, y, cs)
    assert short.iterations == 2 < whole.iterations
    off = short.objective / whole.objective - 1
    assert float(off[-1]) > 1e-3
    assert bool((short.gap[off > 1e-3] > 1e-4).all())
    assert bool((whole.gap <= 1e-4).all())


@pytest.mark.filterwarnings("ignore:.*failed to converge")
@pytest.mark.parametrize("solver", ["grid", "sklearn"])
@pytest.mark.parametrize("method", ["logistic", "svm"])
def test_what_did_not_converge_is_marked(
    method: str, solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe.probes.solver, "_MAX_ITER", 2)
    monkeypatch.setattr(probe.probes.linear, "MAX_ITER", 2)
    x, y = problem(1_000, 15, 8, 1.0)
    prepared = prepare(torch.from_numpy(x), torch.from_numpy(x[:5]), "none", centre=method != "svm")
    settings = ProbeSettings(method, "none", tuple(grid_of(x)[-3:]), False, solver)
    found = fit_linear(settings, prepared, y, 8, range(3))
    assert [scored.converged for scored in found] == [False] * 3


def test_weights_have_a_row_per_axis_and_one_for_the_bias() -> None:
    x, y = problem(60, 150, 3)
    made = solve_logistic(x, y, grid_of(x))
    assert made.weights.shape == (prepare_as_they_are(x).train.p + 1, len(GRID), 3)
    assert bool(torch.isfinite(made.weights).all())
    assert isinstance(made.objective, Tensor)
    assert made.objective.dtype == torch.float64
