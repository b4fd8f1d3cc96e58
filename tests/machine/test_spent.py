"""What work took, and how long it takes where nothing else runs."""

import subprocess
import sys
import time

import numpy as np
import pytest

from features.machine.spent import Spent, Stopwatch, alone


@pytest.mark.parametrize(
    ("work", "like", "seconds"),
    [
        # Twelve processor seconds in an hour that was busy; once two cores were at work.
        (Spent(60.0, 12.0), [Spent(60.0, 12.0), Spent(10.0, 20.0)], 6.0),
        # No measurement had more than one core, so neither had this one.
        (Spent(60.0, 12.0), [Spent(60.0, 12.0), Spent(10.0, 10.0)], 12.0),
        # The clock is the most: waiting for a disk takes no processor.
        (Spent(5.0, 12.0), [Spent(10.0, 10.0)], 5.0),
        (Spent(60.0), [Spent(10.0, 20.0)], 60.0),
        (Spent(60.0, 12.0), [Spent(10.0)], 60.0),
        (Spent(60.0, 12.0), [], 60.0),
        # What is short tells nothing of how many cores were at work.
        (Spent(60.0, 12.0), [Spent(0.01, 0.2), Spent(10.0, 20.0)], 6.0),
    ],
)
def test_a_busy_hour_does_not_count(work: Spent, like: list[Spent], seconds: float) -> None:
    assert alone(work, like) == pytest.approx(seconds)


def test_processor_seconds_are_those_of_threads_and_ended_processes_not_of_waiting() -> None:
    watch = Stopwatch()
    time.sleep(0.3)
    waited = watch.spent()
    assert waited.seconds >= 0.3
    assert waited.processor < 0.2
    while watch.spent().processor < 0.3:
        np.linalg.qr(np.ones((100, 100)))
    before = watch.spent().processor
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-S", "-c", burn], check=True)
    assert watch.spent().processor - before > 0.25


def test_sums_know_processor_seconds_only_where_all_have_them() -> None:
    assert Spent(0.0) + Spent(2.0, 3.0) == Spent(2.0, 3.0)
    assert Spent(1.0) + Spent(2.0, 3.0) == Spent(3.0)
    assert Spent(1.0, 2.0) + Spent(2.0, 3.0) == Spent(3.0, 5.0)
    assert Spent(1.0, 2.0).times(3) == Spent(3.0, 6.0)
