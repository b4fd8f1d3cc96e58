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
    """Every named tensor in a checkpoint, however deep; nothing in it is ever executed.

    A tensor at `{"ema": {"model": {"fc.bias": ...}}}` is called `ema.model.fc.bias`.

    Raises:
        InputError: The file is damaged, or holds more than plain tensors.
    """
    try:
        _refuse_bombs(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        tensors, groups = named(content)
    except InputError:
        raise
    except Exception as error:  # torch raises many kinds; all mean that the file is unusable
        raise InputError(
            f"{path}: not a PyTorch file of plain tensors ({because(error)}); save its "
            "state_dict() alone, or convert it to safetensors."
        ) from error
    return of("pytorch", path, tensors, groups=groups)


def named(content: object) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors in nested mappings, which may refer to themselves, and the mappings that hold any."""
    tensors: dict[str, Tensor] = {}
    groups: list[str] = []
    _collect(content, "", tensors, groups, set())
    return tensors, tuple(groups)


def _collect(
    content: object, place: str, tensors: dict[str, Tensor], groups: list[str], seen: set[int]
) -> None:
    if not isinstance(content, Mapping) or id(content) in seen:
        return
    seen.add(id(content))
    for key, value in content.items():
        if isinstance(value, Tensor):
            tensors.setdefault(f"{place}{key}", value)
        else:
            _collect(value, f"{place}{key}.", tensors, groups, seen)
    if place and any(isinstance(value, Tensor) for value in content.values()):
        groups.append(place.removesuffix("."))


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
