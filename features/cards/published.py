"""What the publisher of a network says of it: its preprocessing, its licence, its weights."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from features.cards import huggingface
from features.cards.card import Card, Input
from features.cards.suggestions import card_for
from features.errors import InputError


def published_input(card: Card, model: nn.Module) -> Input:
    """The preprocessing that the card gives, or else the one published with the network, built as `model`.

    Raises:
        InputError: Neither the card nor the network's publisher says how images are prepared.
    """
    if card.input is not None:
        return card.input
    kind, _, name = card.network.partition(":")
    if kind == "torchvision":
        weights = torchvision_weights(name)
        if weights is not None:
            return _torchvision_input(weights.transforms())
    if kind == "timm":
        config = installed_timm().data.resolve_model_data_config(model)
        return timm_input(card.network, config)
    if kind == "hf":
        return huggingface.published_input(card, name)
    if kind == "onnx" and card.file is None:
        size = getattr(model, "size", None) or (224, 224)
        raise InputError(
            f"{card.name}: the file does not say how images are prepared; "
            f"{card_for(Path(name).stem, card.network, size)}."
        )
    raise InputError(
        f"{card.file or card.name}: [input] is missing; add size, scale, mean and std, since "
        f"{card.network} publishes none."
    )


def projects(card: Card) -> bool:
    """Whether a network ends in an embedding and no classifier, as those of transformers and CLIP do."""
    kind, _, name = card.network.partition(":")
    clip = kind == "timm" and "clip" in name and "_ft_" not in name
    return kind == "hf" or (clip and "num_classes" not in card.options)


def with_licence(card: Card) -> Card:
    """The card; where it gives no licence, with that of the weights its library publishes."""
    kind, _, name = card.network.partition(":")
    if card.licence is not None or card.weights:
        return card
    if kind == "torchvision":
        meta = getattr(torchvision_weights(name), "meta", {})
        return replace(card, licence=meta.get("license", "BSD-3-Clause (torchvision)"))
    if kind == "timm":
        return replace(card, licence=getattr(timm_weights(name), "license", None))
    return card


def timm_weights(name: str) -> Any:
    """The default weights entry of a timm network (url, hf_hub_id, license), or None."""
    return installed_timm().get_pretrained_cfg(name)


def torchvision_weights(name: str) -> Any:
    """The default weights entry of a torchvision network (url, transforms, meta), or None."""
    from torchvision.models import get_model_weights

    try:
        return next(iter([get_model_weights(name).DEFAULT]), None)
    except (ValueError, AttributeError):
        return None


def installed_timm() -> Any:
    """The package timm.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise InputError(
            "timm is not installed; pip install 'transfer-probe[timm]' brings it."
        ) from error


def _torchvision_input(transforms: Any) -> Input:
    resize = list(transforms.resize_size)
    crop = list(transforms.crop_size)
    return Input(
        size=(crop[0], crop[-1]),
        resize=resize[0] if len(resize) == 1 else (resize[0], resize[1]),
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def timm_input(network: str, config: Mapping[str, Any]) -> Input:
    """The preprocessing that timm's settings describe.

    Raises:
        InputError: It is one that Input cannot describe.
    """
    channels, height, width = config["input_size"]
    resize = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    mode = config["crop_mode"]
    if channels != 3 or mode not in ("center", "squash") or (mode == "center" and height != width):
        raise InputError(
            f"{network}: its own preprocessing ({channels} channels, {height} x {width}, crop "
            f"mode {mode}) cannot be repeated exactly; write a card with its own [input]."
        )
    return Input(
        size=(height, width),
        resize=(resize[0], resize[1]) if mode == "squash" else resize[0],
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
