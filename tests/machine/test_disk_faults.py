"""Every command that writes, on a disk that is full from any write on, and killed at any operation."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import write_card, write_images

from features.machine.files import why_full

TESTS = Path(__file__).parents[1]
STUDY = ["--study", "{study}"]
BEGUN = ["import", "{file}", *STUDY, "--name", "net", "--layer", "fc"]
FITTED = ["fit", *STUDY, "--probe", "ridge", "--C", "1", "--folds", "2"]
PIXELS = ["extract", *STUDY, "--backbone", "control:pixels"]
TINY = [
    "extract",
    *STUDY,
    "--backbone",
    "{card}",
    "--layer",
    "conv",
    "--pool",
    "avg",
    "--device",
    "cpu",
]
TINY += ["--batch-size", "4"]
BEGUN_TINY = [*TINY, "--data", "{images}"]
TUNED = ["finetune", *STUDY, "--backbone", "{card}", "--epochs", "1", "--patience", "0", "--view"]
TUNED += ["center", "--folds", "2", "--device", "cpu", "--threads", "1"]
WEIGHTS = ["weights", "add", "{card}", "{weights}"]
COMMANDS: dict[str, tuple[list[list[str]], list[str]]] = {
    "import": ([BEGUN], [*BEGUN[:-1], "fc7"]),
    "import, begun": ([], BEGUN),
    "fit": ([BEGUN], FITTED),
    "fit --redo": ([BEGUN, FITTED], [*FITTED, "--redo"]),
    "remove": ([BEGUN, FITTED], ["remove", "net", *STUDY]),
    "rank": ([BEGUN], ["rank", *STUDY]),
    "report": ([BEGUN, FITTED], ["report", *STUDY]),
    "extract": ([], BEGUN_TINY),
    "extract, more rows": (
        [[*PIXELS, "--data", "{images}", "--limit", "6"]],
        [*PIXELS, "--limit", "10"],
    ),
    "extract, more layers": ([BEGUN_TINY], [*TINY, "--layer", "fc"]),
    "extract --compress": ([], [*BEGUN_TINY, "--compress", "gzip"]),
    "extract --update": (
        [["rows", "{images}", "9"], BEGUN_TINY, ["rows", "{images}", "12"]],
        [*TINY, "--update"],
    ),
    "data check": ([BEGUN_TINY], ["data", "check", *STUDY]),
    "data check --drop-duplicates": ([BEGUN_TINY], ["data", "check", *STUDY, "--drop-duplicates"]),
    "finetune": ([BEGUN_TINY], TUNED),
    "finetune --save": (
        [BEGUN_TINY],
        [*TUNED, "--save", "--freeze-through", "conv", "--no-augment"],
    ),
    "weights add": ([], WEIGHTS),
    "weights remove": ([WEIGHTS], ["weights", "remove", "tiny"]),
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SAMPLE = {
    "fit": (errno.EDQUOT, 3),
    "finetune --save": (errno.ENOSPC, 17),
    "weights add": (errno.EFBIG, 2),
}
KILLED = {"fit --redo": 9, "remove": 7, "extract --update": 17}

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the shim reads /proc"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
    pytest.mark.timeout(0),
]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", made, TESTS / "diskfaults.c", "-ldl"], check=True
    )
    return made


def tried(folder: Path, shim: Path, name: str, fault: str, step: int) -> list[dict[str, Any]]:
    """What became of the command at every operation, the last of which met no fault."""
    file = folder / "features.npz"
    x = np.random.default_rng(0).normal(size=(40, 6))
    np.savez(file, features=x, label=np.arange(40) % 2)
    known = {
        "{file}": file,
        "{card}": write_card(folder / "cards"),
        "{weights}": folder / "cards" / "tiny.safetensors",
        "{images}": write_images(folder / "images", 12, twice={9: 2}),
    }
    shutil.copyfile(known["{images}"], known["{images}"].with_suffix(".all"))
    before, command = COMMANDS[name]
    text = json.dumps({
        "before": before, "command": command, "environment": {"PROBE_HOME": "{study}/home"},
    })  # fmt: skip
    for word, path in known.items():
        text = text.replace(word, str(path))
    studies = folder / "studies"
    studies.mkdir()
    ran = subprocess.run(
        [sys.executable, TESTS / "diskfaults.py", shim, text, studies, fault, str(step)],
        env={
            **os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(TESTS.parent), "PROBE_TRUST": "1",
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert lines, ran.stderr
    assert lines[-1]["code"] == 0, lines[-1]
    assert len(lines) > 1
    return lines


def check_again(one: dict[str, Any]) -> None:
    """Run again, the command ends as if nothing had happened; what was all done may be refused."""
    assert not one["differ"], (one["at"], one["said"], one["differ"], one["then"])
    assert one["again"] in (0, 3), (one["at"], one["then"])


@pytest.mark.parametrize(
    ("name", "error", "step"),
    [
        *((name, error, step) for name, (error, step) in SAMPLE.items()),
        *(
            pytest.param(name, error, 1, marks=pytest.mark.slow)
            for name in COMMANDS
            for error in FULL
        ),
    ],
)
def test_a_disk_that_runs_full_ends_every_command_in_a_sentence_and_loses_nothing(
    tmp_path: Path, shim: Path, name: str, error: int, step: int
) -> None:
    why = why_full(OSError(error, os.strerror(error)))
    for one in tried(tmp_path, shim, name, str(error), step)[:-1]:
        assert one["code"] == 4, (one["at"], one["said"])
        last = one["said"].splitlines()[-1]
        assert last == f"error: {why}; make room and run the same command again to go on."
        assert not one["left"], (one["at"], one["left"])
        assert one["again"] == 0, (one["at"], one["then"])
        check_again(one)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        *KILLED.items(),
        *(pytest.param(name, 1, marks=pytest.mark.slow) for name in COMMANDS),
    ],
)
def test_killed_at_any_operation_the_next_run_makes_the_same_study(
    tmp_path: Path, shim: Path, name: str, step: int
) -> None:
    for one in tried(tmp_path, shim, name, "kill", step)[:-1]:
        assert one["code"] == -9, (one["at"], one["said"])
        check_again(one)


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
