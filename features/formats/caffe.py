"""Caffe's `.caffemodel`, old and new; the messages themselves are read by features.caffe."""

from __future__ import annotations

from pathlib import Path

from features.errors import InputError
from features.formats.blobs import Blobs, of


def read(path: Path) -> Blobs:
    """The blobs by the names of their layers.

    Raises:
        InputError: The file is damaged, or holds no blobs.
    """
    from features.caffe import named_tensors, read_caffemodel

    blobs = read_caffemodel(path)
    if not all(
        isinstance(layer, str) for layer in blobs
    ):  # protobuf gives what is no text as bytes
        raise InputError(f"{path}: the name of a layer is not text; it is damaged, fetch it again.")
    return of("caffe", path, named_tensors(blobs))
