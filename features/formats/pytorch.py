"""PyTorch's own files (`.pth`, `.pt`, `.ckpt`): pickles, of which only the tensors are read."""

from __future__ import annotations

import mmap
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from features.errors import InputError
from features.formats.blobs import Blobs, because, of
from features.formats.checkpoint import content_of
from features.formats.safe_pickle import Pairs, Refused, Thing
from features.formats.signatures import members
from features.machine.regular_files import open_regular


def recognise(path: Path, head: bytes, _size: int) -> bool:
    """Whether a file is a pickle, or a zip file with one."""
    pickled = any(name.endswith("data.pkl") for name in members(path, head))
    return pickled or head.startswith(b"\x80")


def read(path: Path) -> Blobs:
    """Every named tensor in a checkpoint, at any depth; nothing in it is ever executed.

    A tensor at `{"ema": {"model": {"fc.bias": ...}}}` is called `ema.model.fc.bias`.

    Raises:
        InputError: The file is damaged, or holds more than plain tensors.
    """
    try:
        _refuse_bombs(path)
        tensors, groups = named(*_content(path))
    except InputError:
        raise
    except Exception as error:  # many kinds, which all mean that the file cannot be used
        asks = isinstance(error, Refused)
        why = f"{error}, and nothing in a file is run" if asks else because(error)
        raise InputError(
            f"{path}: not a PyTorch file of plain tensors ({why}); save its state_dict() alone where "
            f"it can be loaded: import torch; net = {_loader(path)}; torch.save(net.state_dict(), "
            '"tensors.pth").'
        ) from error
    return of("pytorch", path, tensors, groups=groups)


def _content(path: Path) -> tuple[Any, Callable[[Any], Tensor | None]]:
    """The object in a file, and a function that gives the tensor of a value inside it.

    The rare kinds of tensors that are not rebuilt here are read by PyTorch's own reader; it runs no code
    either, but copies repeatedly what a file names repeatedly.
    """
    try:
        return content_of(path)
    except Refused as reason:
        if _is_script(path) or not re.search(r"calls torch\.|storage", str(reason)):
            raise
        try:
            return torch.load(path, map_location="cpu", weights_only=True), _itself
        except Exception:  # torch raises many kinds; `reason` says more
            raise reason from None


def _loader(path: Path) -> str:
    """The call that loads the file, with its code, on the machine where it was made."""
    if _is_script(path):
        return f"torch.jit.load({path.name!r})"
    return f"torch.load({path.name!r}, weights_only=False)"


def _is_script(path: Path) -> bool:
    """Whether a file is an archive of TorchScript."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("constants.pkl") for name in archive.namelist())
    except Exception:  # no zip, or a damaged one
        return False


def _itself(value: Any) -> Tensor | None:
    return value if isinstance(value, Tensor) else None


def named(
    content: object, tensor: Callable[[Any], Tensor | None]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors in nested mappings, which may refer to themselves, and the mappings that hold any.

    Args:
        content: A mapping, or a stand-in for a module.
        tensor: Gives the tensor of a value, or None.
    """
    tensors: dict[str, Tensor] = {}
    groups: list[str] = []
    seen: set[int] = set()

    def collect(value: object, place: str, of_thing: bool = False) -> None:
        if id(value) in seen or not isinstance(value, Thing | Pairs | Mapping):
            return
        seen.add(id(value))
        if isinstance(value, Thing):
            for mapping in value.mappings():
                collect(mapping, place, of_thing=True)
            return
        direct = False
        for key, item in value.pairs if isinstance(value, Pairs) else value.items():
            read = tensor(item)
            if read is not None:
                tensors.setdefault(f"{place}{key}", read)
                direct = True
            else:
                collect(item, f"{place}{key}.")
        if place and direct and not of_thing:
            groups.append(place.removesuffix("."))

    collect(content, "")
    return tensors, tuple(groups)


def _refuse_bombs(path: Path) -> None:
    """Refuse a pickle that asks for byte arrays, which may have any size, or may hide it by compression."""
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"bytearray") >= 0:
            raise InputError(
                f"{path}: not a PyTorch file of plain tensors (it asks for a byte array); save its "
                "state_dict() alone, or convert it to safetensors."
            )
        size, zipped = len(data), data[:2] == b"PK"
    if zipped:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
        packed = [record for record in records if record.compress_type]
        # TorchScript compresses the text of its code, which is never read here
        if not all("/code/" in record.filename for record in packed) or (
            sum(record.compress_size for record in records) > size
        ):
            raise InputError(
                f"{path}: its records are compressed or overlap, as PyTorch writes none; fetch a "
                "intact file, or convert it to safetensors."
            )
