"""The distance from the training images: new images like them have even quantiles, others lie far."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.arrays import Floats
from probe.exported.distance import Axes, Distance, axes_of, distance_from
from probe.exported.refit import Scaler, scaler_of
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


def test_the_lengths_are_mahalanobis_where_every_axis_is_kept() -> None:
    z = drawn(200, 4, 4)
    z = (z - z.mean(0)) / z.std(0)
    precision = np.linalg.inv(np.cov(z.T, bias=True))
    wanted = np.einsum("ni,ij,nj->n", z, precision, z) / 4
    lengths = axes_of(z).lengths(z)
    np.testing.assert_allclose(lengths[:, 0], wanted, rtol=1e-3)
    assert not lengths[:, 1].any()


def test_lengths_are_one_on_average_on_and_off_the_axes() -> None:
    z = drawn(300, 40, 4)
    z = (z - z.mean(0)) / z.std(0)
    np.testing.assert_allclose(axes_of(z).lengths(z).mean(0), 1, rtol=1e-2)


def test_what_is_short_along_the_axes_and_long_off_them_is_far() -> None:
    """As pictures of no face in an embedding of faces; in all they are as long as faces."""
    x = drawn(400, 500, 1)
    source, rows = Source.of(x), np.arange(400)
    distance = distance_from(source, rows, rows // 2, scaler_of(source, rows))
    turn = distance.axes.directions
    odd = distance.scaler(drawn(100, 500, 2))
    odd -= 0.9 * (odd @ turn.T) @ turn
    odd *= np.sqrt(2 / distance.axes.lengths(odd).sum(1, keepdims=True))
    back = (odd / distance.scaler.scale + distance.scaler.mean).astype(np.float32)
    assert np.mean(distance.quantile(distance(back)) > 0.99) > 0.9
    blind = replace(distance, typical=None)  # as format 1
    assert not (blind(back) > np.quantile(blind(drawn(500, 500, 3)), 0.9)).any()


def test_a_file_of_format_1_keeps_its_distance() -> None:
    """By hand: axes e1 and e2 with variances 1 and 4, and a mean squared length of 2 off them."""
    axes = Axes(np.eye(2, 3, dtype=np.float32), np.array([1, 4], dtype=np.float32), 2.0)
    scaler = Scaler(np.zeros(3, dtype=np.float32), np.ones(3, dtype=np.float32))
    old = Distance(scaler, axes, np.array([0, 1, 3], dtype=np.float32), None)
    x = np.array([[2, 2, 4]], dtype=np.float32)
    assert old(x) == pytest.approx([np.sqrt((4 / 1 + 4 / 4) / 2 + 16 / 2)])
    assert old.quantile(np.array([2.0])) == pytest.approx([0.75])
