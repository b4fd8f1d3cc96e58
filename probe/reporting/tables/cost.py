"""The tables of backbones and of what their features cost: bytes on disk, width, seconds of computing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from features.store.featurefile import DONE
from features.store.seconds import Timing, read_seconds
from features.study.study import Study
from probe.reporting.tables.table import Cell, Column, Table

_BACKBONES = (
    Column("backbone", "backbone"), Column("domain", "domain"),
    Column("parameters", "parameters", "count"), Column("licence", "licence"),
    Column("weights", "weights"), Column("preprocessing", "preprocessing"),
)  # fmt: skip
_COST = (
    Column("backbone", "backbone"), Column("layer", "layer"), Column("pool", "pool"),
    Column("dim", "numbers per image", "count"), Column("bytes", "bytes on disk", "count"),
    Column("images", "images", "count"), Column("parameters", "parameters", "count"),
    Column("seconds_per_1000", "seconds for 1,000 images", "decimal"), Column("on", "on"),
)  # fmt: skip
_SECONDS = (
    "Seconds are those of the whole pass that computed the layer, from image files to features on disk; "
    "all layers (and backbones) of one pass have the same. Blank: not measured."
)


def backbone_tables(study: Study) -> tuple[Table, Table]:
    """The backbones of a study, and what each of their layers costs."""
    backbones: list[tuple[Cell, ...]] = []
    cost: list[tuple[Cell, ...]] = []
    for name in study.backbones():
        with study.features(name) as file:
            about = file.attributes
            parameters = int(about.get("parameters", 0))
            weights = _weights(json.loads(about.get("weights", "{}")))
            licence = str(about.get("licence", "")) or "not stated"
            backbones.append(
                (name, file.domain, parameters, licence, weights, str(about["preprocessing"]))
            )
            done = int((file.status == DONE).sum())
            seconds = read_seconds(study.feature_path(name))
            for key in file.keys:
                layer, measured = file.about(key), seconds.get(key)
                size = file.bytes(key)
                cost.append(
                    (
                        name, layer["layer"], layer["pool"], layer["dim"], size, done, parameters,
                        measured.per_thousand if measured else None, _on(measured),
                    )
                )  # fmt: skip
    return (
        Table("backbones", "Backbones", _BACKBONES, tuple(backbones)),
        Table("cost", "Cost", _COST, tuple(cost), _SECONDS),
    )


def _on(measured: Timing | None) -> str:
    """What the seconds were measured on: the device, and how it was used."""
    if measured is None:
        return ""
    words = [measured.device]
    if measured.device == "cpu":
        words.append(f"{measured.threads} threads")
    if measured.workers > 1:
        words.append(f"{measured.workers} workers")
    if measured.precision != "float32":
        words.append(measured.precision)
    if len(measured.together) > 1:
        words.append(f"{len(measured.together)} backbones at once")
    return ", ".join(words)


def _weights(weights: Mapping[str, Any]) -> str:
    if weights.get("random"):
        return f"random, seed {weights['seed']}" if "seed" in weights else "random"
    if "sha256" not in weights:
        return ""
    checked = "verified" if weights["verified"] else "unverified"
    return f"{weights['file']}, sha256 {weights['sha256'][:12]}, {checked}"
