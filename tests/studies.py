"""Studies made of arrays, without a network or an image."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from features.arrays import Doubles, Floats, Ints
from features.data.manifest import Manifest
from features.data.tasks import Task
from features.store.making import create
from features.store.writer import Writer
from features.study.drafting import draft
from features.study.saving import save
from features.study.study import Study, open_study
from probe.analysis.curves import Panel, TaskCurves, curves
from probe.fitting.fit import fit
from probe.results import predictions


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


# One ordered task of three classes, and backbones of three layers.

LAYERS = ("low", "mid", "high")
DEPTHS = (0.25, 0.5, 1.0)


def labelled(folder: Path, closest: str | None = "faces", n: int = 120, **more: Any) -> Study:
    y = np.arange(n) % 3
    tasks = {"label": Task("label", ("0", "1", "2"), ordered=True)}
    people = np.arange(n) // 3 % (n // 6)
    return begin(folder, {"label": y}, tasks, closest, subject=people, **more)


def backbone(study: Study, name: str, apart: tuple[float, ...], **options: Any) -> None:
    """Layers `low`, `mid` and `high` that show the label as strongly as `apart` says."""
    y, seed = study.labels("label"), sum(name.encode())
    layers = {
        layer: signal(y, 6, strength, seed + i)
        for i, (layer, strength) in enumerate(zip(LAYERS, apart, strict=True))
    }
    add(study, name, layers, **({"depths": DEPTHS} | options))


def pair(folder: Path, **card: Any) -> Study:
    """`near`, of faces, names `far`, of objects, as its pair."""
    study = labelled(folder)
    backbone(study, "near", (0.3, 0.8, 2.0), domain="faces", card={"pair": "far"} | card)
    backbone(study, "far", (0.4, 0.6, 0.3), domain="objects")
    fit(study.folder, probes=("ridge",))
    return study


def predicted(study: Study, name: str, layer: str, method: str, task: str) -> Ints:
    """The class of the highest stored score, `(n,)`, read by NumPy alone."""
    path = predictions.file_of(study.folder / "predictions", (task, name, layer, method))
    with np.load(path) as file:
        return np.asarray(file["scores"].argmax(1))


def right(
    study: Study, name: str, layer: str, method: str = "ridge", task: str = "label"
) -> Doubles:
    """1 where the stored scores are highest for the true class, else 0, `(n,)`."""
    hits = predicted(study, name, layer, method, task) == study.labels(task)
    return hits.astype(np.float64)


def wider(
    study: Study, weights: Mapping[tuple[str, str, str], float], task: str = "label"
) -> float:
    """What widens the error of a weighted sum of five-fold results, from their files by NumPy alone.

    `weights` are by backbone, layer and method.
    """
    y, hits, inside = study.labels(task), np.zeros(len(study)), np.zeros((len(study), 5))
    for (name, layer, method), weight in weights.items():
        path = predictions.file_of(study.folder / "predictions", (task, name, layer, method))
        with np.load(path) as file:
            hits += weight * (file["scores"].argmax(1) == y)
            guessed = file["inner"]
        inside += weight * np.where(guessed < 0, np.nan, guessed == y[:, None])
    scale = 2.0 if any(layer == "best" for _, layer, _ in weights) else 1.5
    share = scale * np.nanvar(inside, axis=1, ddof=1).mean() / max(hits.var(), 1e-12)
    return float(np.sqrt(1 + min(1.0, share)))


def only(study: Study) -> TaskCurves:
    """The curves of the study's only task."""
    (task,) = curves(open_study(study.folder))
    return task


def panel(study: Study) -> Panel:
    """The only panel of the study's only task."""
    (panel,) = only(study).panels
    return panel


# Two tasks, a pair of backbones and random weights.

STRENGTHS = {"near": (0.3, 0.8, 1.6), "far": (0.4, 0.5, 0.4), "near@random": (0.1, 0.1, 0.1)}


def three(folder: Path, strengths: dict[str, tuple[float, ...]] = STRENGTHS) -> Study:
    """Faces, their pair of objects, and random weights, on an ordered task; subjects of two images."""
    y = np.arange(180) % 3
    sexes = ["f" if i // 3 % 2 else "m" for i in range(180)]
    tasks = {
        "age": Task("age", ("0-2", "4-6", "8-12"), ordered=True),
        "sex": Task("sex", ("f", "m")),
    }
    labels = {"age": [tasks["age"].classes[v] for v in y], "sex": sexes}
    study = begin(folder, labels, tasks, "faces", subject=np.arange(180) // 2)
    cards = {"near": {"pair": "far"}, "far": {"pair": "near"}, "near@random": {"name": "near"}}
    for name, apart in strengths.items():
        random = "random" in name
        layers = {f"l{i}": signal(y, 6, one, sum(name.encode()) + i) for i, one in enumerate(apart)}
        add(
            study, name, layers, depths=(0.25, 0.5, 1.0), card=cards[name],
            domain="none" if random else "faces" if name == "near" else "objects",
            weights={"random": True, "seed": 0} if random else None,
        )  # fmt: skip
    fit(folder, tasks=("age",), probes=("ridge", "knn"))
    return open_study(folder)
