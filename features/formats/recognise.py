"""Which format a file of weights has, told from its bytes, and reading it."""

from __future__ import annotations

import importlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

from features.cards.card import FORMATS
from features.errors import InputError
from features.formats.blobs import Blobs
from features.formats.shards import files_of
from features.formats.unsupported import other_kind

HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD = 4096
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")


def recognise(path: Path) -> str:
    """One of `features.cards.card.FORMATS`, or `archive` for a `.tar.gz` or `.zip` of files.

    Of a folder or an index it is the format of the first of its files.

    Raises:
        InputError: The file is none of these; the message says what it seems to be.
    """
    several = files_of(path)
    if several is not None:
        return recognise(several[0])
    with path.open("rb") as file:
        head = file.read(_HEAD)
        size = os.fstat(file.fileno()).st_size
    start = head.lstrip()[:64].lower()
    if not head:
        raise InputError(f"{path}: the file is empty; fetch it again.")
    found = _format(path, head, size)
    other = other_kind(path, head) if found in (None, "caffe") else None
    if other is not None:
        raise InputError(f"{path}: {other}")
    if start.startswith(_PAGES):
        raise InputError(
            f"{path}: a web page, not weights; the download went wrong, fetch it again."
        )
    if start.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a git-lfs pointer, not weights; run git lfs pull, or fetch it.")
    if head.startswith(b"\x93NUMPY"):
        raise InputError(f"{path}: a single array, not named weights; save them with numpy.savez.")
    if found is None:
        raise InputError(
            f"{path}: not a file of weights in any format that is read ({', '.join(FORMATS)}); "
            "give one of these."
        )
    return found


def read(path: Path, expected: str | None = None) -> Blobs:
    """The tensors of a file of weights.

    Args:
        path: The file.
        expected: The format it is said to have.

    Raises:
        InputError: The file is damaged, of another format, an archive, or not weights at all.
    """
    several = files_of(path)
    if several is not None:
        return _together(path, [read(part, expected) for part in several])
    found = recognise(path)
    if found == "archive":
        raise InputError(
            f"{path}: an archive; bring it in with `probe weights add`, or unpack it yourself."
        )
    if expected is not None and found != expected:
        raise InputError(
            f"{path}: the card says {expected} and the bytes say {found}; mend the card's format, "
            "or give the right file."
        )
    reader = importlib.import_module(f"features.formats.{found}")
    blobs: Blobs = reader.read(path)
    return blobs


def _together(path: Path, parts: list[Blobs]) -> Blobs:
    """The tensors of several files as those of one."""
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    if len(tensors) < sum(len(part.tensors) for part in parts):
        raise InputError(
            f"{path}: two of its files hold a tensor of one name; give the files of one network."
        )
    groups = tuple(dict.fromkeys(group for part in parts for group in part.groups))
    return replace(parts[0], tensors=tensors, groups=groups)


def _format(path: Path, head: bytes, size: int) -> str | None:
    if head.startswith(b"MATLAB") and (head[126:128] in (b"IM", b"MI") or HDF5 in head):
        return "matconvnet"
    if any(head[offset:].startswith(HDF5) for offset in (0, 512, 1024, 2048)):
        return "keras"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return _zipped(path, head)
    if head.startswith(b"\x80"):
        return "pytorch"
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return "archive"
    if _is_torch7(head):
        return "torch7"
    return "caffe" if _is_caffe(head, size) else None


def _zipped(path: Path, head: bytes) -> str:
    """What a zip file holds; where its directory is lost, what its first member is."""
    length = int.from_bytes(head[26:28], "little")
    names = [head[30 : 30 + length].decode("utf-8", "replace")]
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # damaged in one of many ways: the format's own reader will say so
        pass
    if any(name.endswith("data.pkl") for name in names):
        return "pytorch"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "archive"


def _is_torch7(head: bytes) -> bool:
    """A table or an object, the first of the file: type, index 1, then a count or a version."""
    kind, index = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little")
    length = int.from_bytes(head[8:12], "little")
    if index != 1 or kind not in (3, 4):
        return False
    text = head[12 : 12 + length]
    return kind == 3 or text.startswith((b"V ", b"torch.", b"nn.", b"cudnn."))


def _is_caffe(head: bytes, size: int) -> bool:
    """A protobuf message that begins with a field of Caffe's NetParameter and fits the file."""
    key, offset = _varint(head, 0)
    # name, layers (old), input, input_dim, input_shape, state, layer
    strings, numbers = (1, 2, 3, 6, 8, 100), (4, 5, 7)
    field, wire = key >> 3, key & 7
    if field in numbers and wire == 0:
        return True
    length, offset = _varint(head, offset)
    if wire != 2 or field not in strings or not 0 <= length <= size - offset:
        return False
    text = head[offset : offset + length]
    return field not in (1, 3) or all(32 <= byte < 127 for byte in text)


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if offset >= len(data):
            return -1, offset
        value |= (data[offset] & 127) << (7 * place)
        offset += 1
        if data[offset - 1] < 128:
            return value, offset
    return -1, offset
