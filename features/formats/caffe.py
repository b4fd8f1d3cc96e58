"""Caffe's `.caffemodel`, old and new; the messages themselves are read by features.caffe."""

from __future__ import annotations

from pathlib import Path

from features.errors import InputError
from features.formats.blobs import Blobs, of


def recognise(_path: Path, head: bytes, size: int) -> bool:
    """Whether a file begins with a field of the protobuf message NetParameter, no longer than the file."""
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
