import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from probe.axes import principal_axes

SHAPES = {
    "tall": (200, 30),
    "wide": (40, 700),
    "square": (50, 50),
    "one column": (20, 1),
    "one row": (1, 8),
}


def rows(n: int, dim: int, rank: int | None = None, seed: int = 0) -> Tensor:
    drawn = np.random.default_rng(seed)
    if rank is None:
        return torch.from_numpy(drawn.standard_normal((n, dim)).astype(np.float32))
    low = drawn.standard_normal((n, rank)) @ drawn.standard_normal((rank, dim))
    return torch.from_numpy(low.astype(np.float32))


def check(train: Tensor, other: Tensor, tolerance: float = 2e-5) -> None:
    """Inner products are kept and the Gram matrix of the training rows is diagonal."""
    axes = principal_axes(train, other)
    x, o = train.double(), other.double()
    z, p = axes.train.double(), axes.other.double()
    size = float(x.square().sum(1).max())
    torch.testing.assert_close(z @ z.T, x @ x.T, rtol=0, atol=tolerance * size)
    reach = float((x.square().sum(1).max() * o.square().sum(1).max()).sqrt())
    torch.testing.assert_close(p @ z.T, o @ x.T, rtol=0, atol=tolerance * reach)
    most = float(axes.squares.max())
    torch.testing.assert_close(z.T @ z, torch.diag(axes.squares), rtol=0, atol=tolerance * most)
    assert axes.train.dtype == axes.other.dtype == torch.float32
    assert axes.train.shape[1] == axes.other.shape[1] == len(axes.squares) <= min(train.shape)
    assert bool((axes.squares >= 0).all())


@pytest.mark.parametrize("name", SHAPES)
def test_inner_products_are_kept_and_the_gram_matrix_is_diagonal(name: str) -> None:
    n, dim = SHAPES[name]
    check(rows(n, dim), rows(25, dim, seed=1))


@pytest.mark.parametrize(("n", "dim", "rank"), [(200, 30, 5), (40, 700, 7), (60, 60, 1)])
def test_rank_deficient_rows(n: int, dim: int, rank: int) -> None:
    train = rows(n, dim, rank)
    check(train, rows(25, dim, seed=1))
    values = principal_axes(train, train).squares
    assert int((values > 1e-5 * values.max()).sum()) == rank


@pytest.mark.parametrize("dim", [30, 700])
def test_repeated_rows_and_dead_columns(dim: int) -> None:
    train = rows(50, dim)
    train[10:20] = train[0]
    train[:, 3] = 0
    train[:, 4] = 2.5
    check(train, rows(25, dim, seed=1))


@pytest.mark.parametrize("dim", [5, 50])
def test_rows_of_zeros(dim: int) -> None:
    axes = principal_axes(torch.zeros(10, dim), rows(4, dim))
    assert float((axes.train @ axes.train.T).abs().max()) == 0
    assert bool(torch.isfinite(axes.other).all())


def test_a_wide_layer_costs_no_more_axes_than_rows() -> None:
    assert principal_axes(rows(12, 5_000), rows(3, 5_000)).train.shape[1] <= 12


def test_many_columns_are_added_up_without_losing_digits() -> None:
    """Unlike lengths over 40 blocks: a sum in float32 alone would be off by far more."""
    train = rows(30, 20_000) + 3
    check(train, rows(10, 20_000, seed=1) + 3, tolerance=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 40), dim=st.integers(1, 60), seed=st.integers(0, 2**16),
    exponent=st.integers(-6, 6),
)  # fmt: skip
def test_any_shape_and_any_unit(n: int, dim: int, seed: int, exponent: int) -> None:
    unit = 10.0**exponent
    check(rows(n, dim, seed=seed) * unit, rows(5, dim, seed=seed + 1) * unit)
