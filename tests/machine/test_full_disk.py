"""Every command that writes, on a disk that is full from any of its writes on."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from features.machine.files import why_full

TESTS = Path(__file__).parents[1]
BEGUN = ["import", "{file}", "--study", "{study}", "--name", "net", "--layer", "fc"]
FITTED = ["fit", "--study", "{study}", "--probe", "ridge", "--C", "1"]
PIXELS = ["extract", "--study", "{study}", "--backbone", "control:pixels"]
COMMANDS = {
    "fit": ([BEGUN], FITTED),
    "import": ([BEGUN], [*BEGUN[:-3], "net", "--layer", "fc7"]),
    "remove": ([BEGUN, FITTED], ["remove", "net", "--study", "{study}"]),
    "report": ([BEGUN, FITTED], ["report", "--study", "{study}"]),
    "extract": ([[*PIXELS, "--data", "sample", "--limit", "12"]], [*PIXELS, "--limit", "20"]),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the shim reads /proc")
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize(
    ("name", "error", "step"),
    [
        ("fit", errno.EDQUOT, 1),
        *(
            pytest.param(name, error, 1, marks=pytest.mark.slow)
            for name in COMMANDS
            for error in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        ),
    ],
)
def test_a_disk_that_runs_full_ends_every_command_in_a_sentence_and_loses_nothing(
    tmp_path: Path, name: str, error: int, step: int
) -> None:
    shim, file = tmp_path / "shim.so", tmp_path / "features.npz"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, TESTS / "fulldisk.c", "-ldl"], check=True)
    x = np.random.default_rng(0).normal(size=(40, 6))
    np.savez(file, features=x, label=np.arange(40) % 2)
    before, command = COMMANDS[name]
    setup = json.dumps({"before": before, "command": command}).replace("{file}", str(file))
    folder = tmp_path / "studies"
    folder.mkdir()
    ran = subprocess.run(
        [sys.executable, TESTS / "fulldisk.py", shim, setup, folder, str(error), str(step)],
        env={
            **os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(TESTS.parent), "PROBE_HOME": str(tmp_path / "home"),
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    tried = [json.loads(line) for line in ran.stdout.splitlines()]
    assert tried, ran.stderr
    assert tried[-1]["code"] == 0
    full = OSError(error, os.strerror(error))
    for one in tried[:-1]:
        assert one["code"] == 4, (one["at"], one["said"])
        last = one["said"].splitlines()[-1]
        assert (
            last == f"error: {why_full(full)}; make room and run the same command again to go on."
        )
        assert one["again"] == 0, (one["at"], one["then"])
        assert not one["left"], (one["at"], one["left"])
    assert len(tried) > 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "x"), "the disk is full"),
        (OSError(errno.EDQUOT, "x"), "the disk quota is used up"),
        (RuntimeError("Can't decrement id ref count (errno = 28, message = 'no')"), "the disk is full"),
        (ValueError("I/O error: File too large (os error 27)"), "a file would become larger"),
        (OSError(errno.EIO, "x"), None),
        (RuntimeError("errno = 5"), None),
    ],
)  # fmt: skip
def test_what_tells_of_no_room(error: Exception, told: str | None) -> None:
    why = why_full(error)
    assert why is None if told is None else str(why).startswith(told)
    wrapped = RuntimeError("closing")
    wrapped.__context__ = error
    assert why_full(wrapped) == why
