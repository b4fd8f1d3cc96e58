"""A separate process for formats that only a C library can parse, since a damaged file can crash it.

The child has limits on memory, time and output, loads no plugins, and returns arrays through a
safetensors file, so that anything that goes wrong in it becomes one error message here.
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
"""The time limit is this many times the seconds of computing: a busy machine takes longer."""
FULL = 28
"""The exit status of a child for which the disk was full."""


class LayerArray(NamedTuple):
    """One array of a layer, and which part of the layer it is, such as its kernel."""

    layer: str
    part: str
    array: npt.NDArray[Any]


def run(kind: str, path: Path) -> list[LayerArray]:
    """Parse `path` in a separate process.

    Raises:
        InputError: The file is damaged, or parsing it crashed or exceeded a limit.
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
                env={**os.environ, **_environment(folder)},
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
            names = json.loads(file.metadata()["parts"])
            return [
                LayerArray(layer, part, file.get_tensor(str(number)))
                for number, (layer, part) in enumerate(names)
            ]


def _environment(folder: str) -> dict[str, str]:
    """Variables for the child: one thread, and no HDF5 plugins, since a file could name any filter."""
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
