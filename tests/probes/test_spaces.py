import gc
import weakref

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from trainingsets import prepare

import probe.probes.spaces
from probe.probes.losses import Loss, logistic_loss, softmax_loss, squared_hinge_loss
from probe.probes.matrix import Half, Held, row_space
from probe.probes.solver import Stop, solve
from probe.probes.spaces import FeatureSpace, RowSpace, levels

Floats = NDArray[np.float32]


def drawn(n: int, dim: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def space_of(x: Floats) -> FeatureSpace | RowSpace:
    return prepare(torch.from_numpy(x), torch.from_numpy(x[:1]), "none", centre=False).space


@pytest.mark.parametrize(("n", "dim"), [(60, 12), (30, 80)])
def test_a_space_that_was_worked_in_is_let_go_at_once(n: int, dim: int) -> None:
    """Not when Python looks for cycles: with its rows in float64 it is larger than the layer."""
    space = space_of(drawn(n, dim)).double()
    assert space.rough is not None
    there = weakref.ref(space)
    gc.disable()
    try:
        del space
        assert there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("n", "dim", "kind"), [(60, 12, FeatureSpace), (30, 80, RowSpace)])
def test_a_space_inverts_the_penalised_problem(n: int, dim: int, kind: type) -> None:
    x = drawn(n, dim)
    space = space_of(x)
    assert isinstance(space, kind)
    curvature = torch.tensor([1e-5, 1.0, 700.0], dtype=torch.float64) / space.unit
    level = levels(space, curvature)
    assert level.of_column.tolist() == [-1, 0, 2]
    r = torch.from_numpy(drawn(3, n, seed=1))
    z, margins = space.solve(space.coordinates(r), level)
    made = space.weights(z).double()
    assert isinstance(space.rows, Held)
    rows = space.rows.x.double()
    for q, number in enumerate(level.of_column.tolist()):
        s = 0.0 if number == -1 else 10.0 ** (1.5 * number) / space.unit
        exact = torch.linalg.solve(
            torch.eye(rows.shape[1], dtype=torch.float64) + s * rows.T @ rows,
            rows.T @ r[q].double(),
        )
        torch.testing.assert_close(made[q], exact, rtol=0, atol=2e-4 * float(exact.abs().max()))
        wanted = rows @ exact
        torch.testing.assert_close(
            margins[q].double(), wanted, rtol=0, atol=2e-4 * float(wanted.abs().max())
        )


@pytest.mark.parametrize("twice", [0, 3, 25])
def test_rows_keep_their_products_in_the_space_that_they_span(twice: int) -> None:
    """Centred rows, of which some come twice: few are put last, with many all rows are pivoted."""
    x = torch.from_numpy(drawn(60, 200)).double()
    x = torch.cat([x, x[:twice]])
    x -= x.mean(0)
    other = torch.from_numpy(drawn(7, 200, seed=1)).double()
    train, rest, nothing = row_space((x @ x.T).tril(), other @ x.T)
    assert train.shape == (60 + twice, 59)
    assert nothing.shape == (60 + twice, 1 + twice)
    products = x @ x.T
    assert float((train.double() @ train.T.double() - products).abs().max()) < 1e-3
    assert float((rest.double() @ train.T.double() - other @ x.T).abs().max()) < 1e-3
    assert float((products @ nothing.double()).abs().max()) < 1e-3


def test_rows_that_come_twice_add_no_coordinate_that_grows() -> None:
    """What X' takes to nothing is seen by no margin: it is not in a, however often it is stepped."""
    x = drawn(30, 80)
    x = np.concatenate([x, x[:3]])
    space = space_of(x)
    assert isinstance(space, RowSpace)
    assert space.nothing.shape == (33, 3)
    r = torch.from_numpy(drawn(4, 33, seed=1))
    level = levels(space, torch.full((4,), 1 / space.unit, dtype=torch.float64))
    z, _ = space.solve(space.coordinates(r), level)
    assert float((z @ space.nothing).abs().max()) < 1e-5
    assert float((space.nothing.T @ space.rows.x).abs().max()) < 1e-4


@pytest.mark.parametrize("method", ["logistic", "svm"])
def test_rough_products_lead_to_the_same_place(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three digits are enough for directions: the proof is taken with all of them."""
    x, y = drawn(300, 20), torch.arange(300) % 3
    x[:, :3] += np.eye(3, dtype=np.float32)[y.numpy()]
    c = torch.logspace(-2, 2, 5, dtype=torch.float64) / 20
    signs = 2.0 * torch.nn.functional.one_hot(y, 3).T.float() - 1
    made = []
    monkeypatch.setattr(probe.probes.spaces, "_WORTHWHILE", 0)
    for fast in (False, True):
        monkeypatch.setattr(probe.probes.spaces, "half_is_fast", lambda _, fast=fast: fast)
        space = space_of(x - x.mean(0))
        assert isinstance(space, FeatureSpace)
        assert isinstance(space.rough.rows, Half) == fast
        if method == "svm":
            made.append(
                solve(
                    space,
                    lambda q: squared_hinge_loss(signs[q % 3]),
                    c.repeat(3),
                    1,
                    penalise_bias=True,
                )
            )
        else:
            made.append(solve(space, lambda _: softmax_loss(y), c, 3, penalise_bias=False))
    exact, rough = made
    assert bool((rough.gap <= 1e-4).all())
    torch.testing.assert_close(rough.objective, exact.objective, rtol=2e-5, atol=0)


LABELS = torch.arange(40) % 4
SIGNS = 2.0 * (LABELS == 1) - 1
LOSSES = {
    "softmax": (softmax_loss(LABELS), 4),
    "logistic": (logistic_loss(SIGNS.double()), 1),
    "squared hinge": (squared_hinge_loss(SIGNS.double().expand(3, -1)), 1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_second_derivatives_are_those_of_the_loss(name: str) -> None:
    loss, k = LOSSES[name]
    assert isinstance(loss, Loss)
    m, d = (
        torch.from_numpy(drawn(3 * k, 40, seed).astype(np.float64)).reshape(3, k, 40)
        for seed in (1, 2)
    )
    step = 1e-6
    above, below = loss.value(m + step * d)[1], loss.value(m - step * d)[1]
    residual = loss.value(m)[1]
    torch.testing.assert_close(
        loss.bent(residual, d), (above - below) / (2 * step), rtol=1e-5, atol=1e-6
    )
    one = torch.zeros_like(m)
    one[:, 0] = 1
    torch.testing.assert_close(loss.bent(residual, one)[:, 0], loss.diagonal(residual)[:, 0])


@pytest.mark.parametrize("dim", [10, 300])
@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_the_gap_is_a_bound(dim: int, tol: float) -> None:
    """No problem is further from its minimum than its gap says, and none ends before `tol`."""
    x = drawn(120, dim)
    y = torch.from_numpy(np.random.default_rng(3).integers(0, 3, 120))
    space = space_of(x - x.mean(0))
    c = torch.logspace(-2, 2, 5, dtype=torch.float64) / space.unit

    def at(tol: float) -> tuple[torch.Tensor, torch.Tensor]:
        made = solve(space, lambda _: softmax_loss(y), c, 3, penalise_bias=False, stop=Stop(tol))
        return made.objective, made.gap

    best = at(1e-9)[0]
    objective, gap = at(tol)
    assert bool((gap <= tol).all())
    assert bool((objective * (1 - gap) <= best * (1 + 1e-7)).all())


@pytest.mark.parametrize("copies", [0, 5])
def test_the_svm_reaches_a_large_c_in_few_steps(copies: int) -> None:
    """Rows that a plane parts, a few directions strong: Newton's steps alone take twice as many."""
    random = np.random.default_rng(0)
    x = (random.standard_normal((300, 310)) * np.geomspace(30, 1, 310)).astype(np.float32)
    y = np.sign(x[:, :20] @ random.standard_normal(20) / 30 + random.standard_normal(300))
    x, y = np.concatenate([x, x[:copies]]), np.concatenate([y, y[:copies]])
    space, signs = space_of(x), torch.from_numpy(y.astype(np.float32))
    c = torch.tensor([1e2, 1e3, 1e4], dtype=torch.float64) / space.unit
    made = solve(
        space, lambda q: squared_hinge_loss(signs.expand(len(q), -1)), c, 1, penalise_bias=True
    )
    assert made.iterations < 60
    assert bool((made.gap <= 1e-4).all())
