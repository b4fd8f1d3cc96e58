"""What `.ci/run` asks of the machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

RUN = Path(__file__).resolve().parents[1] / ".ci" / "run"


def test_chromium_is_installed_once(tmp_path: Path) -> None:
    """Where there is none, by root; with commands that only note what they were asked."""
    for name in ("bash", "dirname", "mktemp", "rm", "sed", "true"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    for name, does in (
        ("id", "echo 0"),
        ("apt-get", f'echo "$@" >> {tmp_path}/asked'),
        ("pip", "exit 1"),  # which ends the run
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    subprocess.run(
        [tmp_path / "bash", RUN], env={"PATH": str(tmp_path), "PYTHON": "true"}, check=False,
        capture_output=True,
    )  # fmt: skip
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["update", "install"]
