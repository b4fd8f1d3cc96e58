"""Every file of a study damaged in every way, against every command: a sentence, and nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="every case runs in a child that is forked")
@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "every", [397, pytest.param(1, marks=pytest.mark.slow, id="every case, an hour long")]
)
def test_no_damage_ends_in_a_traceback_or_a_hang(tmp_path: Path, every: int) -> None:
    ran = subprocess.run(
        [sys.executable, TESTS / "fuzz.py", tmp_path, "--every", str(every)],
        env={
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS.parent),
            "PROBE_HOME": str(tmp_path / "home"),
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    *faults, last = map(json.loads, ran.stdout.splitlines())
    assert not faults, "\n".join(f"{one['case']}: {one['fault']}" for one in faults)
    assert last["cases"] > 10_000 // every
    assert last["commands"] >= (25 if every == 1 else 20)
