"""A limit on how long the processor may work for something that its input decides."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Let the block use at most some seconds of the processor.

    Other threads, and systems without such a clock (Windows), have no limit.

    Args:
        seconds: Of the processor, whatever else the machine does meanwhile.

    Raises:
        TimeoutError: The block was still at work.
    """
    limited = hasattr(signal, "setitimer")
    if not limited or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError

    handler = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
