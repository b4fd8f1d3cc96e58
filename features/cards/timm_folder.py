"""Folders that timm wrote, `timm:local-dir:DIR`, and its networks elsewhere, `timm:hf-hub:ORG/NAME`.

Such a folder has a config.json, which names one of timm's networks, its options and its preprocessing, and
a model.safetensors: that is what a card says, so a card is made of it. Of ORG/NAME both are in the cache of
huggingface_hub, or are fetched. No code of theirs runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.cards.card import Card, WeightsEntry
from features.cards.huggingface import folder_of, weights_file
from features.cards.published import installed_timm, timm_input
from features.cards.usable_input import is_usable
from features.errors import InputError
from features.machine.regular_files import read_regular

SOURCES = ("local-dir", "hf-hub")


def card_of_folder(source: str, name: str) -> Card:
    """The card of `timm:SOURCE:NAME`.

    Raises:
        InputError: There is no such folder, or its config.json is not timm's.
    """
    # never the name of one of the library's own networks
    short = Path(name).absolute().name if source == "local-dir" else name
    bare = Card(name=f"timm:{source}:{short}", domain="unknown", network=f"timm:{source}:{name}")
    if source == "local-dir" and not Path(name).expanduser().is_dir():
        raise InputError(f"{bare.network}: there is no folder {name}; give one that timm wrote.")
    folder = folder_of(bare, name)
    file = folder / "config.json"
    config = _config(file)
    published = config.get("pretrained_cfg", config)
    architecture, options = config.get("architecture"), config.get("model_args") or {}
    if not (
        isinstance(architecture, str)
        and isinstance(published, Mapping)
        and isinstance(options, Mapping)
    ):
        raise InputError(
            f"{file}: names no network of timm (architecture); give hf:{name} if transformers wrote it."
        )
    classes = config.get("num_classes", published.get("num_classes"))
    if classes is not None:
        options = {"num_classes": classes, **options}
    network = f"timm:{architecture}"
    try:
        resolved = installed_timm().data.resolve_data_config({}, dict(published), verbose=False)
        wanted = timm_input(network, resolved)
        why = None if is_usable(wanted) else "sizes, mean or std that no image can have"
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        why = f"{type(error).__name__}: {error}"
    if why is not None:
        raise InputError(
            f"{file}: does not say how images are prepared ({why}); write a card with network = "
            f'"{network}" and its own [input].'
        )
    weights = weights_file(folder) or folder / "model.safetensors"
    entry = WeightsEntry(path=str(weights.absolute()))
    if source == "hf-hub" and not weights.is_file():
        from huggingface_hub import hf_hub_url  # timm brings it

        entry = WeightsEntry(url=hf_hub_url(name, weights.name))
    return Card(
        name=bare.name,
        domain=bare.domain,
        network=network,
        options=options,
        input=wanted,
        weights=(entry,),
    )


def _config(file: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(read_regular(file))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is no JSON file ({error}); save the network again.") from error
    return config if isinstance(config, Mapping) else {}
