"""Safetensors: a JSON header and bare numbers."""

from __future__ import annotations

from pathlib import Path

from features.errors import InputError
from features.formats.blobs import Blobs, because, of


def recognise(_path: Path, head: bytes, size: int) -> bool:
    """Whether a file begins with the length of a JSON header, and is longer than that."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size


def read(path: Path) -> Blobs:
    """The tensors by their names.

    Raises:
        InputError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: a damaged safetensors file ({because(error)}); fetch it again."
        ) from error
    return of("safetensors", path, tensors)
