"""The program's start and end: signals at any moment, closed streams, no home, odd places."""

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import studies
import typer
from typer.testing import CliRunner

from cli import app as boundary
from cli.app import app
from cli.signal_messages import INTERRUPTED, TERMINATED, ended
from features.errors import InputError
from features.machine.home import home

ROOT = Path(__file__).parents[2]
SLOW = """
import sys, time
import cli.start as start

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            print("importing", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
sys.argv = ["probe", *{words}]
start.main()
"""


def signalled(script: str, said: str, number: signal.Signals) -> tuple[int, str]:
    """The exit code and stderr of a script that is sent a signal after it has said something."""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as started:  # fmt: skip
        assert started.stdout is not None
        assert started.stdout.readline() == f"{said}\n"
        time.sleep(0.05)
        started.send_signal(number)
        _, errors = started.communicate(timeout=60)
    return started.returncode, errors


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [(signal.SIGINT, 130, INTERRUPTED), (signal.SIGTERM, 4, TERMINATED)],
)
@pytest.mark.parametrize("module", ["typer", "cli.show", "features.study.status"])
def test_a_signal_while_packages_are_imported_ends_in_its_sentence(
    tmp_path: Path, number: signal.Signals, code: int, told: str, module: str
) -> None:
    script = SLOW.format(module=module, words=["status", "--study", str(tmp_path)])
    assert signalled(script, "importing", number) == (code, f"error: {ended(told, 'status')}\n")


HOLDS = {
    "the first thread": """
import ctypes

mutex = ctypes.create_string_buffer(64)  # all zeros: free
lock = ctypes.CDLL(None).pthread_mutex_lock

def hold(_):
    lock(mutex)
    print("holds", flush=True)
    lock(mutex)
""",
    "another thread": """
import time
from concurrent.futures import ThreadPoolExecutor

def hold(_):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(print, "holds", flush=True)
        pool.submit(time.sleep, 60).result()
""",
}
HELD = """
import sys
import cli.start as start
import features.study.study as study
{hold}
study.open_study = hold
sys.argv = ["probe", {command!r}, "--study", "x"]
start.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros is one of Linux")
@pytest.mark.parametrize(
    ("number", "code", "told"),
    [(signal.SIGINT, 130, INTERRUPTED), (signal.SIGTERM, 4, TERMINATED)],
)
@pytest.mark.parametrize("holder", HOLDS)
def test_a_signal_ends_a_program_that_a_long_call_holds(
    number: signal.Signals, code: int, told: str, holder: str
) -> None:
    script = HELD.format(hold=HOLDS[holder], command="status")
    assert signalled(script, "holds", number) == (code, f"error: {ended(told, 'status')}\n")


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros is one of Linux")
@pytest.mark.parametrize("reader", ["gone", "reads no more"])
def test_it_ends_where_nobody_reads_its_sentence(reader: str) -> None:
    there, given = os.pipe()
    if reader == "gone":
        os.close(there)
    else:
        os.set_blocking(given, False)
        with suppress(BlockingIOError):
            while os.write(given, b"." * 4096):
                pass
        os.set_blocking(given, True)
    with subprocess.Popen(
        [sys.executable, "-c", HELD.format(hold=HOLDS["the first thread"], command="status")],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=given, text=True,
    ) as started:  # fmt: skip
        assert started.stdout is not None
        assert started.stdout.readline() == "holds\n"
        started.send_signal(signal.SIGTERM)
        try:
            assert started.wait(timeout=30) == 4
        finally:
            started.kill()
    os.close(given)


def test_the_code_is_told_where_nobody_reads_the_sentence(tmp_path: Path) -> None:
    there, given = os.pipe()
    os.close(there)
    ran = subprocess.run(
        [sys.executable, "-m", "cli", "status", "--study", str(tmp_path / "none")],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=given, check=False,
    )  # fmt: skip
    os.close(given)
    assert ran.returncode == 3


KEEPS = """
import sys, time
from pathlib import Path
import cli.start as start
import features.study.study as study
from features.machine.keeping import keeping

def keep(_):
    try:
        print("works", flush=True)
        time.sleep(60)
    finally:
        with keeping():
            time.sleep(4)
            Path({file!r}).write_text("kept")

study.open_study = keep
sys.argv = ["probe", "status", "--study", "x"]
start.main()
"""


def test_results_that_are_being_written_are_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "results"
    with subprocess.Popen(
        [sys.executable, "-c", KEEPS.format(file=str(file))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as started:  # fmt: skip
        assert started.stdout is not None
        assert started.stdout.readline() == "works\n"
        started.send_signal(signal.SIGTERM)
        _, errors = started.communicate(timeout=60)
    assert (started.returncode, errors) == (4, f"error: {ended(TERMINATED, 'status')}\n")
    assert file.read_text() == "kept"


LEAVES = """
import sys, time
import cli.start as start
import features.study.study as study

class Slow:
    def __del__(self):
        time.sleep(30)

def hold(_):
    sys.slow = Slow()
    print("works", flush=True)
    time.sleep(60)

study.open_study = hold
sys.argv = ["probe", "status", "--study", "x"]
start.main()
"""


def test_a_signal_does_not_wait_for_the_interpreter_to_be_taken_apart() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEAVES],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as started:  # fmt: skip
        assert started.stdout is not None
        assert started.stdout.readline() == "works\n"
        started.send_signal(signal.SIGTERM)
        try:
            _, errors = started.communicate(timeout=20)
        finally:
            started.kill()
    assert (started.returncode, errors) == (4, f"error: {ended(TERMINATED, 'status')}\n")


def test_a_library_that_turns_the_signal_into_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an extension module does whose import is cut short."""

    def cut_short(_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            raise ImportError("numpy could not be imported") from error

    monkeypatch.setattr("features.study.study.open_study", cut_short)
    ran = CliRunner().invoke(app, ["status", "--study", str(tmp_path)])
    said = "error: stopped by SIGTERM; nothing of it is kept, run the same command again.\n"
    assert (ran.exit_code, ran.stderr) == (4, said)
    assert signal.getsignal(signal.SIGTERM) is not boundary._terminate


def test_closed_streams_go_nowhere_and_no_file_takes_their_numbers(tmp_path: Path) -> None:
    study = studies.begin(tmp_path, {"label": [0, 1] * 6})
    studies.add(study, "net", {"fc": studies.signal(study.labels("label"), 4, 2.0)})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    there, none = f"status --verify --study {tmp_path}", f"status --study {tmp_path / 'none'}"
    for closed, commands in (
        (">&-", [there]),
        ("2>&-", [there, none]),
        (">&- 2>&-", [none]),
        ("<&-", [there]),
        ("<&- >&- 2>&-", [there, none]),
    ):
        for words in commands:
            ran = subprocess.run(
                ["sh", "-c", f"{sys.executable} -m cli {words} {closed}"],
                env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            assert ran.returncode == (3 if "none" in words else 0), (closed, ran.stderr)
            assert "Traceback" not in ran.stderr
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (IsADirectoryError(errno.EISDIR, "x", "a/b"), 3, "a/b: Is a directory; see to that"),
        (OSError(errno.EIO, "x"), 3, "Input/output error; see to that"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 3, "a: Permission denied; check"),
        (OSError(errno.ENOSPC, "x"), 4, "the disk is full; make room"),
    ],
)
def test_what_the_machine_says_of_files_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, error: OSError, code: int, told: str
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("features.study.study.open_study", fail)
    ran = CliRunner().invoke(app, ["status"])
    assert ran.exit_code == code
    assert ran.stderr.startswith(f"error: {told}")
    assert len(ran.stderr.splitlines()) == 1


def test_a_bug_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("features.study.study.open_study", fail)
    ran = CliRunner().invoke(app, ["status"])
    assert isinstance(ran.exception, KeyError)
    assert not isinstance(ran.exception, typer.Exit)


def test_without_a_home_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROBE_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    # A user of a container whom /etc/passwd does not list.
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no such user"])
    with pytest.raises(InputError, match="PROBE_HOME"):
        home()
