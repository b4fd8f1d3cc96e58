"""A Newton step of every problem, by preconditioned conjugate gradients (solver.py says the method)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.probes.losses import Loss, summed
from probe.probes.spaces import Levels, Space, levels

_FORCING = 0.1
"""The part of a gradient, in the preconditioner's norm, that a Newton step may leave."""
_REMAINS = 0.1
"""Of what a step is worth, about what remains as squared distance: 2 `_FORCING`^2, five times over."""
_CONJUGATE_STEPS = 50
_UNASKED = 8
"""Of how many of these steps an accelerator is waited for in one, to learn which problems go on."""


@dataclass
class Now:
    """Where the problems that still run have come."""

    problems: Tensor
    """Their numbers, `(q,)`."""
    c: Tensor
    """`(q,)` float64; on the way to `goal`."""
    goal: Tensor
    a: Tensor
    """Coordinates of the weights, `(q, k, size)`."""
    w: Tensor
    """The weights, `(q, k, p)`."""
    b: Tensor
    """`(q, k, 1)` float64."""
    m: Tensor
    """Margins, `(q, k, n)`."""
    value: Tensor
    """The loss, `(q,)` float64."""
    residual: Tensor
    """Its derivative by the margins, `(q, k, n)`."""
    left: Tensor
    """About what the last step left of the squared distance from the optimum, `(q,)` float64."""

    def of(self, which: Tensor) -> Now:
        """Some of the problems."""
        return Now(**{name: tensor[which] for name, tensor in vars(self).items()})

    def double(self) -> Now:
        """The same in float64."""
        whole = ("problems",)
        return Now(**{n: t if n in whole else t.double() for n, t in vars(self).items()})


@dataclass(frozen=True)
class Gradient:
    """The gradient of every problem and what it proves."""

    a: Tensor
    """Coordinates of that by the weights, `(q, k, size)`."""
    b: Tensor
    """That by the bias, `(q, k, 1)` float64."""
    objective: Tensor
    """`(q,)` float64."""
    gap: Tensor
    """At most so far is the objective from its minimum, relative, `(q,)`."""
    off: Tensor
    """The square of how far the weights are off, of their length, `(q,)`: at most, or by the last step."""
    length: Tensor
    """The squared length of the weights, `(q,)`."""
    curvature: Tensor
    """C times the mean second derivative of the loss, `(q,)` float64."""


@dataclass
class _Search:
    """The conjugate gradients of the problems that they have not brought near enough."""

    on: Tensor
    """Their numbers among all that run."""
    level: Levels
    weigh: Tensor
    """C, `(q, 1, 1)`."""
    of_bias: Tensor
    """The preconditioner's second derivative by the bias, `(q, 1, 1)` float64."""
    residual: Tensor
    """That of the loss, `(q, k, n)`."""
    enough: Tensor
    """At which `rho` they stop, `(q,)`."""
    r: Tensor
    """What is left of the gradient: coordinates `(q, k, size)`."""
    rb: Tensor
    """By the bias, `(q, k, 1)`."""
    rho: Tensor
    """Its squared length in the preconditioner's norm, `(q,)`."""
    p: Tensor
    """The direction: coordinates, margins and bias."""
    pm: Tensor
    pb: Tensor

    def of(self, which: Tensor) -> _Search:
        """Some of the problems."""
        some = {n: t[which] for n, t in vars(self).items() if isinstance(t, Tensor)}
        return _Search(level=self.level.of(which), **some)


def newton_step(
    space: Space, loss: Loss, now: Now, g: Gradient, penalty: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Newton's step by preconditioned conjugate gradients.

    Returns:
        Its coordinates `(q, k, size)`, its bias `(q, k, 1)`, about what it gains, `(q,)`, and about what it
        leaves of the squared distance from the optimum, `(q,)`; infinite where it came to no end.
    """
    space = space.rough
    step, change = torch.zeros_like(g.a), torch.zeros_like(g.b)
    worth = torch.zeros_like(g.objective)
    ended = torch.zeros_like(worth, dtype=torch.bool)
    level = levels(space, g.curvature)
    of_bias = (g.curvature * space.rows.n + penalty).clamp_min(1e-300)[:, None, None]
    z, zm = space.solve(-g.a, level)
    zb = -g.b / of_bias
    rho = -summed(g.a * space.image(z, zm)) - summed(g.b * zb)
    s = _Search(
        torch.arange(len(g.a), device=g.a.device), level, wide(now.c, now.residual), of_bias,
        now.residual, _FORCING**2 * rho, -g.a, -g.b, rho, z, zm, zb,
    )  # fmt: skip
    for number in range(1, _CONJUGATE_STEPS + 1):
        pull = s.weigh * loss.bent(s.residual, s.pm + s.pb.to(s.pm.dtype))
        bent = space.coordinates(pull) + s.p
        bent_b = pull.sum(2, keepdim=True, dtype=torch.float64) + penalty * s.pb
        curved = summed(space.image(s.p, s.pm) * bent) + summed(s.pb * bent_b)
        # Rounding alone may turn a sign, at the end of a search.
        far = torch.where((s.rho > s.enough) & (curved > 0), s.rho / curved, 0)
        step[s.on] += wide(far, s.p) * s.p
        change[s.on] += far[:, None, None] * s.pb
        worth[s.on] += far * s.rho / 2
        s.r, s.rb = s.r - wide(far, bent) * bent, s.rb - far[:, None, None] * bent_b
        z, zm = space.solve(s.r, s.level)
        zb = s.rb / s.of_bias
        rho = summed(s.r * space.image(z, zm)) + summed(s.rb * zb)
        going = (far > 0) & (rho > s.enough)
        ended[s.on] |= (far > 0) & (rho >= 0) & (rho <= s.enough)
        turn, s.rho = torch.where(going, rho / s.rho, 0), torch.where(going, rho, 0)
        asked = going.device.type == "cpu" or number % _UNASKED == 0
        left = int(going.sum()) if asked else len(going)
        if not left:
            break
        s.p, s.pm = z.add_(wide(turn, z) * s.p), zm.add_(wide(turn, zm) * s.pm)
        s.pb = zb + turn[:, None, None] * s.pb
        if left * 4 <= len(going) * 3:  # taking problems out copies everything
            s = s.of(going)
    remains = torch.where(ended & (worth > 0), _REMAINS * worth, torch.inf)
    return step, change, worth, remains


def wide(a: Tensor, like: Tensor) -> Tensor:
    """A number of every problem, `(q,)`, to be multiplied with `like`, `(q, k, n)`: `(q, 1, 1)`."""
    return a.to(like.dtype)[:, None, None]
