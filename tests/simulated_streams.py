"""The streams of the simulated device (simulated_device.py): what is asked of it waits in them."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from typing import Any, Self

import torch
from torch import Tensor

NAME = "simulated"
DEVICES = 2
counts: Counter[str] = Counter()
"""`to`, `to, waited for`, `back`, `back later`: copies; `wait`: how often the processor waited."""
ticks = itertools.count(1)
_here = threading.local()


class Early(RuntimeError):
    """Something was read or changed before it had been waited for."""


def index_of(device: Any) -> int:
    """The number of a device."""
    if isinstance(device, int):
        return device
    return 0 if device is None else torch.device(device).index or 0


def _same(a: Tensor, b: Tensor) -> bool:
    return (
        torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        if a.is_floating_point()
        else torch.equal(a, b)
    )


class Stream:
    """A queue of work; copies back wait in it until it is synchronised."""

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self.index = index_of(device)
        self.done = 0
        self.seen: dict[int, int] = {}
        self.later: list[tuple[Tensor, Tensor]] = []
        self.sources: list[tuple[Tensor, Tensor]] = []

    def synchronize(self) -> None:
        """Wait for all that is in the queue."""
        counts["wait"] += 1
        self.finish()

    def finish(self) -> None:
        """Bring to an end what is in the queue."""
        self.done = next(ticks)
        later, self.later = self.later, []
        for target, held in later:
            target.copy_(held)
        sources, self.sources = self.sources, []
        if not all(_same(source, copy) for source, copy in sources):
            raise Early("the source of an asynchronous copy changed before it was copied")

    def wait_stream(self, other: Stream) -> None:
        """Let what follows here come after all that is in `other`."""
        self.seen[id(other)] = next(ticks)

    def __enter__(self) -> Self:
        self._before = current_stream(self.index)
        _here.streams[self.index] = self
        return self

    def __exit__(self, *_: object) -> None:
        _here.streams[self.index] = self._before


_defaults = [Stream(index) for index in range(DEVICES)]


def current_stream(device: Any = None) -> Stream:
    """The stream that this thread works in."""
    index = index_of(device)
    if not hasattr(_here, "streams"):
        _here.streams = list(_defaults)
    stream: Stream = _here.streams[index]
    return stream
