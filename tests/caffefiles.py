"""Caffe's files as its tests need them: written by protobuf, and mutated."""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from features.caffe.schema import message
from features.errors import InputError


def write(
    path: Path, blobs: Mapping[str, list[Tensor]], types: Mapping[str, str], old: bool = False
) -> Path:
    """A caffemodel by protobuf, as old versions of Caffe wrote them, or as new ones do."""
    net = message("NetParameter")(name="written")
    for name, parts in blobs.items():
        added = (net.layers if old else net.layer).add(name=name)
        if old:
            added.type = {"Convolution": 4, "InnerProduct": 14}[types[name]]
        else:
            added.type = types[name]
        for part in parts:
            blob = added.blobs.add(data=part.flatten().tolist())
            if old:
                sides = [1] * (4 - part.dim()) + list(part.shape)
                blob.num, blob.channels, blob.height, blob.width = sides
            else:
                blob.shape.dim.extend(part.shape)
    path.write_bytes(net.SerializeToString())
    return path


def mutated(raw: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return raw[: rng.randrange(len(raw))]
    changed = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(changed))
        kind = rng.randrange(4)
        if kind < 2:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            changed[at : at + rng.randrange(1, 9)] = b""
        else:
            changed[at:at] = rng.choice([b"\xff", b"\x00", b"9", b" ", b"\x80\x80"])
        changed = changed or bytearray(b"x")
    return bytes(changed)


def survives(raw: bytes, folder: Path, read: Callable[[Path], object]) -> tuple[int, int]:
    """How many of a thousand mutations were read and refused; nothing else may happen."""
    rng, path, good = random.Random(3), folder / "mutated", 0
    for _ in range(1000):
        path.write_bytes(mutated(raw, rng))
        start = time.monotonic()
        try:
            read(path)
            good += 1
        except InputError as error:
            said = str(error)
            assert said.startswith(str(path)), said
            assert "\n" not in said
        assert time.monotonic() - start < 5
    return good, 1000 - good
