"""The settings that decide features, and the attributes of a feature file that record them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from features.backbone import Backbone
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.pipeline import ExtractJob
from features.images import jpeg, preprocess
from features.images.views import canvas, canvas_before
from features.store.contents import FileContents

_DATA_SETS = {"adience", "fairface", "imagenet", "lfw", "utkface", "vggface", "vggface2"}
"""Names that a folder or file has for what is in it, wherever they stand in its own name."""


def seen_in_training(backbone: Backbone, source: str) -> list[str]:
    """The data sets on which the weights were trained and from which the study seems to be.

    `adience` matches `adience:faces`, by `faces/Adience/x.csv` and by `adience_aligned.csv`; a name that is
    of no known data set, such as `faces`, matches a folder or a file that is called so and nothing else.
    """
    trained_on = backbone.architecture.card.trained_on if backbone.weights else ()
    where = source.lower().partition("?")[0].rstrip("/\\")
    parts = re.split(r"[/\\:]", re.sub(r"\.(csv|tsv|parquet|npz|h5|hdf5)$", "", where))
    names = {_plain(part) for part in parts}
    names |= _DATA_SETS & set(re.split(r"[^a-z0-9]+", parts[-1]))
    return [name for name in trained_on if name == source or _plain(name) in names - {""}]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def layer_attributes(pooled: pooling.Pooled, job: ExtractJob) -> dict[str, Any]:
    """The attributes of one data set, as features/store/featurefile.py specifies them."""
    traced = job.backbone.architecture.traced
    return {
        "key": pooled.key,
        "dim": pooled.dim,
        "layer": pooled.layer.name,
        "module": pooled.layer.module.replace("\0", "_"),  # HDF5 ends a text at a NUL
        "pool": pooled.pool,
        "shape": list(pooled.layer.shape),
        "depth": pooled.layer.depth,
        "output": pooled.layer.output.words,
        "order": traced.at(pooled.layer.module).order,
        **({} if pooled.view == "center" else _view(pooled.view, job)),
    }


def _view(view: str, job: ExtractJob) -> dict[str, Any]:
    """A view and the canvas that its crops are cut from."""
    height, width = canvas(view, job.backbone.architecture.input).size
    return {"view": view, "canvas": f"{height} x {width}"}


def network_of(backbone: Backbone) -> dict[str, Any]:
    """The settings that decide a backbone's features, without its name."""
    card, file = backbone.architecture.card, backbone.weights
    return {
        "network": _network_name(card.network),
        "options": dict(card.options),
        "preprocessing": preprocess.describe(backbone.architecture.input),
        "weights": file.identity if file else f"random, seed {backbone.seed}",
    }


def _network_name(network: str) -> str:
    """The network's name without the path of its folder, whose content the weights identify."""
    kind, _, name = network.partition(":")
    if kind == "onnx" or (kind == "hf" and Path(name).is_dir()):
        return f"{kind}:{Path(name).absolute().name}"
    return network


def decisive(job: ExtractJob) -> dict[str, Any]:
    """The settings that decide the features in a file."""
    return {
        "backbone": job.backbone.name,
        **network_of(job.backbone),
        "layers": job.backbone.architecture.named,
        "dtype": job.dtype,
        "images": job.study.images_hash,
        **({} if job.precision == "float32" else {"precision": job.precision}),
    }


def contract(job: ExtractJob) -> str:
    """SHA-256 of the settings that decide the features."""
    return hashlib.sha256(json.dumps(decisive(job), sort_keys=True).encode()).hexdigest()


def check_contract(job: ExtractJob, path: Path, attributes: Mapping[str, Any]) -> None:
    """Refuse to mix features that were computed with different settings.

    Args:
        job: The job of this run.
        path: The feature file that it would write to.
        attributes: The root attributes of that file.

    Raises:
        InputError: The file was computed with other settings.
    """
    if attributes["contract"] == contract(job):
        return
    before, now = json.loads(attributes.get("decisive", "{}")), decisive(job)
    differ = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    raise InputError(
        f"{path}: made with another {' and '.join(differ)}; `probe remove {job.backbone.name}` "
        "removes it, or give your card another name to keep both."
    )


def check_outputs(job: ExtractJob, path: Path, contents: FileContents) -> None:
    """Refuse a file with a layer that the traced network shows to have been read wrongly.

    Older files do not record outputs: all their layers were read as vectors or as maps with channels
    first.

    Args:
        job: The job of this run.
        path: The feature file that it would write to.
        contents: The contents of that file.

    Raises:
        InputError: A module cannot be a layer, or its output was pooled as another kind.
    """
    architecture = job.backbone.architecture
    for key, (module, then) in contents.read_as.items():
        now = architecture.outputs.get(module)
        why = architecture.refused.get(module, "")
        if now is not None and now.kind != "vector" and then != now.words:
            correct = not then and (now.kind == "map" or contents.poolings[key][1] == "none")
            if not correct:
                why = f"it was read as {then or 'a map'} and is {now.words}"
        if why:
            raise InputError(
                f"{path}: layer {key} holds wrong numbers, {why}; `probe remove {job.backbone.name}` "
                "and extract it again."
            )


def check_canvases(job: ExtractJob, path: Path, contents: FileContents) -> None:
    """Refuse to add rows to ten crops that were cut from another canvas.

    Raises:
        InputError: They were, as files of before where a card resizes to the crop's own size.
    """
    wanted = job.backbone.architecture.input
    now = "{} x {}".format(*canvas("10crop", wanted).size)
    for then in contents.canvases.values():
        before = then or "{} x {}".format(*canvas_before(wanted))
        if before != now:
            raise InputError(
                f"{path}: its ten crops were cut from {before} pixels and now they are cut from {now}; "
                f"write `canvas = [{before.replace(' x ', ', ')}]` under [input] of the card to go on, or "
                f"`probe remove {job.backbone.name}` and extract it again."
            )


def grown(attributes: Mapping[str, Any], images: str) -> dict[str, Any]:
    """The attributes of a file that change when its study gains rows; `images` is the study's new hash."""
    settings = json.loads(attributes.get("decisive", "{}"))
    if "images" not in settings:  # imported features
        return {"images": images}
    settings["images"] = images
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return {"images": images, "decisive": json.dumps(settings), "contract": digest}


def batch_size_of(contents: FileContents | None) -> int | None:
    """The images per forward pass with which a feature file was computed; None if unknown."""
    made_with = json.loads(contents.attributes["made_with"]) if contents else {}
    return int(made_with["batch_size"]) if "batch_size" in made_with else None


def made_by() -> dict[str, str]:
    """What must be the same wherever features of one file are computed."""
    versions = {"toolkit": version("transfer-probe"), "torch": torch.__version__}
    return {**versions, "decoder": jpeg.name()}


def file_attributes(job: ExtractJob) -> dict[str, Any]:
    """The root attributes of a feature file."""
    backbone = job.backbone
    card = asdict(backbone.architecture.card)
    card["file"] = None
    file = backbone.weights
    weights: dict[str, Any] = {}
    if file:
        weights = {"file": file.source, "sha256": file.sha256, "verified": file.verified}
        weights |= {"part": file.entry.key} if file.entry.key else {}
    elif backbone.architecture.parameters:
        weights = {"random": True, "seed": backbone.seed}
    made_with = {
        "toolkit": version("transfer-probe"),
        "torch": torch.__version__,
        "h5py": h5py.__version__,
        "numpy": np.__version__,
        "pillow": version("pillow"),
        "decoder": jpeg.name(),
        "device": str(job.device),
        "precision": job.precision,
        "threads": job.threads,
        "batch_size": job.batch_size,
    }
    return {
        "backbone": backbone.name,
        "domain": backbone.domain,
        "licence": backbone.architecture.card.licence or "",
        "parameters": backbone.architecture.parameters,
        "preprocessing": preprocess.describe(backbone.architecture.input),
        "trained_on_this": json.dumps(seen_in_training(backbone, job.study.source)),
        "images": job.study.images_hash,
        "synthetic": job.study.synthetic,
        "contract": contract(job),
        "decisive": json.dumps(decisive(job)),
        "card": json.dumps(card),
        "weights": json.dumps(weights),
        "made_with": json.dumps(made_with),
    }
