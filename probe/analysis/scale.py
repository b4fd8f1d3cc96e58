"""How the results of a task are said: accuracies in per cent and points, errors of a number in its unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probe.analysis.statistics import Interval


@dataclass(frozen=True)
class Scale:
    """The words for values and differences of one task; in a difference more is better."""

    unit: str = ""
    """That of a number; empty for classes."""

    @property
    def factor(self) -> float:
        """What values are multiplied by where they are shown."""
        return 1.0 if self.unit else 100.0

    def number(self, value: float) -> str:
        """A value without its unit."""
        return _number(value) if self.unit else f"{100 * value:.1f}"

    def value(self, headline: Interval) -> str:
        """An accuracy, `61.2 % [58.0, 64.4]`, or a mean absolute error, `5.31 years [5.10, 5.52]`."""
        known = not np.isnan(headline.low)
        if self.unit:
            ends = f" [{_number(headline.low)}, {_number(headline.high)}]" if known else ""
            return f"{_number(headline.value)} {self.unit}{ends}"
        return str(headline) if known else f"{100 * headline.value:.1f} %"

    def difference(self, apart: Interval) -> str:
        """A difference with its interval: `+7.2 points [+3.7, +10.7]`, `0.52 years closer [...]`."""
        if np.isnan(apart.low):
            return self.size(apart.value)
        return f"{self.size(apart.value)} {self.ends(apart.low, apart.high)}"

    def size(self, apart: float) -> str:
        """A difference alone."""
        if not self.unit:
            return f"{100 * apart:+.1f} points"
        return f"{_number(abs(apart))} {self.unit} {'closer' if apart >= 0 else 'farther off'}"

    def signed(self, apart: float) -> str:
        """A difference as a number with its sign."""
        if not self.unit:
            return f"{100 * apart:+.1f}"
        return f"{'+' if apart >= 0 else '-'}{_number(abs(apart))}"

    def ends(self, low: float, high: float) -> str:
        """The ends of the interval of a difference."""
        return f"[{self.signed(low)}, {self.signed(high)}]"


POINTS = Scale()
"""That of classes."""


def _number(value: float) -> str:
    """A number with two decimals, or fewer where it is large."""
    digits = 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{digits}f}"
