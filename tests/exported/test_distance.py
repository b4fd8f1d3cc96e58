"""The distance from the training images: new images like them have even quantiles, others lie far."""

from __future__ import annotations

import numpy as np
import pytest

from features.arrays import Floats
from probe.exported.distance import axes_of, distance_from
from probe.exported.refit import scaler_of
from probe.probes.layer import Source


def drawn(n: int, dim: int, seed: int) -> Floats:
    """Correlated features of unlike size, with means far from nought."""
    turn = np.random.default_rng(0).standard_normal((dim, dim)) / dim**0.5
    x = np.random.default_rng([1, seed]).standard_normal((n, dim)) * np.linspace(3, 0.1, dim)
    return (x @ turn + 5).astype(np.float32)


@pytest.mark.parametrize("dim", [4, 30, 500])
def test_quantiles_of_new_images_are_even(dim: int) -> None:
    x = drawn(400, dim, 1)
    source, rows = Source.of(x), np.arange(400)
    distance = distance_from(source, rows, rows // 2, scaler_of(source, rows))
    quantile = distance.quantile(distance(drawn(1000, dim, 2)))
    for share in (0.25, 0.5, 0.9):
        assert np.mean(quantile <= share) == pytest.approx(share, abs=0.1)
    assert np.mean(quantile > 0.99) < 0.04
    odd = drawn(50, dim, 3)
    odd += 8 * odd.std(0)
    assert (distance.quantile(distance(odd)) > 0.99).all()
    assert np.median(distance(x)) == pytest.approx(1, abs=0.2)


def test_the_squared_distance_is_mahalanobis_where_every_axis_is_kept() -> None:
    z = drawn(200, 5, 4)
    z = (z - z.mean(0)) / z.std(0)
    precision = np.linalg.inv(np.cov(z.T, bias=True))
    wanted = np.einsum("ni,ij,nj->n", z, precision, z) / 5
    np.testing.assert_allclose(axes_of(z).squared(z), wanted, rtol=1e-3)
