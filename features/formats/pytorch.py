"""PyTorch's own files (`.pth`, `.pt`, `.ckpt`): pickles, of which nothing but tensors is taken."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from features.errors import InputError
from features.formats.blobs import Blobs, because, of


def read(path: Path) -> Blobs:
    """The largest group of named tensors in a checkpoint; nothing in it is ever executed.

    Raises:
        InputError: The file is damaged, or holds more than plain tensors.
    """
    try:
        _refuse_bombs(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = _state_dict(content, set())
    except InputError:
        raise
    except Exception as error:  # torch raises many kinds; all mean that the file is unusable
        raise InputError(
            f"{path}: not a PyTorch file of plain tensors ({because(error)}); save its "
            "state_dict() alone, or convert it to safetensors."
        ) from error
    return of("pytorch", path, unwrapped(found))


def unwrapped(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The same tensors without the prefix that DataParallel puts before every name."""
    if tensors and all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _state_dict(content: object, seen: set[int]) -> Mapping[str, Tensor]:
    """The largest group of tensors among nested mappings, which may refer to themselves."""
    if not isinstance(content, Mapping) or id(content) in seen:
        return {}
    seen.add(id(content))
    best: Mapping[str, Tensor] = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    for value in content.values():
        inner = _state_dict(value, seen)
        best = inner if len(inner) > len(best) else best
    return best


def _refuse_bombs(path: Path) -> None:
    """A pickle may ask for byte arrays of any size, and hide it in a compressed record."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"bytearray") >= 0:
            raise InputError(
                f"{path}: not a PyTorch file of plain tensors (it asks for a byte array); save its "
                "state_dict() alone, or convert it to safetensors."
            )
        size, zipped = len(data), data[:2] == b"PK"
    if zipped:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
        if any(one.compress_type for one in records) or sum(r.file_size for r in records) > size:
            raise InputError(
                f"{path}: its records are compressed or overlap, as PyTorch writes none; fetch a "
                "sound file, or convert it to safetensors."
            )
