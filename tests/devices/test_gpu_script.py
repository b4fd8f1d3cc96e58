"""The call that measures an accelerator, tried on the simulated one."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "bench" / "gpu.sh"


def call(out: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OUT": str(out)}
    return subprocess.run(
        ["bash", str(SCRIPT), *words], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_every_section_of_the_script_runs_on_the_simulated_device(tmp_path: Path) -> None:
    done = call(tmp_path, "--device", "simulated", "--tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["device"] == "simulated device 0"
    states = {name: section["state"] for name, section in report["sections"].items()}
    assert set(states.values()) == {"measured"}, states
    (tests,) = report["sections"]["device tests"]["rows"]
    assert (tests["passed"] > 0, tests["failed"]) == (True, 0)
    for row in report["sections"]["probes, one layer"]["rows"]:
        assert row.get("scores differ by at most", 0) == 0
    assert "a trial of the script" in (tmp_path / "gpu.md").read_text()


@pytest.mark.slow
def test_what_is_not_reached_says_so(tmp_path: Path) -> None:
    assert call(tmp_path, "--device", "simulated", "--tiny", "--seconds", "0").returncode == 0
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert {section["state"] for section in report["sections"].values()} == {"not reached"}
    assert call(tmp_path, "--device", "xpu").returncode == 2


def test_what_is_missing_is_one_sentence(tmp_path: Path) -> None:
    """A Python that has another filelock first, and no tomlkit at all."""
    for name, version in (("filelock", "3.16.1"), ("rich", "14.0")):
        (tmp_path / f"{name}-{version}.dist-info").mkdir()
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (tmp_path / f"{name}-{version}.dist-info" / "METADATA").write_text(about)
    done = subprocess.run(
        [sys.executable, "-S", str(SCRIPT.with_name("gpu.py"))],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "has no tomlkit, has filelock 3.16.1, older than 4.3; install or bring" in line


def test_a_checkout_that_is_not_installed_has_its_version(tmp_path: Path) -> None:
    """Feature files record it."""
    python = tmp_path / "python"  # without packages, and it answers with the version alone
    asked = 'from importlib.metadata import version; print(version("transfer-probe"))'
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -S "$@"\n'
        f"exec {sys.executable} -S -c '{asked}'\n"
    )
    python.chmod(0o755)
    environment = {
        **os.environ, "PYTHON": str(python), "PYTHONPATH": "", "PROBE_HOME": str(tmp_path / "home"),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )
    wanted = tomllib.loads((SCRIPT.parents[2] / "pyproject.toml").read_text())["project"]["version"]
    assert (done.stdout.strip(), done.returncode) == (wanted, 0), done.stderr
