"""What features cost: bytes on disk, width, parameters, and seconds where a file tells them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from features.featurefile import DONE
from features.study import Study
from probe.tables import Cell, Column, Table

_BACKBONES = (
    Column("backbone", "backbone"), Column("domain", "domain"),
    Column("parameters", "parameters", "count"), Column("licence", "licence"),
    Column("weights", "weights"), Column("preprocessing", "preprocessing"),
)  # fmt: skip
_COST = (
    Column("backbone", "backbone"), Column("layer", "layer"), Column("pool", "pool"),
    Column("dim", "numbers per image", "count"), Column("bytes", "bytes on disk", "count"),
    Column("images", "images", "count"), Column("parameters", "parameters", "count"),
    Column("seconds", "seconds to extract", "decimal"),
)  # fmt: skip


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
            seconds = json.loads(about.get("made_with", "{}")).get("seconds")
            for key in file.keys:
                layer = file.about(key)
                size = file.bytes(key)
                cost.append(
                    (
                        name, layer["layer"], layer["pool"], layer["dim"], size, done, parameters,
                        None if seconds is None else float(seconds),
                    )
                )  # fmt: skip
    return (
        Table("backbones", "Backbones", _BACKBONES, tuple(backbones)),
        Table("cost", "Cost", _COST, tuple(cost), "Blank: not recorded."),
    )


def _weights(weights: Mapping[str, Any]) -> str:
    if weights.get("random"):
        return f"random, seed {weights['seed']}"
    if "sha256" not in weights:
        return ""
    checked = "verified" if weights["verified"] else "unverified"
    return f"{weights['file']}, sha256 {weights['sha256'][:12]}, {checked}"
