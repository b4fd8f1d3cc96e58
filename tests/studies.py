"""Studies made of arrays, without a network or an image."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.data.manifest import Manifest
from features.data.tasks import Task
from features.store.making import create
from features.store.writer import Writer
from features.study.study import Study, draft, save

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def blobs(n: int, dim: int, classes: int, apart: float, seed: int = 0) -> tuple[Floats, Ints]:
    """Features whose class means lie about `apart` SDs from each other; labels in turn."""
    drawn = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = drawn.standard_normal((n, dim)) + apart * drawn.standard_normal((classes, dim))[y]
    return x.astype(np.float32), y


def signal(y: Ints, dim: int, apart: float, seed: int = 0) -> Floats:
    """Features that show class numbers `y` as strongly as `apart` says."""
    drawn = np.random.default_rng(seed)
    means = drawn.standard_normal((int(y.max()) + 1, dim))
    return (drawn.standard_normal((len(y), dim)) + apart * means[y]).astype(np.float32)


def begin(
    folder: Path,
    labels: Mapping[str, Sequence[object]],
    tasks: Mapping[str, Task] | None = None,
    closest: str | None = None,
    synthetic: bool = False,
    **more: Sequence[object],
) -> Study:
    """A study with label columns and, in `more`, subjects, folds and use."""
    columns = {name: [str(v) for v in values] for name, values in (*labels.items(), *more.items())}
    n = len(next(iter(columns.values())))
    columns["path"] = [f"{i:03}.png" for i in range(n)]
    made = draft(
        folder,
        Manifest("toys", folder, columns, tasks or {}, closest=closest, synthetic=synthetic),
    )
    save(made)
    return made


def add(
    study: Study,
    name: str,
    layers: Mapping[str, Floats],
    *,
    domain: str = "objects",
    card: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    depths: Sequence[float] | None = None,
    refused: Sequence[int] = (),
) -> None:
    """Features of a backbone; a key is LAYER or LAYER:POOL, and depths are even unless given."""
    n = len(study)
    names = list(dict.fromkeys(key.partition(":")[0] for key in layers))
    pooled = any(":" in key for key in layers)
    given = depths or [(i + 1) / len(names) for i in range(len(names))]
    about = []
    for key, x in layers.items():
        layer, _, pool = key.partition(":")
        place = names.index(layer)
        about.append(
            {
                "key": key, "dim": x.shape[1], "layer": layer, "module": f"net.{place}",
                "pool": pool or ("auto" if pooled else "none"), "shape": [x.shape[1]],
                "depth": given[place],
            }
        )  # fmt: skip
    attributes = {
        "backbone": name, "domain": domain, "licence": "", "parameters": 0,
        "preprocessing": "none", "images": study.images_hash, "synthetic": study.synthetic,
        "contract": name, "decisive": "{}", "made_with": "{}",
        "card": json.dumps({"name": name, "domain": domain} | dict(card or {})),
        "weights": json.dumps(dict(weights or {})),
    }  # fmt: skip
    path = study.feature_path(name)
    partial = path.with_name(path.name + ".partial")
    create(partial, n, np.arange(n), about, "float32", attributes)
    rows = np.setdiff1d(np.arange(n), np.array(refused, dtype=np.int64))
    with Writer(partial) as writer:
        writer.write(rows, {key: x[rows] for key, x in layers.items()})
        writer.refuse(dict.fromkeys(refused, "no image"))
    partial.rename(path)
