"""Importing features that were made elsewhere into a study: `.npy`, `.npz` and `.h5` arrays."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.arrays import Floats
from features.cards.layer_names import layer_name, may_be_called
from features.data.arrayfile import read_arrays, strings
from features.data.manifest import Manifest
from features.errors import InputError, OptionError, nearest
from features.extraction.files import without_merged
from features.machine.locks import lock_of, locked
from features.store.featurefile import UNKNOWN, FeatureFile
from features.store.making import create, finish
from features.store.paths import partial_of
from features.store.writer import Writer
from features.study.drafting import draft
from features.study.saving import begin
from features.study.study import Study, has_study, open_study

_LARGEST = 1e15


def import_features(
    study: Path | str,
    file: Path,
    *,
    name: str,
    layer: str,
    domain: str | None = None,
    depth: float = 1.0,
) -> Study:
    """Add one array of features to the study as layer `layer` of the backbone `name`.

    The file has one array `(n, dim)`, or several, one of them called `features` or like the layer. An
    existing study must have n rows, in the same order. A new one is begun from the file's arrays of
    length n: each is a label column, except that `path`, `subject` and `fold` have their own meaning.

    Args:
        study: The study's folder.
        file: `.npy`, `.npz`, `.h5` or `.hdf5`.
        name: The name of the backbone.
        layer: The name of the layer.
        domain: What the backbone was pretrained on; `none` for random weights. None: that of its
            other imported layers, or else `unknown`, which is compared with no domain.
        depth: The depth of the layer in the network, 0 to 1.

    Raises:
        InputError: The file, its shape or its numbers cannot be used.
    """
    folder = Path(study)
    if layer_name(layer) == f"{layer}_" and layer:
        raise OptionError(f"--layer {layer}: this word has another meaning; choose another name.")
    if not may_be_called(layer) or "\0" in name or not name:
        raise OptionError(f"--layer {layer!r}: a layer's name has no / and no colon.")
    if not 0 <= depth <= 1:
        raise OptionError(
            f"--depth {depth}: depth runs from 0, the input, to 1, the network's end."
        )
    arrays = read_arrays(file)
    features = _features(file, arrays, layer)
    n = len(features)
    is_new = not has_study(folder)
    if not is_new:
        opened = open_study(folder)
        if len(opened) != n:
            raise InputError(
                f"{file}: {n} rows of features for {len(opened)} rows of images.csv; give one row per "
                "image, in its order."
            )
    else:
        opened = draft(folder, _manifest(file, arrays, n))
    path = opened.feature_path(name)
    if os.path.lexists(path) and os.path.lexists(partial_of(path)):
        with locked(lock_of(path), str(path)):
            without_merged(path)
    domain = _domain(opened, name, layer, domain)
    if is_new:
        begin(opened)
    rows = np.arange(n)
    about = {
        "key": layer, "dim": features.shape[1], "layer": layer, "module": "", "pool": "none",
        "shape": [features.shape[1]], "depth": depth, "order": round(1000 * depth),
    }  # fmt: skip
    with locked(lock_of(path), str(path)):
        domain = _domain(opened, name, layer, domain)  # once more: another import may have ended
        partial = partial_of(path)
        create(
            partial, n, rows, [about], "float32", _attributes(opened, file, name, domain or UNKNOWN)
        )
        with Writer(partial) as writer:
            writer.write(rows, {layer: features})
        finish(partial, path, "none")
    return opened


def _domain(study: Study, name: str, layer: str, asked: str | None) -> str | None:
    """The domain of the layer, which is that of the others of its backbone; None if nothing says it.

    Raises:
        InputError: The layer cannot be added to the backbone as it is in the study.
    """
    path = study.feature_path(name)
    if not study.file_is_there(name):
        return asked
    with FeatureFile(path) as old:
        study.check_rows(path, old.attributes, len(old))
        if old.backbone != name:
            raise InputError(
                f"{path}: is the file of {old.backbone}, which has the same file name; choose another "
                "--name."
            )
        if layer in old.keys:
            raise InputError(
                f"{path}: has layer {layer} of {name} already; `probe remove {name}` removes it."
            )
        if not old.imported:
            raise InputError(f"{path}: {name} was extracted, not imported; choose another --name.")
        if asked not in (None, old.domain):
            raise InputError(
                f"--domain {asked}: the existing layers of {name} have the domain {old.domain}; leave "
                f"--domain out, or `probe remove {name}` first."
            )
        return old.domain


def _features(file: Path, arrays: Mapping[str, npt.NDArray[Any]], layer: str) -> Floats:
    wide = [key for key, array in arrays.items() if array.ndim >= 2]
    chosen = layer if layer in wide else "features" if "features" in wide else None
    if chosen is None:
        if len(wide) != 1:
            raise InputError(
                f"{file}: needs one array of shape (images, dim), or one called {layer}; "
                f"{nearest(layer, wide)}"
            )
        chosen = wide[0]
    features = arrays[chosen].reshape(len(arrays[chosen]), -1)
    if features.dtype.kind not in "fiu" or not features.size:
        raise InputError(
            f"{file}: the array {chosen} does not hold numbers; save features as floats."
        )
    features = np.ascontiguousarray(features, dtype=np.float32)
    bad = ~np.isfinite(features).all(1)
    if bad.any():
        raise InputError(
            f"{file}: layer {layer} has NaN or infinite features in {int(bad.sum())} rows (first: row "
            f"{int(np.flatnonzero(bad)[0])}); correct them."
        )
    if (most := float(np.abs(features).max())) > _LARGEST:
        raise InputError(
            f"{file}: layer {layer} has features as large as {most:.3g}, whose squares overflow float32; "
            "divide them by a constant."
        )
    return features


def _manifest(file: Path, arrays: Mapping[str, npt.NDArray[Any]], n: int) -> Manifest:
    columns = {key: strings(array) for key, array in arrays.items() if array.shape == (n,)}
    columns.setdefault("path", [f"row-{i:06}" for i in range(n)])
    if len(columns) == 1:
        raise InputError(
            f"{file}: begins a study but has no labels; add an array of length {n} per task, or "
            "import into an existing study."
        )
    return Manifest(str(file.resolve()), file.resolve().parent, columns)


def _attributes(study: Study, file: Path, name: str, domain: str) -> dict[str, Any]:
    return {
        "backbone": name,
        "domain": domain,
        "licence": "",
        "parameters": 0,
        "preprocessing": f"imported from {file.name}",
        "images": study.images_hash,
        "synthetic": study.synthetic,
        "contract": hashlib.sha256(f"imported {name}".encode()).hexdigest(),
        "decisive": json.dumps({"imported": file.name}),
        "card": json.dumps({"name": name, "domain": domain}),
        "weights": json.dumps({"random": True} if domain == "none" else {}),
        "made_with": json.dumps({"toolkit": version("transfer-probe")}),
    }
