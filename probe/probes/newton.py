"""A Newton step of every problem, by preconditioned conjugate gradients (solver.py says the method)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.probes.columns import Losses
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
    """Where the problems that still run have come: q problems, of one or more columns each."""

    problems: Tensor
    """Their numbers, `(q,)`."""
    places: Tensor
    """The numbers of their columns, `(columns,)`."""
    c: Tensor
    """`(q,)` float64; on the way to `goal`."""
    goal: Tensor
    penalty: Tensor
    """1 for columns whose bias is penalised, else 0: `(columns, 1)` float64."""
    a: Tensor
    """Coordinates of the weights, `(columns, size)`."""
    w: Tensor
    """The weights, `(columns, p)`."""
    b: Tensor
    """`(columns, 1)` float64."""
    m: Tensor
    """Margins, `(columns, n)`."""
    value: Tensor
    """The loss, `(q,)` float64."""
    residual: Tensor
    """Its derivative by the margins, `(columns, n)`."""
    left: Tensor
    """About what the last step left of the squared distance from the optimum, `(q,)` float64."""

    def of(self, which: Tensor, mine: Tensor) -> Now:
        """Some of the problems, and the columns that are theirs; masks."""
        of_problems = ("problems", "c", "goal", "value", "left")
        return Now(**{n: t[which if n in of_problems else mine] for n, t in vars(self).items()})

    def double(self) -> Now:
        """The same in float64."""
        whole = ("problems", "places")
        return Now(**{n: t if n in whole else t.double() for n, t in vars(self).items()})


@dataclass(frozen=True)
class Gradient:
    """The gradient of every problem and what it proves."""

    a: Tensor
    """Coordinates of that by the weights, `(columns, size)`."""
    b: Tensor
    """That by the bias, `(columns, 1)` float64."""
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

    def of(self, which: Tensor, mine: Tensor) -> Gradient:
        """Some of the problems, and the columns that are theirs; masks."""
        of_columns = ("a", "b")
        return Gradient(**{n: t[mine if n in of_columns else which] for n, t in vars(self).items()})


@dataclass
class _Search:
    """The conjugate gradients of the problems that they have not brought near enough."""

    on: Tensor
    """Their numbers among all that run, `(q,)`."""
    at: Tensor
    """The numbers of their columns."""
    level: Levels
    weigh: Tensor
    """C, `(columns, 1)`."""
    of_bias: Tensor
    """The preconditioner's second derivative by the bias, `(columns, 1)` float64."""
    penalty: Tensor
    residual: Tensor
    """That of the loss, `(columns, n)`."""
    enough: Tensor
    """At which `rho` they stop, `(q,)`."""
    step: Tensor
    """So far: coordinates `(columns, size)`, bias, and about what it gains, `(q,)`."""
    change: Tensor
    worth: Tensor
    r: Tensor
    """What is left of the gradient: coordinates `(columns, size)`."""
    rb: Tensor
    """By the bias, `(columns, 1)`."""
    rho: Tensor
    """Its squared length in the preconditioner's norm, `(q,)`."""
    p: Tensor
    """The direction: coordinates, margins and bias."""
    pm: Tensor
    pb: Tensor

    def of(self, which: Tensor, mine: Tensor) -> _Search:
        """Some of the problems, and the columns that are theirs; masks."""
        of_problems = ("on", "enough", "worth", "rho")
        some = {
            n: t[which if n in of_problems else mine]
            for n, t in vars(self).items()
            if isinstance(t, Tensor)
        }
        return _Search(level=self.level.of(mine), **some)


def newton_step(
    space: Space, losses: Losses, now: Now, g: Gradient
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Newton's step by preconditioned conjugate gradients.

    Returns:
        Its coordinates `(columns, size)`, its bias `(columns, 1)`, about what it gains, `(q,)`, and about
        what it leaves of the squared distance from the optimum, `(q,)`; infinite where it came to no end.
    """
    space, columns = space.rough, losses.columns
    step, change = torch.zeros_like(g.a), torch.zeros_like(g.b)
    worth = torch.zeros_like(g.objective)
    ended = torch.zeros_like(worth, dtype=torch.bool)
    curvature = columns.wide(g.curvature, g.b)
    level = levels(space, curvature[:, 0])
    of_bias = (curvature * space.rows.n + now.penalty).clamp_min(1e-300)
    z, zm = space.solve(-g.a, level)
    zb = -g.b / of_bias
    rho = -columns.quickly(g.a * space.image(z, zm)) - columns.summed(g.b * zb)
    s = _Search(
        torch.arange(len(worth), device=worth.device), torch.arange(len(step), device=worth.device),
        level, columns.wide(now.c, now.residual), of_bias, now.penalty, now.residual,
        _FORCING**2 * rho, step, change, worth, -g.a, -g.b, rho, z, zm, zb,
    )  # fmt: skip
    for number in range(1, _CONJUGATE_STEPS + 1):
        pull = losses.bent(s.residual, s.pm + s.pb.to(s.pm.dtype)).mul_(s.weigh)
        bent_b = pull.sum(1, keepdim=True).double() + s.penalty * s.pb
        bent = space.coordinates(pull) + s.p
        curved = columns.quickly(space.image(s.p, s.pm) * bent) + columns.together(
            (s.pb * bent_b)[:, 0]
        )
        # Rounding alone may turn a sign, at the end of a search.
        far = torch.where((s.rho > s.enough) & (curved > 0), s.rho / curved, 0)
        by, by_b = columns.wide(far, bent), columns.wide(far, bent_b)
        s.step.addcmul_(by, s.p)
        s.change.addcmul_(by_b, s.pb)
        s.worth.addcmul_(far, s.rho, value=0.5)
        s.r, s.rb = s.r.addcmul(by, bent, value=-1), s.rb.addcmul(by_b, bent_b, value=-1)
        z, zm = space.solve(s.r, s.level)
        zb = s.rb / s.of_bias
        rho = columns.quickly(s.r * space.image(z, zm)) + columns.together((s.rb * zb)[:, 0])
        going = (far > 0) & (rho > s.enough)
        ended[s.on] |= (far > 0) & (rho >= 0) & (rho <= s.enough)
        turn, s.rho = torch.where(going, rho / s.rho, 0), torch.where(going, rho, 0)
        asked = going.device.type == "cpu" or number % _UNASKED == 0
        left = int(going.sum()) if asked else len(going)
        if not left:
            break
        s.p = z.addcmul_(columns.wide(turn, z), s.p)
        s.pm = zm.addcmul_(columns.wide(turn, zm), s.pm)
        s.pb = zb.addcmul_(columns.wide(turn, zb), s.pb)
        if left * 4 <= len(going) * 3:  # taking problems out copies everything
            if s.step is not step:
                step[s.at], change[s.at], worth[s.on] = s.step, s.change, s.worth
            columns, mine = columns.kept(going)
            s, losses = s.of(going, mine), losses.of(columns)
    if s.step is not step:
        step[s.at], change[s.at], worth[s.on] = s.step, s.change, s.worth
    remains = torch.where(ended & (worth > 0), _REMAINS * worth, torch.inf)
    return step, change, worth, remains
