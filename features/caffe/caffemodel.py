"""Reading `.caffemodel` and `.binaryproto` files: the blobs of every layer, as tensors.

A message is cut into its fields here and only what is left without the long ones is handed to
protobuf: it would hold a file of 580 MB four times over, and turn a hostile one, millions of empty
layers of three bytes each, into gigabytes. The file is mapped, so no field can be longer than what
is there, and each blob is copied once.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from features.caffe.schema import layer_type, message
from features.errors import InputError
from features.machine.regular_files import open_regular

# A network has some thousand layers, and a layer without its blobs a few hundred bytes.
MAX_FIELDS = 100_000
MAX_DESCRIPTION = 1 << 20

_LAYERS = {100: ("LayerParameter", 7), 2: ("V1LayerParameter", 6)}
_VALUES: dict[int, npt.DTypeLike] = {5: "<f4", 8: "<f8"}
_DIFFS = (6, 9)
_BYTES = 2  # the wire type of strings, messages and packed numbers


class _Damaged(ValueError):
    """The bytes are not a valid message; the text says why."""


def read_caffemodel(path: Path) -> dict[str, list[Tensor]]:
    """The blobs of every layer that has any, by layer name, in the order of the file.

    Files of old (`layers`, blobs of four sides) and new (`layer`) messages give the same result: the
    weights of a convolution are `(out, in / groups, h, w)`, those of an inner product `(out, in)`,
    and one number per channel has one side. Values are float32.

    Raises:
        InputError: The file is not a caffemodel, or a blob does not hold what it declares.
    """
    layers: dict[str, list[Tensor]] = {}
    try:
        view = _mapped(path)
        for number, layer in _long_fields(view, tuple(_LAYERS)):
            name, blobs = _layer(layer, *_LAYERS[number])
            if blobs:
                layers[name] = (
                    blobs  # as Caffe does: of two layers with the same name the last one counts
                )
        if not layers:
            raise _Damaged("it holds no layer with weights")
    except _Damaged as damage:
        raise InputError(
            f"{path}: not a Caffe model that can be read ({damage}); fetch it again, or give the "
            ".caffemodel that belongs to the network."
        ) from damage
    return layers


def read_binaryproto(path: Path) -> Tensor:
    """A mean image, `(3, h, w)` in the channel order of its data set, usually BGR.

    Raises:
        InputError: The file is not one blob of three channels.
    """
    try:
        mean = _blob(_mapped(path))
        if mean.dim() == 4 and mean.shape[0] == 1:
            mean = mean[0]
        if mean.dim() != 3 or mean.shape[0] != 3:
            raise _Damaged(f"its sides are {_sides(mean.shape)}, not 3 x height x width")
    except _Damaged as damage:
        raise InputError(
            f"{path}: not a Caffe mean image ({damage}); fetch it again, or give the .binaryproto."
        ) from damage
    return mean


def _mapped(path: Path) -> memoryview:
    try:
        with open_regular(path) as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError:
        raise _Damaged("it is empty") from None
    except OSError as error:
        raise _Damaged(error.strerror or str(error)) from None


def _layer(view: memoryview, kind: str, blobs_number: int) -> tuple[str, list[Tensor]]:
    description, fields = _without(view, (blobs_number,))
    layer = _parsed(kind, description)
    try:
        name, kind = layer.name, layer_type(layer)
    except UnicodeDecodeError:  # or bytes, depending on the version of protobuf
        name = b""
    if not isinstance(name, str):
        raise _Damaged("the name of a layer is not text")
    return name, [_modern(_blob(v, name), kind, i) for i, (_, v) in enumerate(fields)]


def _modern(blob: Tensor, kind: str, index: int) -> Tensor:
    """`blob` without the leading sides of 1 that old files add to have four sides.

    A single number, which has no sides in Caffe, has one here, as in PyTorch's layers.
    """
    if not blob.dim():
        return blob.reshape(1)
    if blob.dim() != 4 or (kind in ("Convolution", "Deconvolution") and index == 0):
        return blob
    kept = 2 if kind == "InnerProduct" and index == 0 else 1
    sides = list(blob.shape)
    while len(sides) > kept and sides[0] == 1:
        del sides[0]
    return blob.reshape(sides)


def _blob(view: memoryview, layer: str = "") -> Tensor:
    description, fields = _without(view, (*_VALUES, *_DIFFS))
    parts = [np.frombuffer(v, _VALUES[n]) for n, v in fields if n in _VALUES and _whole(n, v)]
    header = _parsed("BlobProto", description)
    if not parts:  # numbers that are not packed stay in the description
        parts = [np.fromiter(v, np.float32, len(v)) for v in (header.data, header.double_data)]
    with np.errstate(over="ignore"):
        values = np.concatenate(parts, dtype=np.float32, casting="same_kind")
    old = ("num", "channels", "height", "width")
    if any(header.HasField(side) for side in old):
        sides = [getattr(header, side) for side in old]
    else:
        sides = list(header.shape.dim) if header.HasField("shape") else [len(values)]
    of = f"a blob of layer {layer!r}" if layer else "it"
    if min(sides, default=1) < 0 or len(sides) > 32 or math.prod(sides) != len(values):
        raise _Damaged(f"{of} declares {_sides(sides)} numbers and holds {len(values)}")
    if not len(values):
        raise _Damaged(f"{of} holds no numbers")
    return torch.from_numpy(values).reshape(sides)


def _whole(number: int, view: memoryview) -> bool:
    if len(view) % np.dtype(_VALUES[number]).itemsize:
        raise _Damaged("a number is cut off")
    return True


def _sides(sides: Any) -> str:
    return " x ".join(map(str, list(sides)[:8])) or "no"


def _parsed(kind: str, description: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return message(kind).FromString(description)
    except (DecodeError, RuntimeError, ValueError) as error:
        raise _Damaged(f"a message does not parse: {error}") from None


def _without(view: memoryview, long: tuple[int, ...]) -> tuple[bytes, list[tuple[int, memoryview]]]:
    """A message without its fields `long`, and those fields as `(number, content)`."""
    rest: list[memoryview] = []
    fields = []
    start = size = 0
    for number, wire, content, end in _fields(view):
        if number in long and wire == _BYTES:
            fields.append((number, content))
        else:
            size += end - start
            if number not in long and size > MAX_DESCRIPTION:
                raise _Damaged(f"a layer's description is longer than {MAX_DESCRIPTION} bytes")
            rest.append(view[start:end])
        start = end
    return b"".join(rest), fields


def _long_fields(view: memoryview, numbers: tuple[int, ...]) -> Iterator[tuple[int, memoryview]]:
    for number, wire, content, _ in _fields(view):
        if number in numbers and wire == _BYTES:
            yield number, content


def _fields(view: memoryview) -> Iterator[tuple[int, int, memoryview, int]]:
    """Number, wire type, content and end of every field; a run of numbers is one field."""
    at = count = 0
    while at < len(view):
        count += 1
        if count > MAX_FIELDS:
            raise _Damaged(f"a message has more than {MAX_FIELDS} fields")
        tag, start = _varint(view, at)
        wire = tag & 7
        if wire == 0:
            _, end = _varint(view, start)
        elif wire == 1:
            end = _run(view, at, start, 8)
        elif wire == _BYTES:
            size, start = _varint(view, start)
            end = start + size
        elif wire == 5:
            end = _run(view, at, start, 4)
        else:
            raise _Damaged(f"byte {at} begins no field")
        if end > len(view) or tag < 8:
            raise _Damaged(f"a field at byte {at} goes past the end")
        yield tag >> 3, wire, view[start:end], end
        at = end


def _run(view: memoryview, at: int, start: int, width: int) -> int:
    """The end of the run of fixed-width numbers with the same tag that begins at byte `at`."""
    step = start - at + width
    if at + step > len(view):
        raise _Damaged("it is cut off")
    tag = bytes(view[at:start])
    end, window = at + step, 16
    while True:
        rows = min(window, (len(view) - end) // step)
        records = np.frombuffer(view, np.uint8, rows * step, end).reshape(rows, step)
        same = (records[:, : len(tag)] == np.frombuffer(tag, np.uint8)).all(axis=1)
        if not same.all():
            return end + int(same.argmin()) * step
        end += rows * step
        if rows < window:
            return end
        window *= 2  # so that many short runs cost no more than one long one


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise _Damaged("it is cut off")
        byte = view[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise _Damaged(f"byte {at} begins no number")
