"""Which pairs of images may show one picture: the first steps of probe/checking/likeness.py, in less time.

Most candidates are two pictures, as their outlines at 16 pixels tell. Here an image's gradients are taken
once for all its pairs, and the other image is stretched along x and along y in turn, by two products. What
passes is compared in full, so that a likeness does not depend on this; hence the margin.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from features.arrays import Bools, Floats, Ints
from features.machine.device import cores, threads
from probe.checking.likeness import STAGES, gradients, moved, standard

_MARGIN = 2e-3
"""Of a correlation: rounding, several hundred times."""
_PAIRS = 1024
_SIDE = 16


def may_be_alike(first: Floats, second: Floats, pairs: Ints) -> Bools:
    """Whether the second of each pair may be the first moved, stretched or cropped, `(m,)`.

    Args:
        first: Images of 16 x 16 pixels, `(n, 256)`, of mean 0.
        second: Others, `(q, 256)`.
        pairs: A number in `first` and one in `second`, `(m, 2)`.
    """
    able = np.zeros(len(pairs), dtype=np.bool_)
    order = np.argsort(pairs[:, 0], kind="stable")

    def some(here: Ints) -> None:
        able[here] = _may_be(torch.from_numpy(first), torch.from_numpy(second), pairs[here])

    with (
        threads(1),
        ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):  # a batch is too small to be shared
        list(pool.map(some, _split(order)))
    return able


def _split(order: Ints) -> Iterator[Ints]:
    for start in range(0, len(order), _PAIRS):
        yield order[start : start + _PAIRS]


def _may_be(first: Tensor, second: Tensor, pairs: Ints) -> Bools:
    images, which = np.unique(pairs[:, 0], return_inverse=True)
    a, of = _upright(first, images), torch.from_numpy(which.reshape(-1))
    slopes, inverse = gradients(a)
    solve = inverse @ slopes
    template, b = a.index_select(0, of), _upright(second, pairs[:, 1])
    position = torch.tensor([1.0, 1.0, 0.0, 0.0]).repeat(len(pairs), 1)
    off = b - template  # nothing is moved at first
    left = torch.arange(len(pairs))
    for side, steps, enough in STAGES:
        if side != _SIDE:
            break
        for _ in range(steps):
            step = solve.index_select(0, of) @ off.flatten(1)[..., None]
            position = moved(position, step[..., 0])
            laid, inside = _laid_over(b, position)
            laid, within = standard(laid, inside), standard(template, inside)
            off = laid - within
        pixels = inside.sum((1, 2)).clamp(min=1)
        kept = torch.nonzero((laid * within).sum((1, 2)) / pixels >= enough - _MARGIN)[:, 0]
        left, of, template, b, position, off = (
            x.index_select(0, kept) for x in (left, of, template, b, position, off)
        )
    able = np.zeros(len(pairs), dtype=np.bool_)
    able[left.numpy()] = True
    return able


def _upright(rows: Tensor, numbers: Ints) -> Tensor:
    """Some of the images, `(m, 16, 16)`, each of SD 1."""
    some = rows.index_select(0, torch.from_numpy(np.ascontiguousarray(numbers)))
    return standard(some.view(-1, _SIDE, _SIDE), torch.ones(1, _SIDE, _SIDE))


def _laid_over(b: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """As `likeness._laid_over`, of images of 16 pixels."""
    pixel = torch.arange(_SIDE)
    middle = (2 * pixel + 1) / _SIDE - 1
    at = position[:, :2, None] * middle + position[:, 2:, None]  # (m, 2, s): along x, along y
    place = ((at + 1) * (_SIDE / 2) - 0.5).clamp(0, _SIDE - 1)
    weight = (1 - (place[..., None] - pixel).abs()).clamp_(min=0)  # (m, 2, s, s)
    within = (at.abs() <= 1).float()
    laid = weight[:, 1] @ b @ weight[:, 0].mT
    return laid, within[:, 1, :, None] * within[:, 0, None, :]
