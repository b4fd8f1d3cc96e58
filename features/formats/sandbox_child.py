"""The process that parses a foreign file: started by sandbox.py, it never imports PyTorch."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from pathlib import Path

import numpy as np

from features.formats.blobs import because
from features.formats.sandbox import FULL, LayerArray
from features.machine.files import is_full


def main() -> None:
    """Parse a file as the command line says: KIND SOURCE TARGET MEMORY SECONDS."""
    kind, source, target, memory, seconds = sys.argv[1:]
    limit(int(memory), int(seconds))
    try:
        _save(parse(kind, Path(source)), Path(target))
    except BaseException as error:
        if is_full(error):
            os._exit(FULL)
        Path(target).with_name("reason").write_text(because(error), encoding="utf-8")
        os._exit(1)


def limit(memory: int, seconds: int) -> None:
    """Limit this process: bytes of memory and of output, seconds of computing, no core file."""
    for resource_kind, bound in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, memory),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(resource_kind, (bound, bound))
        except (OSError, ValueError):  # not every system has every limit
            continue


def parse(kind: str, path: Path) -> list[LayerArray]:
    """The arrays of `path`, parsed by the module of its format."""
    parts: list[LayerArray] = importlib.import_module(f"features.formats.{kind}").parse(path)
    return parts


def _save(parts: list[LayerArray], target: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {
        str(number): np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        for number, (_, _, array) in enumerate(parts)
    }
    names = [(layer, part) for layer, part, _ in parts]
    # Renamed when complete, so that a child killed while writing leaves nothing to read.
    written = target.with_suffix(".part")
    save_file(arrays, written, metadata={"parts": json.dumps(names)})
    written.rename(target)
