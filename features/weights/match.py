"""The tensors of a file beside those of a network, and the pairs that are certain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from features.cards.card import WeightsEntry
from features.errors import InputError
from features.formats.blobs import Blobs
from features.formats.numbered_names import numbers_in
from features.formats.recognise import read
from features.weights.assign import Target, assign
from features.weights.entries import split
from features.weights.needed import tensors_in


@dataclass(frozen=True)
class MatchRow:
    """A tensor of the network, a tensor of the file, or both where they are a pair."""

    network: str
    """The network's name; empty where the file's tensor has no pair."""
    network_shape: tuple[int, ...] | None
    file: str
    file_shape: tuple[int, ...] | None
    paired_by: str
    """`name`; `shape`, where no other layer has tensors of these shapes; `order`, where as many layers
    have on both sides, one after the other on one path; empty for no pair."""


@dataclass(frozen=True)
class Match:
    """The tensors side by side, in the network's order, those of the file without a pair last."""

    rows: list[MatchRow]
    rename: Mapping[str, str]
    """For a card: the file's layers that are paired by shape or order, and the network's names."""


def match(target: Target, file: Path) -> Match:
    """Compare a file of weights, or FILE#PART where it holds several networks, with a network.

    Raises:
        InputError: The file is damaged, or not weights.
    """
    file, part = split(str(file))
    if not file.exists():
        raise InputError(f"{file}: there is no such weights file; check the path.")
    blobs = read(file)
    wanted = target.model.state_dict()
    pairs = {name: (source, "name") for name, source in _by_name(target, blobs, file, part).items()}
    taken = {source for source, _ in pairs.values()}
    theirs = _layers({s: t for s, t in blobs.tensors.items() if s not in taken})
    own = _layers({n: wanted[n] for n in _in_order(target) if n not in pairs})
    rename: dict[str, str] = {}
    for module, layer, how in _certain_pairs(target, own, theirs, blobs.ordered):
        rename[layer] = module
        for part in own[module]:
            pairs[_join(module, part)] = (_join(layer, part), how)
    rows = []
    for name, tensor in wanted.items():
        if not name.endswith("num_batches_tracked") or name in pairs:
            source, how = pairs.get(name, ("", ""))
            shape = tuple(blobs.tensors[source].shape) if source else None
            rows.append(MatchRow(name, tuple(tensor.shape), source, shape, how))
    paired = {source for source, _ in pairs.values()}
    rows += [
        MatchRow("", None, s, tuple(t.shape), "")
        for s, t in blobs.tensors.items()
        if s not in paired
    ]
    return Match(rows, {layer.replace(".", r"\."): module for layer, module in rename.items()})


def _by_name(target: Target, blobs: Blobs, file: Path, part: str | None) -> Mapping[str, str]:
    """The pairs that `assign` makes by name, whether or not they are all that is needed."""
    as_it_stands = replace(blobs, flatten="chw", by_order=False)
    return assign(target, as_it_stands, WeightsEntry(key=part), file).sources


def _in_order(target: Target) -> list[str]:
    """The network's tensors in the order in which its modules run."""
    order = {name: fired.order for name, fired in target.traced.fired.items()}
    names = [n for n in target.model.state_dict() if not n.endswith("num_batches_tracked")]
    return sorted(names, key=lambda name: order.get(name.rpartition(".")[0], len(order) + 1))


def _layers(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, tuple[int, ...]]]:
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        layers.setdefault(layer, {})[part] = tuple(tensor.shape)
    return layers


def _certain_pairs(
    target: Target,
    own: Mapping[str, Mapping[str, tuple[int, ...]]],
    theirs: Mapping[str, Mapping[str, tuple[int, ...]]],
    ordered: bool,
) -> Iterator[tuple[str, str, str]]:
    """Module, layer, and whether shape or order makes them a pair."""
    alike: dict[Any, tuple[list[str], list[str]]] = {}
    for side, among in enumerate((own, theirs)):
        for layer, parts in among.items():
            kind = tuple(sorted(parts.items()))
            alike.setdefault(kind, ([], []))[side].append(layer)
    several = [modules for modules, layers in alike.values() if len(modules) == len(layers) > 1]
    below = _below(target.model, target.input.shape) if several else {}
    for modules, layers in alike.values():
        if len(modules) != len(layers):
            continue
        if len(modules) == 1:
            yield modules[0], layers[0], "shape"
            continue
        if not ordered:
            if len({numbers_in(layer)[0] for layer in layers}) > 1:
                continue
            layers = sorted(layers, key=lambda layer: numbers_in(layer)[1])
        if all(a in below.get(b, ()) for a, b in pairwise(modules)):
            for module, layer in zip(modules, layers, strict=True):
                yield module, layer, "order"


def _below(model: nn.Module, shape: tuple[int, ...]) -> dict[str, frozenset[str]]:
    """By module with tensors of its own, the modules that its output depends on; empty if unknown."""
    names = {
        tensor.untyped_storage()._cdata: name.rpartition(".")[0]
        for name, tensor in model.state_dict(keep_vars=True).items()
    }
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    seen = _Ancestors(names)
    try:
        with torch.no_grad(), seen:
            model.eval()(torch.zeros(1, *shape, device=device))
    except Exception:  # a network that fails on the meta device is listed without an order
        return {}
    return seen.below


class _Ancestors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Carries along with every tensor the modules whose parameters it depends on."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.below: dict[str, frozenset[str]] = {}
        self._names = names
        self._of: dict[int, frozenset[str]] = {}
        self._alive: list[Tensor] = []  # so that no id is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = list(tensors_in((args, kwargs)))
        reached = frozenset[str]().union(*(self._of.get(id(tensor), ()) for tensor in given))
        own = {self._names.get(tensor.untyped_storage()._cdata) for tensor in given} - {None}
        for name in own:
            if name is not None:
                self.below[name] = self.below.get(name, frozenset()) | reached
        for tensor in tensors_in(out):
            self._of[id(tensor)] = reached | {name for name in own if name is not None}
            self._alive.append(tensor)
        return out


def _join(layer: str, part: str) -> str:
    return f"{layer}.{part}" if layer else part
