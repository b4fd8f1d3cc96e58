"""What a person types for a network, of which a study has the card or only the name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.backbone import Architecture, describe
from features.cards.reading import shipped
from features.errors import InputError
from features.store.featurefile import FeatureFile
from features.study.study import Study

_TIMM_FOLDER = "timm:local-dir:"


def typed(
    backbone: str, card: Mapping[str, Any], notes: list[str]
) -> tuple[str, Architecture | None]:
    """What a person typed for a backbone, and its architecture where that can be had."""
    name, network = str(card["name"]), str(card["network"])
    # the card made of what timm wrote names the library's own network
    if name.startswith(_TIMM_FOLDER):
        network = f"{_TIMM_FOLDER}{Path(card['weights'][0]['path']).parent}"
    elif name.startswith("timm:hf-hub:"):
        network = name
    told = ("hf:", "onnx:", _TIMM_FOLDER)
    if name not in shipped() and name != network and not network.startswith(told):
        notes.append(f"{backbone}: its card is a file of yours; write its path")
        return f"./{name}.toml", None
    known = name if name in shipped() else network
    try:
        return known, describe(known)
    except InputError:
        return known, None


def typed_names(study: Study) -> dict[str, str]:
    """What a person typed for the networks whose features are there, by the names of their cards."""
    names = {}
    for path in study.finished_files():
        with FeatureFile(path) as file:
            card = json.loads(file.attributes.get("card", "{}"))
            if "name" in card and "network" in card:
                names[card["name"]] = typed(file.backbone, card, [])[0]
    return names


def typed_again(name: str, names: Mapping[str, str], notes: list[str]) -> str:
    """What a person types for a network that was trained, of which a result has only the name."""
    if name in names:
        return names[name]
    if name.startswith(_TIMM_FOLDER) or (name.startswith("hf:") and "/" not in name):
        notes.append(f"{name}: where its folder lies is not told; write its path")
    elif name not in shipped() and not name.startswith(("torchvision:", "timm:", "hf:")):
        notes.append(f"{name}: its card is a file of yours; write its path")
        return f"./{name}.toml"
    return name
