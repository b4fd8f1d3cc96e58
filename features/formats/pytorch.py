"""PyTorch's own files (`.pth`, `.pt`, `.ckpt`): pickles, of which nothing but tensors is taken."""

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


def recognise(path: Path, head: bytes, _size: int) -> bool:
    """Whether a file is a pickle, or a zip file with one."""
    pickled = any(name.endswith("data.pkl") for name in members(path, head))
    return pickled or head.startswith(b"\x80")


def read(path: Path) -> Blobs:
    """Every named tensor in a checkpoint, however deep; nothing in it is ever executed.

    A tensor at `{"ema": {"model": {"fc.bias": ...}}}` is called `ema.model.fc.bias`.

    Raises:
        InputError: The file is damaged, or holds more than plain tensors.
    """
    try:
        _refuse_bombs(path)
        tensors, groups = named(*_content(path))
    except InputError:
        raise
    except Exception as error:  # of many kinds; all mean that the file is unusable
        asks = isinstance(error, Refused)
        why = f"{error}, and nothing in a file is run" if asks else because(error)
        raise InputError(
            f"{path}: not a PyTorch file of plain tensors ({why}); save its state_dict() alone where "
            f"it can be loaded: import torch; net = {_loader(path)}; torch.save(net.state_dict(), "
            '"tensors.pth").'
        ) from error
    return of("pytorch", path, tensors, groups=groups)


def _content(path: Path) -> tuple[Any, Callable[[Any], Tensor | None]]:
    """What a file holds, and what gives the tensors of it.

    PyTorch's own reader, which runs no code either but copies what a file names again and again, reads
    the rare kinds of tensors that are not rebuilt here.
    """
    try:
        return content_of(path)
    except Refused as reason:
        if _is_script(path) or not re.search(r"calls torch\.|storage", str(reason)):
            raise
        try:
            return torch.load(path, map_location="cpu", weights_only=True), _itself
        except Exception:  # torch raises many kinds; the reason is better than any
            raise reason from None


def _loader(path: Path) -> str:
    """What loads the file, code and all, where it was made."""
    if _is_script(path):
        return f"torch.jit.load({path.name!r})"
    return f"torch.load({path.name!r}, weights_only=False)"


def _is_script(path: Path) -> bool:
    """Whether it is one of TorchScript's archives."""
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
        tensor: Gives the tensor that a value is, or None.
    """
    tensors: dict[str, Tensor] = {}
    groups: list[str] = []
    seen: set[int] = set()

    def collect(held: object, place: str, of_thing: bool = False) -> None:
        if id(held) in seen or not isinstance(held, Thing | Pairs | Mapping):
            return
        seen.add(id(held))
        if isinstance(held, Thing):
            for part in held.held():
                collect(part, place, of_thing=True)
            return
        direct = False
        for key, value in held.pairs if isinstance(held, Pairs) else held.items():
            found = tensor(value)
            if found is not None:
                tensors.setdefault(f"{place}{key}", found)
                direct = True
            else:
                collect(value, f"{place}{key}.")
        if place and direct and not of_thing:
            groups.append(place.removesuffix("."))

    collect(content, "")
    return tensors, tuple(groups)


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
        packed = [one for one in records if one.compress_type]
        # TorchScript packs the text of its code, which is never read here
        if not all("/code/" in one.filename for one in packed) or (
            sum(one.compress_size for one in records) > size
        ):
            raise InputError(
                f"{path}: its records are compressed or overlap, as PyTorch writes none; fetch a "
                "sound file, or convert it to safetensors."
            )
