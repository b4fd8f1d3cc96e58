"""Checking that an open feature file has everything that its format requires, with the right types.

Other programs write such files too, and disks damage them. A file is checked once, when it is opened;
after that everything that features/store/featurefile.py specifies can be relied on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from features.machine.strict_json import from_json
from features.store.hdf5 import FILTERS

_TEXTS = ("backbone", "domain", "images", "contract", "preprocessing")
_OBJECTS = ("card", "weights", "made_with")
_OF_LAYERS = ("layer", "module", "pool")
_ONE_NAME = ("none", "auto")
"""The poolings whose array is called as its layer is."""


class Misfit(ValueError):
    """A feature file lacks something, or has it with another type; the text says what."""


def check(file: h5py.File) -> None:
    """Check that `file` is an intact feature file of this version.

    Raises:
        Misfit: It is not.
        OSError, KeyError, RuntimeError, ValueError: HDF5 cannot read a part of it.
    """
    _check_attributes(file.attrs)
    n = _rows(file)
    layers, checksums = file.get("layers"), file.get("checksums")
    if not isinstance(layers, h5py.Group) or not isinstance(checksums, h5py.Group):
        raise Misfit("it has no group of layers or none of checksums")
    for key in layers:
        _check_layer(key, layers[key], n)
        sums = checksums.get(key)
        if not isinstance(sums, h5py.Dataset) or (sums.shape, sums.dtype) != ((n,), np.uint32):
            raise Misfit(f"layer {key} has no checksums, one for each row")
    for name in ("card", "weights", "made_with", "decisive"):
        _check_object(name, file.attrs)
    seen = from_json(file.attrs.get("trained_on_this", "[]"))
    if not isinstance(seen, list) or not all(isinstance(name, str) for name in seen):
        raise Misfit("trained_on_this is not a list of names")


def _check_attributes(attributes: Mapping[str, Any]) -> None:
    for name in _TEXTS:
        if not isinstance(attributes.get(name), str):
            raise Misfit(f"it has no {name}")
    for name in _OBJECTS:
        if name not in attributes:
            raise Misfit(f"it has no {name}")
    if not isinstance(attributes.get("parameters", 0), int | np.integer):
        raise Misfit("its number of parameters is not a number")
    if str(attributes.get("compress", "none")) not in FILTERS:
        raise Misfit("it is compressed by a filter that is none")


def _check_object(name: str, attributes: Mapping[str, Any]) -> None:
    """Check that an attribute, if it exists, is a JSON object with values of the types that are used."""
    if name not in attributes:
        return
    values = from_json(attributes[name])
    if not isinstance(values, dict):
        raise Misfit(f"its {name} is no JSON object")
    kinds: dict[str, type | tuple[type, ...]] = {
        "card": {
            "name": str,
            "network": str,
            "pair": (str, type(None)),
            "options": (dict, type(None)),
        },
        "weights": {"file": str, "sha256": str},
        "made_with": {"batch_size": int},
    }.get(name, {})  # type: ignore[assignment]
    for key, kind in kinds.items():
        if key in values and not isinstance(values[key], kind):
            raise Misfit(f"the {key} in its {name} is of another kind")


def _rows(file: h5py.File) -> int:
    """The number of rows; every data set must have as many."""
    status = file.get("status")
    if not isinstance(status, h5py.Dataset) or status.ndim != 1 or status.dtype != np.uint8:
        raise Misfit("it has no status of its rows")
    n = int(status.shape[0])
    shapes = {"aim": ((n,), "u"), "reasons": ((n,), "S"), "seal": ((32,), "u")}
    for name, (shape, kind) in shapes.items():
        data = file.get(name)
        if name in file and not (
            isinstance(data, h5py.Dataset) and data.shape == shape and data.dtype.kind == kind
        ):
            raise Misfit(f"its {name} is of another shape")
    return n


def _check_layer(key: str, data: Any, n: int) -> None:
    if (
        not isinstance(data, h5py.Dataset)
        or data.ndim != 2
        or data.shape[0] != n
        or not data.shape[1]
        or data.dtype not in (np.float32, np.float16)
    ):
        raise Misfit(f"layer {key} is no array of floats with a row for each of {n} images")
    attributes = data.attrs
    texts = [attributes.get(name) for name in _OF_LAYERS]
    texts += [attributes.get(name, "") for name in ("output", "view", "canvas")]
    if not all(isinstance(text, str) for text in texts):
        raise Misfit(f"layer {key} has no {', '.join(_OF_LAYERS)}")
    layer, pool, view = (attributes.get(name, "center") for name in ("layer", "pool", "view"))
    name = layer.replace("/", ".") + ("" if pool in _ONE_NAME else f":{pool}")
    name += "" if view == "center" else f"@{view}"
    if key.replace("/", ".") != name:
        raise Misfit(f"layer {key} is {name} by its attributes")
    depth, order = attributes.get("depth"), attributes.get("order", 0)
    if not _is_number(depth) or not _is_number(order):
        raise Misfit(f"layer {key} has no depth")
    shape = np.asarray(attributes.get("shape", ""))
    if shape.ndim != 1 or shape.dtype.kind not in "iu":
        raise Misfit(f"layer {key} has no shape")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)
