import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from probe.probes.matrix import row_space

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


def coordinates(train: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    x, o = train.double(), other.double()
    return row_space(x @ x.T, o @ x.T)[:2]


def check(train: Tensor, other: Tensor, tolerance: float = 2e-5) -> None:
    """Inner products with the training rows are kept, in no more coordinates than rows."""
    made = coordinates(train, other)
    x, o = train.double(), other.double()
    z, p = (one.double() for one in made)
    size = float(x.square().sum(1).max())
    torch.testing.assert_close(z @ z.T, x @ x.T, rtol=0, atol=tolerance * size)
    reach = float((x.square().sum(1).max() * o.square().sum(1).max()).sqrt())
    torch.testing.assert_close(p @ z.T, o @ x.T, rtol=0, atol=tolerance * reach)
    assert made[0].dtype == made[1].dtype == torch.float32
    assert made[0].shape[1] == made[1].shape[1] <= len(train)


@pytest.mark.parametrize("name", SHAPES)
def test_inner_products_are_kept(name: str) -> None:
    n, dim = SHAPES[name]
    check(rows(n, dim), rows(25, dim, seed=1))


@pytest.mark.parametrize(("n", "dim", "rank"), [(200, 30, 5), (40, 700, 7), (60, 60, 1)])
def test_rank_deficient_rows(n: int, dim: int, rank: int) -> None:
    train = rows(n, dim, rank)
    check(train, rows(25, dim, seed=1))
    assert coordinates(train, train)[0].shape[1] == rank


@pytest.mark.parametrize("dim", [30, 700])
def test_repeated_rows_and_dead_columns(dim: int) -> None:
    train = rows(50, dim)
    train[10:20] = train[0]
    train[:, 3] = 0
    train[:, 4] = 2.5
    check(train, rows(25, dim, seed=1))


@pytest.mark.parametrize("dim", [5, 50])
def test_rows_of_zeros(dim: int) -> None:
    """One coordinate of zeros is left, so that there is something to fit."""
    train, other = coordinates(torch.zeros(10, dim), rows(4, dim))
    assert train.tolist() == [[0]] * 10
    assert other.tolist() == [[0]] * 4


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 40), dim=st.integers(1, 60), seed=st.integers(0, 2**16),
    exponent=st.integers(-6, 6),
)  # fmt: skip
def test_any_shape_and_any_unit(n: int, dim: int, seed: int, exponent: int) -> None:
    unit = 10.0**exponent
    check(rows(n, dim, seed=seed) * unit, rows(5, dim, seed=seed + 1) * unit)
