"""MatConvNet `.mat`: SimpleNN and DagNN networks, in MATLAB's version 5 or 7.3 files.

Filters are (height, width, in / groups, out), fully connected layers among them. `parse` runs in a
separate process (see sandbox.py) and needs no PyTorch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.errors import InputError
from features.formats import matlab
from features.formats.sandbox import LayerArray, run
from features.formats.signatures import HDF5

if TYPE_CHECKING:
    from features.formats.blobs import Blobs

_BATCH_NORM = ("bnorm", "BatchNorm")


def recognise(_path: Path, head: bytes, _size: int) -> bool:
    """Whether a file is one of MATLAB's, of version 5 or, as HDF5 behind a text, of 7.3."""
    return head.startswith(b"MATLAB") and (head[126:128] in (b"IM", b"MI") or HDF5 in head)


def read(path: Path) -> Blobs:
    """The tensors in PyTorch's layout.

    Raises:
        InputError: The file is damaged, or holds no network of MatConvNet.
    """
    import torch

    from features.formats import blobs

    tensors = {
        f"{layer}.{part}": torch.from_numpy(np.ascontiguousarray(array))
        for layer, part, array in run("matconvnet", path)
    }
    return blobs.of("matconvnet", path, tensors, by_order=True)


def parse(path: Path) -> list[LayerArray]:
    """The arrays of every layer; runs in a separate process."""
    with matlab.variables(path) as variables:
        net = variables
        if "net" in variables and isinstance(variables["net"], dict):
            net = variables["net"]
        if "layers" not in net:
            raise InputError("no layers of MatConvNet in it")
        layers = matlab.elements(net["layers"])
        values = {
            str(param["name"]): param["value"] for param in matlab.elements(net.get("params", []))
        }
        parts = []
        for layer in layers:
            if isinstance(layer, dict) and "name" in layer:
                parts += _parts(layer, values)
        return parts


def _parts(layer: dict[str, Any], values: dict[str, Any]) -> list[LayerArray]:
    name, kind = str(layer["name"]), str(layer.get("type", "conv")).rpartition(".")[2]
    arrays = [
        *matlab.elements(layer.get("weights", [])),
        *(layer[key] for key in ("filters", "biases") if key in layer),
        *(
            values[str(param)]
            for param in matlab.elements(layer.get("params", []))
            if str(param) in values
        ),
    ]
    arrays = [array for array in arrays if isinstance(array, np.ndarray) and array.size]
    if kind in _BATCH_NORM:
        return _batch_norm(name, arrays)
    if not arrays:
        return []
    parts = [LayerArray(name, "weight", _filters(arrays[0]))]
    parts += [LayerArray(name, "bias", array.ravel()) for array in arrays[1:2]]
    return parts + [LayerArray(name, str(number), a) for number, a in enumerate(arrays[2:], 2)]


def _filters(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Filters `(h, w, in, out)`, of which MATLAB drops trailing sides of 1, as `(out, in, h, w)`."""
    array = array.reshape(array.shape + (1,) * (4 - array.ndim))
    return array.transpose(3, 2, 0, 1)


def _batch_norm(name: str, arrays: list[npt.NDArray[Any]]) -> list[LayerArray]:
    """Gain, bias, mean and root of variance plus epsilon; the file has the last two as moments `(n, 2)`."""
    parts = [
        LayerArray(name, part, array.ravel())
        for part, array in zip(("weight", "bias"), arrays, strict=False)
    ]
    if len(arrays) > 2 and arrays[2].ndim == 2 and arrays[2].shape[1] == 2:
        parts.append(LayerArray(name, "running_mean", arrays[2][:, 0]))
        parts.append(LayerArray(name, "running_std", arrays[2][:, 1]))
    return parts
