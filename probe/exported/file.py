"""The file of an export: safetensors that say everything that is needed to use the probe.

Format `probe-export`, version 3 where a number is predicted, else 2. The tensors are

- `features.mean`, `features.scale`, `(dim,)` float32: the mean of every feature over the training rows and
  one over its SD;
- `probe.weight`, `(K, dim)`, `probe.bias`, `(K,)` float32, K being 1 of a number: the scores of x are
  `((x - mean) * scale) @ weight' + bias`, or, where `unit_rows` is true, `(x / |x|) @ weight' + bias`;
- `distance.axes`, `(r, dim)`, `distance.variances`, `(r,)`, `distance.rest`, `(1,)` and
  `distance.quantiles`, `(q,)` float32, and since version 2 `distance.typical`, `(5,)`, the fields of
  `Typical`: probe/exported/distance.py;
- `network.NAME`: the tensors of the network, where the file holds them.

The metadata are `format`, `version`, `about` (JSON, the fields of `About`) and `sha256`: of the whole file
with 64 zeros in the digest's own place, so that a changed byte is noticed wherever it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from features.cards.toml_file import is_of
from features.data.tasks import Kind
from features.errors import InputError
from features.machine.device import PRECISIONS
from features.machine.files import replacing
from features.machine.regular_files import check_regular, open_regular
from features.machine.strict_json import from_json
from features.machine.tensors import write_tensors
from probe.exported.distance import Axes, Distance, Typical
from probe.exported.number_promise import NumberPromise
from probe.exported.promise import Promise
from probe.exported.refit import LinearProbe, Scaler

FORMAT, VERSION = "probe-export", 3
_OF_CLASSES = 2  # the version of files of classes, which have not changed since
SUFFIX = ".probe"
_BLANK = b"0" * 64
_HEAD = 100 << 20
"""Bytes of a header at most."""
_NETWORK = "network."
_SHOWN = 40
"""Characters of a value that a message shows."""


@dataclass(frozen=True, kw_only=True)
class About:
    """Everything that a file says besides its tensors; JSON on disk."""

    task: str
    classes: tuple[str, ...]
    """In the order of the scores; none of a number."""
    ordered: bool
    backbone: str
    domain: str
    layer: str
    pool: str
    method: str
    scale: str
    unit_rows: bool
    value: float
    """C, or alpha for ridge; of a fine-tune the epochs."""
    temperature: float
    """Probabilities are the softmax of the scores times this; of a number it is 1."""
    threshold: float | None
    """Of two classes: the probability from which on an image is of the second."""
    promise: dict[str, Any]
    """The fields of `Promise`, or of `NumberPromise`."""
    result: str
    """BACKBONE/LAYER/METHOD, whose cross-validated accuracy or error the promise is."""
    card: dict[str, Any]
    preprocessing: str
    """The same in words."""
    decisive: dict[str, Any]
    """What decides the features: network, options, preprocessing, weights."""
    precision: str
    weights: dict[str, Any]
    """The file that the features were made with, by name and checksum, or the seed of random ones."""
    licence: str
    trained_on: dict[str, Any]
    """The data: source, images, subjects, and a digest of rows, labels and features."""
    toolkit: str
    synthetic: bool = False
    imported: bool = False
    """Whether the features were made elsewhere, so that no network here makes them."""
    input: dict[str, Any] = field(default_factory=dict)
    """The preprocessing, as a card's `[input]` has it; where the network is inside."""
    network: str = ""
    """`backbone` or, of a fine-tune, `tuned` where the network is inside; empty where it is not."""
    head: dict[str, Any] = field(default_factory=dict)
    """Of a fine-tune: `place`, the module that its head stood in, or null for the network's output, and
    `shape`, of what the head reads of one image before it is averaged."""
    left_out: tuple[str, ...] = ()
    """Classes of the task that no training image has."""
    notes: tuple[str, ...] = ()
    kind: str = "classes"
    """`classes`, or `number`: then the score of an image is the number."""
    unit: str = ""

    @property
    def is_number(self) -> bool:
        """Whether it predicts a number and not a class."""
        return self.kind == "number"

    @property
    def name(self) -> str:
        """BACKBONE/LAYER/METHOD of what is in the file; the layer of a whole network is `-`."""
        return f"{self.backbone}/{self.layer or '-'}/{self.method}"

    @property
    def promised(self) -> Promise | NumberPromise:
        """The promise: an accuracy, or the error of a number."""
        return NumberPromise(**self.promise) if self.is_number else Promise(**self.promise)

    @property
    def accuracy(self) -> Promise:
        """The promise of classes."""
        return Promise(**self.promise)


@dataclass(frozen=True)
class Contents:
    """What a file holds."""

    about: About
    probe: LinearProbe
    distance: Distance
    network: Mapping[str, Tensor] = field(default_factory=dict)


def write(path: Path, contents: Contents) -> None:
    """Write an export in one step."""
    probe, distance = contents.probe, contents.distance
    arrays = {
        "features.mean": probe.scaler.mean,
        "features.scale": probe.scaler.scale,
        "probe.weight": probe.weight,
        "probe.bias": probe.bias,
        "distance.axes": distance.axes.directions,
        "distance.variances": distance.axes.variances,
        "distance.rest": np.array([distance.axes.rest], dtype=np.float32),
        "distance.quantiles": distance.quantiles,
    }
    if distance.typical is not None:
        arrays["distance.typical"] = np.array(astuple(distance.typical), dtype=np.float32)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
    tensors |= {
        f"{_NETWORK}{name}": tensor.detach().cpu().contiguous().clone()
        for name, tensor in contents.network.items()
    }
    metadata = {
        "format": FORMAT,
        "version": str(VERSION if contents.about.is_number else _OF_CLASSES),
        "about": json.dumps(asdict(contents.about), sort_keys=True),
        "sha256": _BLANK.decode(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as written:
        write_tensors(written, tensors, metadata)
        digest, place, _ = _digest(written)
        with written.open("r+b") as file:
            file.seek(place)
            file.write(digest.encode())


def read(path: Path) -> Contents:
    """Read an export, every byte checked.

    Raises:
        InputError: There is none, it is of a later version, or it changed since it was written.
    """
    _check(path)
    try:
        with safe_open(path, "pt") as opened:
            about = _about(from_json(opened.metadata()["about"]))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return _contents(about, tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: says less than an export has to ({type(error).__name__}: {error}); export again."
        ) from error


def _check(path: Path) -> None:
    """Refuse what is no export of this or an earlier format, or not as it was written."""
    if not path.exists():
        raise InputError(f"{path}: there is no such file; `probe export` writes one.")
    try:
        check_regular(path)
        with safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
    except (OSError, SafetensorError, ValueError) as error:
        if _was_one(path):
            raise _changed(path) from error
        raise InputError(
            f"{path}: not an export of this toolkit; give a file that `probe export` wrote."
        ) from error
    if metadata.get("format") != FORMAT and not _was_one(path):
        raise InputError(
            f"{path}: not an export of this toolkit; give a file that `probe export` wrote."
        )
    version = str(metadata.get("version", ""))
    if version.isdigit() and int(version) > VERSION:
        raise InputError(
            f"{path}: was made by a later version of this toolkit (format {version}, and this one reads "
            f"{VERSION}); install that version, or export again with this one."
        )
    try:
        digest, _, stated = _digest(path)
    except ValueError as error:
        raise _changed(path) from error
    if digest != stated:
        raise _changed(path)


def _changed(path: Path) -> InputError:
    return InputError(
        f"{path}: has changed since it was written (its checksum differs), so it is not used; export it "
        "again, or copy it again from where it came."
    )


def _was_one(path: Path) -> bool:
    """Whether a file that does not read as an export looks like one that was damaged."""
    try:
        with open_regular(path) as file:
            return FORMAT.encode() in file.read(1 << 20)
    except OSError:
        return False


def _digest(path: Path) -> tuple[str, int, str]:
    """The file's SHA-256 without the digest in it, where that stands, and what it says.

    Raises:
        ValueError: There is no digest in it, or several.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > min(size, _HEAD):
            raise ValueError("no header")
        head = file.read(length)
        places = list(re.finditer(rb'"sha256":"([0-9a-f]{64})"', head))
        if len(places) != 1:
            raise ValueError("no digest")
        start, end = places[0].span(1)
        running = hashlib.sha256(length.to_bytes(8, "little"))
        running.update(head[:start] + _BLANK + head[end:])
        while block := file.read(1 << 20):
            running.update(block)
    return running.hexdigest(), 8 + start, places[0][1].decode()


def _about(recorded: Mapping[str, Any]) -> About:
    """What a file says of itself, every value of the type that it must have.

    Raises:
        TypeError, ValueError: A value is missing, or of another type.
    """
    known = {each.name for each in fields(About)}
    values = {name: _tuple(value) for name, value in recorded.items() if name in known}
    about = About(**values)
    _check_types(about, About)
    if about.kind not in get_args(Kind) or about.precision not in PRECISIONS:
        raise ValueError(f"the kind {about.kind!r}, the precision {about.precision!r}")
    promise = about.promised
    _check_types(promise, type(promise))
    if isinstance(promise, NumberPromise):
        shares = [promise.within]
        ordered = 0 <= promise.low <= promise.mae <= promise.high and promise.sd >= 0
    else:
        shares, ordered = [promise.accuracy, promise.low, promise.high, promise.within], True
    if not (ordered and all(0 <= share <= 1 for share in shares)) or promise.effective < 0:
        raise ValueError("a promise that is none")
    lists = (about.head.get("shape", []), about.weights.get("seed", 0), about.input.get("size", []))
    sides = [side for each in lists for side in (each if isinstance(each, list) else [each])]
    if not all(type(side) is int and 0 <= side < 1 << 31 for side in sides):
        raise ValueError("a shape or a seed that is none")
    if about.head and not (about.head.get("shape") and "place" in about.head):
        raise ValueError("a head without its place")
    if not {"images", "source"} <= set(about.trained_on):
        raise ValueError("nothing that it was trained on")
    if bool(about.classes) == about.is_number or len(set(about.classes)) < len(about.classes):
        raise ValueError("no classes, or one twice, or those of a number")
    return about


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_types(values: Any, kind: type) -> None:
    for name, wanted in get_type_hints(kind).items():
        value = getattr(values, name)
        if value is None and type(None) in get_args(wanted):
            continue
        if not is_of(value, wanted) or (isinstance(value, float) and not isfinite(value)):
            raise TypeError(f"{name} is {str(value)[:_SHOWN]!r}")


def _contents(about: About, tensors: Mapping[str, Tensor]) -> Contents:
    arrays = {n: t.numpy() for n, t in tensors.items() if not n.startswith(_NETWORK)}
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError(f"{name} is not of finite float32 numbers")
    scaler = Scaler(arrays["features.mean"], arrays["features.scale"])
    weight, bias = arrays["probe.weight"], arrays["probe.bias"]
    classes, dim = 1 if about.is_number else len(about.classes), len(scaler.mean)
    r = len(arrays["distance.variances"])
    shapes = {
        "features.mean": (dim,), "features.scale": (dim,), "probe.weight": (classes, dim),
        "probe.bias": (classes,), "distance.axes": (r, dim), "distance.variances": (r,),
        "distance.rest": (1,),
    }  # fmt: skip
    if any(arrays[name].shape != shape for name, shape in shapes.items()):
        raise ValueError("tensors of other shapes than its classes and features have")
    quantiles = arrays["distance.quantiles"]
    if not r or quantiles.ndim != 1 or not len(quantiles):
        raise ValueError("no distances")
    axes = Axes(
        arrays["distance.axes"], arrays["distance.variances"], float(arrays["distance.rest"][0])
    )
    known = arrays.get("distance.typical")
    typical = None if known is None else Typical(*map(float, known))
    network = {
        name.removeprefix(_NETWORK): tensor
        for name, tensor in tensors.items()
        if name.startswith(_NETWORK)
    }
    return Contents(
        about,
        LinearProbe(scaler, weight, bias, about.unit_rows),
        Distance(scaler, axes, quantiles, typical),
        network,
    )
