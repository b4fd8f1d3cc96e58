"""Every command that writes, on a disk that is full from any write on, and killed at any operation."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
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
EXPORT = ["export", "tiny/best/ridge", *STUDY, "--task", "label", "--device", "cpu"]
CARD = ["--backbone", "{card}"]
RUN = """data = "{images}"
[[extract]]
backbone = "{card}"
layer = "conv"
pool = "avg"
batch-size = 4
[[fit]]
probe = "ridge"
C = "1"
folds = 2
[report]
"""
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
    "finetune, kept prefix": ([BEGUN_TINY], [*TUNED, "--freeze-through", "pool", "--no-augment"]),
    "export": ([BEGUN_TINY, FITTED], EXPORT),
    "export --with-weights": ([BEGUN_TINY, FITTED, EXPORT], [*EXPORT, "--with-weights", *CARD]),
    "predict --out": (
        [BEGUN_TINY, FITTED, EXPORT],
        [
            "predict",
            "{study}/label.probe",
            "{images}",
            "--out",
            "{study}/new.csv",
            *CARD,
            "--device",
            "cpu",
        ],
    ),
    "run": ([], ["run", "{run}", *STUDY]),
    "data check, noted": ([], ["data", "check", "--data", "{images}", *STUDY]),
    "fit, a number": ([BEGUN_TINY], [*FITTED, "--task", "size:number"]),
    "weights add": ([], WEIGHTS),
    "weights remove": ([WEIGHTS], ["weights", "remove", "tiny"]),
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

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


def tried(
    folder: Path, shim: Path, names: Iterable[str], faults: Sequence[object], tries: int | None
) -> list[dict[str, Any]]:
    """What became of the commands at their operations."""
    file = folder / "features.npz"
    x = np.random.default_rng(0).normal(size=(40, 6))
    np.savez(file, features=x, label=np.arange(40) % 2)
    known = {
        "{file}": file,
        "{card}": write_card(folder / "cards"),
        "{weights}": folder / "cards" / "tiny.safetensors",
        "{images}": write_images(folder / "images", 12, twice={9: 2}),
        "{run}": folder / "run.toml",
    }
    lines = known["{images}"].read_text().splitlines()
    size = ["size", *(str(i / 8) for i in range(12))]
    known["{images}"].write_text("".join(map("{},{}\n".format, lines, size)))
    shutil.copyfile(known["{images}"], known["{images}"].with_suffix(".all"))
    plan = [
        {"name": name, "before": COMMANDS[name][0], "command": COMMANDS[name][1]}
        | {"faults": list(faults), "tries": tries}
        for name in names
    ]
    text, run = json.dumps(plan), RUN
    for word, path in known.items():
        text, run = text.replace(word, str(path)), run.replace(word, str(path))
    known["{run}"].write_text(run)
    studies = folder / "studies"
    studies.mkdir()
    ran = subprocess.run(
        [sys.executable, TESTS / "diskfaults.py", shim, text, studies],
        env={
            **os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(TESTS.parent), "PROBE_TRUST": "1",
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {line["name"] for line in told if "points" in line} == {each["name"] for each in plan}
    return [line for line in told if "at" in line]


def check_again(one: dict[str, Any]) -> None:
    """Run again, the command ends as if nothing had happened; what was all done may be refused."""
    assert not one["differ"], one
    assert one["again"] in (0, 3), one


def check_full(one: dict[str, Any]) -> None:
    """It ended in the sentence of its fault, and left nothing behind."""
    error = int(one["fault"])
    why = why_full(OSError(error, os.strerror(error)))
    assert one["code"] == 4, one
    last = one["said"].splitlines()[-1]
    assert last == f"error: {why}; make room and run the same command again to go on.", one
    assert not one["left"], one
    assert one["again"] == 0, one
    check_again(one)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in COMMANDS])
def test_a_disk_that_runs_full_at_any_write_loses_nothing(
    tmp_path: Path, shim: Path, name: str
) -> None:
    for one in tried(tmp_path, shim, [name], FULL, None):
        check_full(one)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in COMMANDS])
def test_killed_at_any_operation_the_next_run_makes_the_same_study(
    tmp_path: Path, shim: Path, name: str
) -> None:
    for one in tried(tmp_path, shim, [name], ["kill"], None):
        assert one["code"] == -9, one
        check_again(one)


def test_a_fault_of_the_disk_in_some_commands(tmp_path: Path, shim: Path) -> None:
    """A sample of the two above."""
    sample = ("fit --redo", "remove", "extract --update", "weights add", "export")
    for one in tried(tmp_path, shim, sample, [errno.EDQUOT, "kill"], 2):
        if one["fault"] == "kill":
            assert one["code"] == -9, one
            check_again(one)
        else:
            check_full(one)


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
