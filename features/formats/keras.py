"""Keras `.h5`: HDF5 with one group per layer, in TensorFlow's layout.

`parse` runs in a separate process (see sandbox.py) and needs no PyTorch; `read` does not open HDF5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.errors import InputError
from features.formats.numbered_names import against_numbers
from features.formats.sandbox import LayerArray, run
from features.formats.signatures import HDF5

if TYPE_CHECKING:
    from features.formats.blobs import Blobs

_NAMES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "pointwise_kernel": "weight",
    "W": "weight",
    "alpha": "weight",  # of PReLU
    "gamma": "weight",
    "bias": "bias",
    "b": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_MOMENTS = ("moving_mean", "moving_variance")
_LISTS = ("layers", "_layer_checkpoint_dependencies")
_NOT_LAYERS = ("optimizer", "metric", "seed_generator", "loss")


def recognise(_path: Path, head: bytes, _size: int) -> bool:
    """Whether a file is HDF5, whose signature may stand behind a block of the user's."""
    return any(head[offset:].startswith(HDF5) for offset in (0, 512, 1024, 2048))


def read(path: Path) -> Blobs:
    """The tensors in PyTorch's layout; matrices that read a map have its channels last.

    Arrays of an unknown kind keep their name and layout, so that messages can list them.

    Raises:
        InputError: The file is damaged or no Keras file.
    """
    import torch

    from features.formats import blobs

    parts = run("keras", path)
    numbered = any(part.part.isdigit() for part in parts)
    tensors = {
        name: torch.from_numpy(array)
        for name, array in named(by_purpose(parts) if numbered else parts).items()
    }
    ordered = not numbered and not against_numbers(dict.fromkeys(part.layer for part in parts))
    return blobs.of("keras", path, tensors, flatten="hwc", by_order=True, ordered=ordered)


def named(parts: Iterable[LayerArray]) -> dict[str, npt.NDArray[Any]]:
    """Arrays in PyTorch's layout by layer and part.

    A separable convolution `x` is two layers, `x.depthwise` and `x.pointwise`, the latter with its
    bias. A batch norm without gain or shift gets ones or zeros, which have the same effect.
    """
    layers: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for layer, part, array in parts:
        again = 2
        name = layer
        while part in layers.get(name, {}):  # two layers of one name, in nested models
            name, again = f"{layer}~{again}", again + 1
        layers.setdefault(name, {})[part] = array
    arrays = {}
    for layer, own in layers.items():
        if all(part in own for part in _MOMENTS):
            own.setdefault("gamma", np.ones_like(own["moving_mean"]))
            own.setdefault("beta", np.zeros_like(own["moving_mean"]))
        for part, array in own.items():
            place = layer
            if "pointwise_kernel" in own:
                place += ".depthwise" if part == "depthwise_kernel" else ".pointwise"
            arranged_part, arranged_array = arranged(part, array)
            arrays[f"{place}.{arranged_part}"] = arranged_array
    return arrays


def by_purpose(parts: Iterable[LayerArray]) -> list[LayerArray]:
    """The same arrays; the number of each in its layer is replaced by its part, such as `kernel`.

    The part is derived from the layer's name, which begins like its class, and from the axes of the
    arrays; where these do not decide it, the number stays.
    """
    layers: dict[str, list[LayerArray]] = {}
    for part in parts:
        layers.setdefault(part.layer, []).append(part)
    return [
        LayerArray(layer, name, part.array)
        for layer, own in layers.items()
        for part, name in zip(own, _purposes(layer, own), strict=True)
    ]


def _purposes(layer: str, parts: list[LayerArray]) -> list[str]:
    axes = [part.array.ndim for part in parts]
    kernels = ["kernel"]
    if axes[:2] in ([4, 4], [3, 3]):
        kernels = ["depthwise_kernel", "pointwise_kernel"]
    elif layer.rpartition("/")[2].startswith("depthwise"):
        kernels = ["depthwise_kernel"]
    elif layer.rpartition("/")[2].startswith("p_re_lu"):
        kernels = ["alpha"]
    if axes == [1, 1, 1, 1]:
        return ["gamma", "beta", *_MOMENTS]
    if axes == [1, 1]:
        return ["gamma", "beta"]
    if len(axes) == len(kernels) or axes[len(kernels) :] == [1]:
        return [*kernels, "bias"][: len(axes)]
    return [part.part for part in parts]


def split(name: str, separator: str = "/") -> tuple[str, str] | None:
    """A weight's layer and part: `fc6/kernel:0` gives fc6 and kernel; None for other names."""
    name = name.partition(":")[0]
    layer, _, part = name.rpartition("/")
    if part in _NAMES and layer:
        return layer, part
    match = re.fullmatch(rf"(.+){re.escape(separator)}([Wb])(_\d+)?", name)
    return (match[1], match[2]) if match else None


def arranged(part: str, array: npt.NDArray[Any]) -> tuple[str, npt.NDArray[Any]]:
    """PyTorch's name and layout of a part; an unknown part stays as it is.

    `(h, w, in, out)` becomes `(out, in, h, w)`, `(in, out)` becomes `(out, in)`, and likewise with one or
    three spatial axes.
    """
    if part == "depthwise_kernel" and array.ndim in (3, 4):
        *sides, channels, times = array.shape
        axes = (array.ndim - 2, array.ndim - 1, *range(array.ndim - 2))
        array = array.transpose(axes).reshape(channels * times, 1, *sides)
    elif part in ("kernel", "pointwise_kernel", "W") and array.ndim > 1:
        axes = (array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))
        array = array.transpose(axes)
    return _NAMES.get(part, part), np.ascontiguousarray(array)


def parse(path: Path) -> list[LayerArray]:
    """The arrays of every layer in the order of the model; runs in a separate process."""
    import h5py

    from features.formats import hdf5

    with h5py.File(path, "r") as file:
        reader = hdf5.ArrayReader(path)
        root = file["model_weights"] if hdf5.is_inside(file, "model_weights") else file
        if "layer_names" in root.attrs or "layer_names0" in root.attrs:
            return _named(reader, root)
        parts = _shortened(_numbered(reader, root))
    if not parts:
        raise InputError("no layers of Keras in it")
    return parts


def _named(reader: Any, root: Any) -> list[LayerArray]:
    parts = []
    for layer in _texts(root, "layer_names"):
        group = reader.inside(root, layer)
        names = _texts(group, "weight_names")
        pairs = [split(name) or split(name, "_") for name in names]
        # A model used as a layer keeps the names of its own layers.
        nested = len({pair[0] for pair in pairs if pair}) > 1
        for name, pair in zip(names, pairs, strict=True):
            array = reader.numbers(reader.inside(group, name))
            if pair is None:  # of an unknown kind: it keeps its own name
                own, _, part = name.partition(":")[0].rpartition("/")
                parts.append(LayerArray(own if nested and own else layer, part, array))
            else:
                parts.append(LayerArray(pair[0] if nested else layer, pair[1], array))
    return parts


def _numbered(reader: Any, group: Any, place: tuple[str, ...] = ()) -> list[LayerArray]:
    """The arrays of the newer layout, `layers/NAME/vars/0`, where an array has a number and no name.

    Layers come in the order of the names, which is not the model's.
    """
    from features.formats import hdf5

    parts = []
    for name in hdf5.names(group):
        if not hdf5.is_inside(group, name) or not hasattr(group[name], "keys"):
            continue
        if name == "vars":
            for key in sorted(hdf5.names(group[name]), key=lambda key: (len(key), key)):
                array = reader.numbers(reader.inside(group[name], key))
                parts.append(LayerArray("/".join(place), key, array))
        elif not name.startswith(_NOT_LAYERS):
            inner = place if name in _LISTS else (*place, name)
            parts += _numbered(reader, group[name], inner)
    return parts


def _shortened(parts: list[LayerArray]) -> list[LayerArray]:
    """The same arrays; layers are called by the last word of their path where no two layers share it."""
    short: dict[str, set[str]] = {}
    for part in parts:
        short.setdefault(part.layer.rpartition("/")[2], set()).add(part.layer)
    return [
        LayerArray(
            last if len(short[last := part.layer.rpartition("/")[2]]) == 1 else part.layer,
            *part[1:],
        )
        for part in parts
    ]


def _texts(group: Any, name: str) -> list[str]:
    """The list of names in an attribute, or in several, into which Keras splits long lists."""
    keys: Iterator[str] = takewhile(
        group.attrs.__contains__, (f"{name}{number}" for number in count())
    )
    keys = iter([name]) if name in group.attrs else keys
    texts = [text for key in keys for text in np.asarray(group.attrs[key]).ravel().tolist()]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]
