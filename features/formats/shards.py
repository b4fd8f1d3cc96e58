"""Weights in several files: a folder, or an index of which tensor is in which file."""

from __future__ import annotations

import json
import re
from pathlib import Path

from features.errors import InputError
from features.machine.regular_files import read_regular

_MOST = 64 << 20
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin", "pytorch_model.safetensors", "model.bin")
_DEEPSPEED = re.compile(r"(optim|model)_states\.pt$|^zero_to_fp32\.py$|^global_step\d+$")
_NUMBERED = re.compile(r"(.*)-(\d+)-of-(\d+)\.(safetensors|bin|pt|pth)")


def files_of(path: Path) -> list[Path] | None:
    """The files that hold the weights, in order; None where `path` is itself a file of weights.

    Raises:
        InputError: A file is missing, or the folder holds weights that must be gathered first.
    """
    if path.is_dir():
        return _of_folder(path)
    if not path.name.endswith(".json"):
        return None
    return _of_index(path)


def _of_folder(folder: Path) -> list[Path]:
    names = {entry.name for entry in folder.iterdir()}
    if ".metadata" in names and any(name.endswith(".distcp") for name in names):
        raise InputError(
            f"{folder}: a distributed checkpoint (FSDP); gather it first: python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pth"
            " writes one file."
        )
    indices = [name for name in _INDICES if name in names]
    indices += sorted(n for n in names if n.endswith(".index.json") and n not in indices)
    if indices:
        return _of_index(folder / indices[0])
    single = [name for name in _SINGLE if name in names]
    if single:
        return [folder / single[0]]
    if any(_DEEPSPEED.search(name) for name in names):
        # the script wants the folder that holds those of the steps
        whole = folder.parent if folder.name.startswith("global_step") else folder
        raise InputError(
            f"{folder}: a DeepSpeed checkpoint in parts; gather it first: python {whole}/zero_to_fp32.py "
            f"{whole} weights.bin writes one file."
        )
    if "saved_model.pb" in names:
        raise InputError(
            f"{folder}: a TensorFlow SavedModel; convert it to safetensors, or save its arrays with "
            "numpy.savez."
        )
    numbered = sorted(name for name in names if _NUMBERED.fullmatch(name))
    if numbered:
        return [folder / name for name in _complete(folder, numbered)]
    alone = sorted(name for name in names if name.endswith(".safetensors"))
    if len(alone) == 1:
        return [folder / alone[0]]
    listed = f" ({', '.join(alone[:3])}{', ...' if len(alone) > 3 else ''})" if alone else ""
    raise InputError(
        f"{folder}: a folder with {len(alone) or 'no'} safetensors files{listed} and no index; give the "
        "file of weights itself."
    )


def _complete(folder: Path, names: list[str]) -> list[str]:
    parts = [_NUMBERED.fullmatch(name) for name in names]
    (start, _, count, end), *_ = [part.groups() for part in parts if part]
    alike = [
        part[0] for part in parts if part and (part[1], part[3], part[4]) == (start, count, end)
    ]
    if len(alike) != int(count) or len(alike) != len(names):
        raise InputError(
            f"{folder}: has {len(names)} files of weights, {names[0]} among them, and they are not the "
            f"{int(count)} that belong together; give one file, or the index.json of the sharded one."
        )
    return alike


def _of_index(path: Path) -> list[Path]:
    names: dict[str, None] = {}
    try:
        if path.stat().st_size > _MOST:
            raise ValueError("it is too large")
        weight_map = json.loads(read_regular(path).decode("utf-8"))["weight_map"]
        names = dict.fromkeys(str(name) for name in weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise InputError(
            f"{path}: not the index of a sharded file of weights (no weight_map in it); give the "
            "index.json that belongs to them, or the weights themselves."
        ) from error
    for name in names:
        if Path(name).name != name or name in ("", ".", ".."):
            raise InputError(
                f"{path}: names the file {name[:80]!r}, which is not beside it; fetch an intact one."
            )
        if not (path.parent / name).is_file():
            raise InputError(
                f"{path}: names the file {name}, which is not beside it; put all "
                f"{len(names)} files of the weights there."
            )
    if not names:
        raise InputError(f"{path}: names no files of weights; fetch it again.")
    return [path.parent / name for name in names]
