"""A process of its own for what only a C library can parse, since a damaged file can crash it.

The child has limits on memory, time and output, loads no plugins, and hands arrays back through a
safetensors file, so that whatever goes wrong in it ends in one sentence here.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from features.errors import InputError

_ROOT = Path(__file__).parents[2]
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from features.formats.sandbox_child import main; main()"
)
_MEMORY = 3 << 30
_SECONDS = 10
_PATIENCE = 4
"""Times the seconds of computing: a busy machine takes longer."""


FULL = 28
"""How a child ends that found the disk full."""


class Part(NamedTuple):
    """One array of a layer, such as its kernel."""

    layer: str
    part: str
    array: npt.NDArray[Any]


def run(kind: str, path: Path) -> list[Part]:
    """Parse `path` in a process of its own.

    Raises:
        InputError: The file is damaged, or parsing it crashed or took too much.
        OSError: The disk is full.
    """
    from safetensors import safe_open

    megabytes = path.stat().st_size >> 20
    memory, seconds = _MEMORY + (megabytes << 20) * 6, _SECONDS + megabytes // 20
    with tempfile.TemporaryDirectory(prefix="probe-") as folder:
        target = Path(folder) / "parts.safetensors"
        arguments = [str(_ROOT), kind, str(path.resolve()), str(target), str(memory), str(seconds)]
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", _BOOT, *arguments],
                cwd=folder,
                env={**os.environ, **_quiet(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_PATIENCE * seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(
                f"{path}: reading it took too long; it is damaged, fetch it again."
            ) from error
        if done.returncode == FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
        if done.returncode or not target.is_file():
            raise InputError(
                f"{path}: a damaged {kind} file ({_reason(Path(folder))}); fetch it again."
            )
        with safe_open(target, "np") as file:
            listed = json.loads(file.metadata()["parts"])
            return [
                Part(layer, part, file.get_tensor(str(number)))
                for number, (layer, part) in enumerate(listed)
            ]


def _quiet(folder: str) -> dict[str, str]:
    """The environment of the child: one thread, and no HDF5 plugins, as a file could name any filter."""
    return {
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "HDF5_PLUGIN_PRELOAD": "::",
        "HDF5_PLUGIN_PATH": folder,
    }


def _reason(folder: Path) -> str:
    try:
        return (folder / "reason").read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return "parsing it crashed"
