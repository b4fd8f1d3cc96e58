"""A trained network as a backbone of its own: safetensors with a card beside it, one per fold.

`STUDY/networks/BACKBONE@TASK-METHOD-foldN.{safetensors,toml}`. The layers keep their names, so that
its features stand beside those of the network it came from. Every fold's network was trained on the other
folds' images: the metadata names its fold and the hash of the rows it was trained on.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from features.arrays import Ints
from features.backbone import Backbone
from features.cards.card import DeclaredOutput, Input
from features.cards.recorded import from_anywhere
from features.errors import InputError
from features.machine.files import file_name, replacing, sweep, write_text
from features.machine.regular_files import check_regular
from features.machine.strict_json import from_json
from features.machine.tensors import write_tensors
from features.weights import sha256_of
from probe.training.head import Network

_UNREAD = (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError)
"""What reading a file raises that is not what `write` wrote."""


def trained_name(backbone: str, tasks: tuple[str, ...], method: str, cut: str, fold: int) -> str:
    """The name of a trained network."""
    return f"{backbone}@{'+'.join(tasks)}-{method}{f'-{cut}' if cut else ''}-fold{fold}"


def origin_of(name: str) -> str | None:
    """The backbone that a trained network was copied from; None for any other, or one from scratch."""
    origin, at, made = name.rpartition("@")
    tuned = re.search(r"-(finetune|frozen|copied)[+-].*fold\d+$", made)
    return origin if at and tuned else None


def path_of(study: Path, name: str) -> Path:
    """The file of a trained network's weights; the card is beside it, as `.toml`."""
    return study / "networks" / f"{file_name(name)}.safetensors"


def write(
    study: Path,
    name: str,
    network: Network,
    backbone: Backbone,
    *,
    seen: Ints,
    about: dict[str, Any],
) -> Path:
    """Write weights and card; returns the card's path.

    Args:
        study: The study's folder.
        name: The name of the new backbone.
        network: The trained network.
        backbone: The backbone it came from.
        seen: The rows it was trained on.
        about: What else the metadata holds.
    """
    file = path_of(study, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors, options = _tensors(network, backbone)
    metadata = {**about, "rows": rows_hash(seen)}
    sweep(file)
    sweep(file.with_suffix(".toml"))
    with replacing(file) as written:
        write_tensors(written, tensors, {"made": json.dumps(metadata)})
    card = _card(name, file, options, backbone, about)
    write_text(file.with_suffix(".toml"), card)
    return file.with_suffix(".toml")


def read(study: Path, name: str, seen: Ints) -> dict[str, Tensor]:
    """The tensors of a network trained here on the rows `seen`, by the names of its backbone.

    Raises:
        InputError: There is no such network, or it was trained on other rows.
    """
    file = _existing(study, name)
    try:
        check_regular(file)
        with safe_open(file, "pt") as opened:
            metadata = from_json(opened.metadata()["made"])
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except _UNREAD as error:
        raise InputError(f"{file}: damaged; train it again with --save --redo.") from error
    if metadata.get("rows") != rows_hash(seen):
        raise InputError(
            f"{file}: was trained on other rows than this fold's training rows, so the test images may "
            "be among them; train it again with --save, on the same folds."
        )
    return tensors


def made_under(study: Path, name: str) -> dict[str, str] | None:
    """The hash by task of the protocol that a kept network was trained under; None without a whole one."""
    file = path_of(study, name)
    if not file.with_suffix(".toml").is_file():
        return None
    try:
        check_regular(file)
        with safe_open(file, "pt") as opened:
            protocol = from_json(opened.metadata()["made"]).get("protocol")
    except _UNREAD:
        return None
    return dict(protocol) if isinstance(protocol, dict) else None


def digest(study: Path, name: str) -> str:
    """SHA-256 of the file of a network trained here.

    Raises:
        InputError: There is no such network.
    """
    return sha256_of(_existing(study, name))


def _existing(study: Path, name: str) -> Path:
    file = path_of(study, name)
    if not file.is_file():
        raise InputError(
            f"{file}: no such network was trained here; run `probe finetune` for it with --save first."
        )
    return file


def rows_hash(rows: Ints) -> str:
    """SHA-256 of a set of rows."""
    return hashlib.sha256(np.sort(rows).astype(np.int64).tobytes()).hexdigest()


def declared_as(output: DeclaredOutput | None) -> dict[str, Any] | None:
    """The table of `[layers]` that declares a layer's output; None where no card does."""
    if output is None:
        return None
    values = {field.name: getattr(output, field.name) for field in fields(DeclaredOutput)}
    return {name: value for name, value in values.items() if value not in (None, False)}


def _tensors(network: Network, backbone: Backbone) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors under the backbone's names, and the options of a network that takes them."""
    weight, bias = network.head.folded()
    state = {name: tensor.detach().cpu() for name, tensor in network.body.state_dict().items()}
    options = dict(backbone.architecture.card.options)
    if network.place is not None:
        state = {n: t for n, t in state.items() if not n.startswith(f"{network.place}.")}
        own = backbone.model.get_submodule(network.place)
        ours = {f"{network.place}.{n}": t for n, t in own.state_dict().items()}
        if _is_linear(own):
            shape = (len(weight), *own.weight.shape[1:])  # type: ignore[index]
            ours = {f"{network.place}.weight": weight.reshape(shape)}
            if own.bias is not None:
                ours[f"{network.place}.bias"] = bias
            options["num_classes"] = len(weight)
        state |= ours
    # Also under names of their own, for a network whose head stands on its output.
    state |= {"head.weight": weight, "head.bias": bias}
    return {n: t.detach().cpu().contiguous().clone() for n, t in state.items()}, options


def _is_linear(own: nn.Module) -> bool:
    """Whether a network's own classifier is linear, so that the head's weights fit it."""
    one_by_one = isinstance(own, nn.Conv2d) and set(own.kernel_size) == {1}
    return isinstance(own, nn.Linear) or one_by_one


def _card(
    name: str, file: Path, options: dict[str, Any], backbone: Backbone, about: dict[str, Any]
) -> str:
    architecture = backbone.architecture
    card = from_anywhere(architecture.card)
    head: dict[str, Any] = {
        "name": name,
        "domain": "task",
        "network": card.network,
        "options": options,
        "pretraining": "+".join(about["tasks"]),
        "pair": backbone.architecture.card.name,
        "trained_on": [*card.trained_on, about["data"]],
        "licence": card.licence,
        "citation": card.citation,
        "homepage": card.homepage,
    }
    document = tomlkit.document()
    document.add(
        tomlkit.comment(
            f"Trained here: {about['method']}, fold {about['fold']}; only that fold's images are new to it."
        )
    )
    for key, value in head.items():
        if value not in (None, {}, []):
            document.add(key, _item(value))
    read = {field.name: getattr(architecture.input, field.name) for field in fields(Input)}
    document["input"] = {key: _item(value) for key, value in read.items() if value is not None}
    document["layers"] = {
        layer.name: _item(declared_as(card.outputs.get(layer.name)) or layer.module)
        for layer in architecture.layers
    }
    weights = {"path": file.name, "format": "safetensors", "sha256": sha256_of(file)}
    document["weights"] = tomlkit.aot()
    document["weights"].append(tomlkit.item(weights))
    return tomlkit.dumps(document)


def _item(value: Any) -> Any:
    """A value as TOML has it: a tuple as a list, a mapping as one line."""
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update({key: _item(item) for key, item in value.items()})
        return table
    return [_item(item) for item in value] if isinstance(value, list | tuple) else value
