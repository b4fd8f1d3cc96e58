"""Which pairs of images may show one picture: the steps of probe/checking/likeness.py, in less time.

Most candidates are two pictures, as their outlines at 16 pixels tell, and most others at 32. Here an
image's gradients are taken once for all its pairs, and the other image is stretched along x and along y in
turn, by two products. What passes is compared in full, so that a likeness does not depend on this; hence
the margin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from features.arrays import Bools, Floats, Images, Ints
from features.machine.device import thread_per_core
from probe.checking.likeness import STAGES, gradients, moved, shrunk, standard

_MARGIN = 2e-3
"""Of a correlation: rounding, several hundred times."""
_SMALL = 16
_PAIRS = 8192
"""At a time, for which the gradients of their images are taken."""
_LAID = 1024
"""At a time, so that what is made of them stays in the cache."""


class _Pairs(NamedTuple):
    """Pairs of images of one side, the first of each being `template`."""

    template: Tensor
    """`(m, s, s)`, of mean 0 and SD 1."""
    solve: Tensor
    """`(m, 4, s * s)`: the four numbers of a difference between the images."""
    other: Tensor
    """`(m, s, s)`, the same."""

    def of(self, kept: Tensor) -> _Pairs:
        return _Pairs(*(x.index_select(0, kept) for x in self))


class _Seen(NamedTuple):
    """Pairs at some position: of mean 0 and SD 1 inside both images, 0 outside."""

    laid: Tensor
    """`(m, s, s)`."""
    template: Tensor
    """`(m, s, s)`."""
    pixels: Tensor
    """Those inside, `(m,)`."""

    def of(self, kept: Tensor) -> _Seen:
        return _Seen(*(x.index_select(0, kept) for x in self))


def may_be_alike(first: Floats, second: Floats, pairs: Ints) -> Bools:
    """Whether the second of each pair may be the first moved, stretched or cropped, `(m,)`.

    Args:
        first: Images of 16 x 16 pixels, `(n, 256)`, of mean 0 and length 1.
        second: Others, `(q, 256)`.
        pairs: A number in `first` and one in `second`, `(m, 2)`.
    """
    order = np.argsort(pairs[:, 0], kind="stable")

    def some(part: Ints) -> list[Bools]:
        here = order[part]
        images, which = np.unique(pairs[here, 0], return_inverse=True)
        a = _square(first[images])
        solve, of = _solve(a), torch.from_numpy(which.reshape(-1))

        def of_a_few(few: Tensor) -> Bools:
            b = _square(second[pairs[here[few.numpy()], 1]])
            both = _Pairs(a.index_select(0, of[few]), solve.index_select(0, of[few]), b)
            return _may_be(len(few), [_SMALL], lambda _side, _left: both)

        return [of_a_few(few) for few in torch.split(torch.arange(len(here)), _LAID)]

    able = np.zeros(len(pairs), dtype=np.bool_)
    able[order] = _of_all(some, len(pairs), _PAIRS)
    return able


def may_be_alike_closer(images: Images, pairs: Ints) -> Bools:
    """The same, also at 32 pixels, of images `(n, 64, 64)` and pairs of their numbers, `(m, 2)`."""
    every = torch.from_numpy(images)

    def some(part: Ints) -> list[Bools]:
        numbers = torch.from_numpy(pairs[part])

        def prepared(side: int, left: Tensor) -> _Pairs:
            a, b = (_upright(shrunk(every[numbers[left, i]], side)) for i in (0, 1))
            return _Pairs(a, _solve(a), b)

        return [_may_be(len(part), list(dict.fromkeys(side for side, *_ in STAGES)), prepared)]

    return _of_all(some, len(pairs), _LAID)


def _of_all(some: Callable[[Ints], list[Bools]], count: int, at_a_time: int) -> Bools:
    """What `some` says of the numbers below `count`, of so many at a time."""
    parts = [np.arange(i, min(i + at_a_time, count)) for i in range(0, count, at_a_time)]
    with thread_per_core() as pool:
        found = [each for several in pool.map(some, parts) for each in several]
    return np.concatenate([np.zeros(0, dtype=np.bool_), *found])


def _may_be(count: int, sides: list[int], pairs_at: Callable[[int, Tensor], _Pairs]) -> Bools:
    """Whether each of the pairs, of which `pairs_at` gives some at one of the `sides`, passes."""
    left = torch.arange(count)
    position = torch.tensor([1.0, 1.0, 0.0, 0.0]).repeat(count, 1)
    for side in sides:
        pairs = pairs_at(side, left)
        seen = _seen(pairs, position) if side > sides[0] else _unmoved(pairs)
        for steps, enough in [(steps, enough) for s, steps, enough in STAGES if s == side]:
            for _ in range(steps):
                step = _product(pairs.solve, (seen.laid - seen.template).flatten(1)[..., None])
                position = moved(position, step[..., 0])
                seen = _seen(pairs, position)
            alike = _dot(seen.laid, seen.template) / seen.pixels
            kept = torch.nonzero(alike >= enough - _MARGIN)[:, 0]
            pairs, seen = pairs.of(kept), seen.of(kept)
            left, position = left[kept], position[kept]
    able = np.zeros(count, dtype=np.bool_)
    able[left.numpy()] = True
    return able


def _upright(images: Tensor) -> Tensor:
    """The images `(m, s, s)`, each of mean 0 and SD 1."""
    return standard(images, torch.ones(1, *images.shape[1:]))


def _solve(template: Tensor) -> Tensor:
    slopes, inverse = gradients(template)
    return inverse @ slopes


def _square(rows: Floats) -> Tensor:
    """Images `(m, 16, 16)` of SD 1."""
    return torch.from_numpy(rows).view(-1, _SMALL, _SMALL) * _SMALL


def _unmoved(pairs: _Pairs) -> _Seen:
    size = pairs.other[0].numel()
    return _Seen(pairs.other, pairs.template, torch.full((len(pairs.other),), float(size)))


def _seen(pairs: _Pairs, position: Tensor) -> _Seen:
    """The pairs where `likeness._laid_over` lays the second over the first."""
    side = pairs.other.shape[-1]
    pixel = torch.arange(side, dtype=torch.float32)
    at = (
        position[:, :2, None] * ((2 * pixel + 1) / side - 1) + position[:, 2:, None]
    )  # (m, 2, s): x, y
    within = (at.abs() <= 1).float()
    place = at.add_(1).mul_(side / 2).sub_(0.5).clamp_(0, side - 1)
    along_x = _weights(place[:, 0, None] - pixel[:, None], within[:, 0, None])
    along_y = _weights(place[:, 1, :, None] - pixel, within[:, 1, :, None])
    laid = _product(_product(along_y, pairs.other), along_x)
    inside = within[:, 1, :, None] * within[:, 0, None, :]
    pixels = within.sum(2).prod(1).clamp_(min=1)
    laid, template = (_standard(x, inside, pixels) for x in (laid, pairs.template * inside))
    return _Seen(laid, template, pixels)


def _weights(away: Tensor, within: Tensor) -> Tensor:
    """How much pixels count that are so many pixels away, `(m, s, s)`."""
    return away.abs_().neg_().add_(1).clamp_(min=0).mul_(within)


def _standard(image: Tensor, inside: Tensor, pixels: Tensor) -> Tensor:
    """As `likeness.standard`, in place, of images that are 0 outside."""
    image.addcmul_((image.sum((1, 2)) / pixels)[:, None, None], inside, value=-1)
    spread = (_dot(image, image) / pixels).sqrt_().clamp_(min=1e-3)
    return image.div_(spread[:, None, None])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The sum of the products of each two images' pixels, `(m,)`."""
    return torch.from_numpy(np.vecdot(a.flatten(1).numpy(), b.flatten(1).numpy()))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b` of many small matrices, for which NumPy takes a half to a tenth of PyTorch's time."""
    return torch.from_numpy(a.numpy() @ b.numpy())
