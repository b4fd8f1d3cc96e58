"""What extraction leaves behind in the process that it ran in."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import ctypes, resource
import torch
from features.machine.device import reusing_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        block = libc.malloc(1 << 20)
        ctypes.memset(ctypes.c_void_p(block), 1, 1 << 20)
        libc.free(block)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 50

faults()
counted = [faults()]
with reusing_memory({largest}):
    faults()
    counted.append(faults())
faults()
print(*counted, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
@pytest.mark.parametrize("largest", [8 << 20, 64 << 20])
def test_blocks_are_as_cheap_after_extraction_as_before(largest: int) -> None:
    """Pages of a 1 MiB block that the system clears anew: none of its 256, before, inside and after."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT.replace("{largest}", str(largest))],
        capture_output=True,
        text=True,
        check=True,
    )
    before, inside, after = map(float, done.stdout.split())
    assert max(before, inside, after) < 10, done.stdout
