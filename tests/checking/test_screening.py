"""The quick look at candidates: it lets through all that the full comparison finds, in both orders."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_candidates import drawn

from probe.checking import screening
from probe.checking.find_copies import ALIKE, _coarse, _small
from probe.checking.likeness import _laid_over, alikeness, standard
from probe.checking.screening import may_be_alike, may_be_alike_closer


def cropped(grey: np.ndarray, seed: int) -> np.ndarray:
    """Versions `(n, 64, 64)`, each cropped by up to a tenth at each side, and fainter."""
    rng = np.random.default_rng(seed)
    made = []
    for picture, (a, b, c, d) in zip(grey, rng.integers(0, 7, (len(grey), 4)), strict=True):
        part = torch.from_numpy(picture[a : 64 - b, c : 64 - d].astype(np.float32))[None, None]
        made.append(F.interpolate(part, (64, 64), mode="bilinear", antialias=True)[0, 0].numpy())
    return (np.stack(made) * rng.uniform(0.6, 1, (len(grey), 1, 1))).astype(np.uint8)


def small(grey: np.ndarray) -> np.ndarray:
    return _small(_coarse(grey, np.arange(len(grey))))


@pytest.mark.parametrize("order", [1, -1])
def test_all_that_is_found_in_full_is_let_through_and_little_else(order: int) -> None:
    grey = drawn(200, 0)
    both = np.concatenate([grey, cropped(grey, 1)])
    versions = np.stack([np.arange(200), np.arange(200, 400)], 1)
    others = np.stack([np.arange(200), np.roll(np.arange(200), 7)], 1)
    pairs = np.concatenate([versions, others])[:, ::order]
    alike = alikeness(both, pairs) >= ALIKE
    let_through = may_be_alike(small(both), small(both), pairs)
    assert alike[:200].sum() > 190
    assert not (alike & ~let_through).any()
    assert let_through[200:].mean() < 0.2


def test_images_are_laid_over_each_other_as_in_the_full_comparison() -> None:
    rng = np.random.default_rng(0)
    template, other = torch.from_numpy(rng.normal(size=(2, 50, 16, 16)).astype(np.float32))
    numbers = np.column_stack([rng.uniform(0.7, 1.4, (50, 2)), rng.uniform(-0.4, 0.4, (50, 2))])
    position = torch.from_numpy(numbers.astype(np.float32))
    seen = screening._seen(screening._Pairs(template, torch.empty(50, 0), other), position)
    laid, inside = _laid_over(other, position)
    torch.testing.assert_close(seen.laid, standard(laid, inside), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen.template, standard(template, inside), atol=1e-4, rtol=1e-4)
    assert torch.equal(seen.pixels, inside.sum((1, 2)))


@pytest.mark.parametrize("order", [1, -1])
def test_a_closer_look_lets_through_what_is_found_and_fewer_others(order: int) -> None:
    """The others are made alike at 16 pixels, which is as far as the first look goes."""
    grey = drawn(200, 5)
    rng = np.random.default_rng(6)
    coarse = rng.normal(0, 30, (200, 32, 32)).repeat(2, 1).repeat(2, 2)
    coarse -= coarse.reshape(200, 16, 4, 16, 4).mean((2, 4)).repeat(4, 1).repeat(4, 2)
    alike_when_small = np.clip(grey + coarse, 0, 255).astype(np.uint8)
    images = np.concatenate([grey, cropped(grey, 7), alike_when_small])
    pairs = np.arange(600).reshape(3, 200)[[[0, 0], [1, 2]]].reshape(2, 400).T[:, ::order]
    alike = alikeness(images, pairs) >= ALIKE
    first_look = may_be_alike(small(images), small(images), pairs)
    closer_look = may_be_alike_closer(images, pairs)
    assert alike[:200].sum() > 190
    assert not (alike & ~closer_look).any()
    assert first_look[200:].mean() > 0.9
    assert closer_look[200:].mean() < 0.1


def test_a_pair_has_its_answer_wherever_it_stands() -> None:
    grey = drawn(60, 2)
    both = np.concatenate([grey, cropped(grey, 3)])
    rng = np.random.default_rng(4)
    pairs = np.stack([rng.integers(0, 60, 3000), rng.integers(60, 120, 3000)], 1)
    at_once = may_be_alike(small(both), small(both), pairs)
    order = rng.permutation(3000)
    np.testing.assert_array_equal(
        may_be_alike(small(both), small(both), pairs[order]), at_once[order]
    )
    assert at_once[pairs[:, 1] == pairs[:, 0] + 60].mean() > 0.9
