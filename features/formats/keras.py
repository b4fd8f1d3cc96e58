"""Keras `.h5`: HDF5 with one group per layer, in TensorFlow's layout.

`parse` runs in a process of its own (see sandbox.py) and needs no PyTorch; `read` does not touch HDF5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.errors import InputError
from features.formats.sandbox import Part, run

if TYPE_CHECKING:
    from features.formats.blobs import Blobs

_NAMES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "W": "weight",
    "alpha": "weight",  # of PReLU
    "gamma": "weight",
    "bias": "bias",
    "b": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_NUMBERED = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}


def read(path: Path) -> Blobs:
    """The tensors in PyTorch's layout; matrices that read a map have its channels last.

    Raises:
        InputError: The file is damaged or no Keras file.
    """
    import torch

    from features.formats import blobs

    tensors = {}
    for layer, part, array in run("keras", path):
        name, arranged_array = arranged(part, array)
        tensors[f"{layer}.{name}"] = torch.from_numpy(arranged_array)
    return blobs.of("keras", path, tensors, flatten="hwc", by_order=True)


def split(name: str, separator: str = "/") -> tuple[str, str] | None:
    """A weight's layer and part: `fc6/kernel:0` is fc6 and kernel; None if it is named otherwise."""
    name = name.partition(":")[0]
    layer, _, part = name.rpartition("/")
    if part in _NAMES and layer:
        return layer, part
    match = re.fullmatch(rf"(.+){re.escape(separator)}([Wb])(_\d+)?", name)
    return (match[1], match[2]) if match else None


def arranged(part: str, array: npt.NDArray[Any]) -> tuple[str, npt.NDArray[Any]]:
    """PyTorch's name and layout of a part.

    `(h, w, in, out)` becomes `(out, in, h, w)`, `(in, out)` becomes `(out, in)`.
    """
    if part == "depthwise_kernel" and array.ndim == 4:
        h, w, channels, times = array.shape
        array = array.transpose(2, 3, 0, 1).reshape(channels * times, 1, h, w)
    elif _NAMES[part] == "weight" and array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif _NAMES[part] == "weight" and array.ndim == 2:
        array = array.T
    return _NAMES[part], np.ascontiguousarray(array)


def parse(path: Path) -> list[Part]:
    """The arrays of every layer in the order of the model; runs in a process of its own."""
    import h5py

    from features.formats import hdf5

    with h5py.File(path, "r") as file:
        reader = hdf5.Reader(path)
        root = file["model_weights"] if hdf5.is_inside(file, "model_weights") else file
        if "layer_names" in root.attrs or "layer_names0" in root.attrs:
            return _named(reader, root)
        found = _numbered(reader, root, "")
    if not found:
        raise InputError("no layers of Keras in it")
    return found


def _named(reader: Any, root: Any) -> list[Part]:
    parts = []
    for layer in _texts(root, "layer_names"):
        group = reader.inside(root, layer)
        names = _texts(group, "weight_names")
        pairs = [split(name) or split(name, "_") for name in names]
        # A model used as a layer keeps the names of its own layers.
        nested = len({pair[0] for pair in pairs if pair}) > 1
        for name, pair in zip(names, pairs, strict=True):
            if pair is not None:
                array = reader.numbers(reader.inside(group, name))
                parts.append(Part(pair[0] if nested else layer, pair[1], array))
    return parts


def _numbered(reader: Any, group: Any, layer: str) -> list[Part]:
    """The newer layout: `layers/NAME/vars/0`, where only the number tells what an array is."""
    from features.formats import hdf5

    parts = []
    for name in hdf5.names(group):
        if not hdf5.is_inside(group, name) or not hasattr(group[name], "keys"):
            continue
        if name == "vars":
            keys = sorted(hdf5.names(group[name]), key=lambda key: (len(key), key))
            for key, part in zip(keys, _NUMBERED.get(len(keys), ()), strict=False):
                parts.append(Part(layer, part, reader.numbers(reader.inside(group[name], key))))
        elif not name.startswith(("optimizer", "metric")):
            parts += _numbered(reader, group[name], name)
    return parts


def _texts(group: Any, name: str) -> list[str]:
    """A list of names, which Keras splits into several attributes where it is long."""
    keys: Iterator[str] = takewhile(
        group.attrs.__contains__, (f"{name}{number}" for number in count())
    )
    keys = iter([name]) if name in group.attrs else keys
    found = [text for key in keys for text in np.asarray(group.attrs[key]).ravel().tolist()]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in found]
