"""Which format a file of weights has, told from its bytes, and reading it."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from features.errors import InputError
from features.formats import FORMATS
from features.formats.blobs import Blobs
from features.formats.shards import files_of
from features.formats.unsupported import other_kind
from features.machine.regular_files import open_regular

_HEAD = 4096
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")


def recognise(path: Path) -> str:
    """One of `features.formats.FORMATS`, or `archive` for a `.tar`, `.tar.gz` or `.zip` of files.

    Of a folder or an index it is the format of the first of its files.

    Raises:
        InputError: The file is none of these; the message says what it seems to be.
    """
    several = files_of(path)
    if several is not None:
        return recognise(several[0])
    with open_regular(path) as file:
        head = file.read(_HEAD)
        size = os.fstat(file.fileno()).st_size
    start = head.lstrip()[:64].lower()
    if not head:
        raise InputError(f"{path}: the file is empty; fetch it again.")
    kind = _format(path, head, size)
    other = other_kind(path, head) if kind in (None, "caffe") else None
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
    if kind is None:
        raise InputError(
            f"{path}: not a file of weights in any format that is read ({', '.join(FORMATS)}); "
            "give one of these."
        )
    return kind


def read(path: Path, expected: str | None = None) -> Blobs:
    """The tensors of a file of weights.

    Args:
        path: The file.
        expected: The format that its card gives.

    Raises:
        InputError: The file is damaged, of another format, an archive, or not weights at all.
    """
    several = files_of(path)
    if several is not None:
        return _together(path, [read(part, expected) for part in several])
    kind = recognise(path)
    if kind == "archive":
        raise InputError(
            f"{path}: an archive; add it with `probe weights add`, or unpack it yourself."
        )
    if expected is not None and kind != expected:
        raise InputError(
            f"{path}: the card says {expected} and the bytes say {kind}; correct the card's format, "
            "or give the right file."
        )
    blobs: Blobs = _reader(kind).read(path)
    return blobs


def _together(path: Path, parts: list[Blobs]) -> Blobs:
    """The tensors of several files as those of one."""
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    if len(tensors) < sum(len(part.tensors) for part in parts):
        raise InputError(
            f"{path}: two of its files hold a tensor of the same name; give the files of one network."
        )
    groups = tuple(dict.fromkeys(group for part in parts for group in part.groups))
    return replace(parts[0], tensors=tensors, groups=groups)


def _format(path: Path, head: bytes, size: int) -> str | None:
    kind = next((name for name in FORMATS if _reader(name).recognise(path, head, size)), None)
    if kind in (None, "caffe") and head.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        return "archive"
    return "archive" if kind in (None, "caffe") and head[257:262] == b"ustar" else kind


def _reader(kind: str) -> ModuleType:
    """The module of a format."""
    return importlib.import_module(f"features.formats.{kind}")
