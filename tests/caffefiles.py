"""Caffe's files as its tests need them, written by protobuf."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from features.caffe.schema import message


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
