"""What work took: by the clock and of the processor, and how long it takes where nothing else runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

_SHORT = 0.5
"""Seconds, below which how many cores were at work is noise."""


@dataclass(frozen=True)
class Spent:
    """What a piece of work took."""

    seconds: float
    """By the clock."""
    processor: float = 0.0
    """Seconds of all cores together; 0 where they were not measured."""

    def __add__(self, other: Spent) -> Spent:
        """Both together; processor seconds only where both have them."""
        known = all(each.processor or not each.seconds for each in (self, other))
        processor = self.processor + other.processor if known else 0.0
        return Spent(self.seconds + other.seconds, processor)

    def times(self, factor: float) -> Spent:
        """What `factor` times as much work takes."""
        return Spent(self.seconds * factor, self.processor * factor)


class Stopwatch:
    """Runs from its making."""

    def __init__(self) -> None:
        """Start."""
        self._seconds, self._processor = time.perf_counter(), _processor()

    def spent(self) -> Spent:
        """What was spent so far, by this process and those that it started and that ended."""
        return Spent(time.perf_counter() - self._seconds, _processor() - self._processor)


def alone(work: Spent, like: Iterable[Spent]) -> float:
    """The seconds of `work` where nothing else runs.

    The clock of a busy machine tells how busy it was. So these are the processor seconds, on as many cores
    at once as the least disturbed of `like` had, and never more than the clock said.

    Args:
        work: What it took, perhaps on a busy machine.
        like: What work of this kind took.
    """
    known = [each for each in like if each.processor > 0 and each.seconds > 0]
    known = [each for each in known if each.seconds >= _SHORT] or known
    if not known or work.processor <= 0:
        return work.seconds
    return min(work.seconds, work.processor / max(e.processor / e.seconds for e in known))


def _processor() -> float:
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system
