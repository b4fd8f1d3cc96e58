"""The default layers of a network without a card: stem, blocks, the last norm or pool, the embedding.

A block is where paths meet again: a module in whose own code two activations are added, or joined with
new ones, and that occurs several times or beside others that do. Of nested blocks the outermost counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from torch import nn

from features.cards.outputs import Output
from features.cards.trace import Fired, Trace

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Modules that only hold others; a class derived from them may compute something itself."""
_SILENT = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.AlphaDropout)
_KEEPS = ("Flatten", "Dropout", "Identity")
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
EMBEDDING = "pre_logits"


@dataclass(frozen=True)
class Default:
    """The default layers of a network: module by layer name, in depth order."""

    layers: dict[str, str]
    also: dict[str, str]
    """Named layers that are left out of the default, since another layer has the same numbers."""


def default_layers(
    model: nn.Module, traced: Trace, outputs: Mapping[str, Output], *, projects: bool = False
) -> Default:
    """The default layers of a network; without blocks each convolution after its ReLU, and the pools.

    Args:
        model: The network.
        traced: Its trace.
        outputs: The kind of tensor by module, of those that can be layers.
        projects: Whether its last layer projects to an embedding and is no classifier.
    """
    modules = dict(model.named_modules())
    blocks = _blocks(modules, traced, outputs)
    if not blocks:
        return Default(_chain(modules, traced, outputs), {})
    fired = traced.fired
    first = min(fired[name].begun for name in blocks)
    last = max(fired[name].order for name in blocks)
    before = [
        n for n, f in fired.items() if f.order <= first and n in outputs and _does(modules, f)
    ]
    chosen = [*before[-1:], *(_tensor_of(name, traced, outputs) or name for name in blocks)]
    top = _top(modules, traced, last)
    below = fired[top].begun if top is not None and not projects else _end(traced)
    after = [f for f in fired.values() if f.begun >= last and f.order <= below]
    after = [f for f in after if f.module in outputs and not _holds(f.module, top)]
    norm = next((f for f in reversed(after) if _is_norm(modules[f.module])), None)
    embedding = _embedding(modules, after, outputs)
    also: dict[str, str] = {}
    layers = {name: name for name in chosen}
    if norm is not None:
        layers[norm.module] = norm.module
    if embedding is not None:
        name = EMBEDDING if _only_passes(modules[embedding.module]) else embedding.module
        between = [f for f in after if norm is not None and norm.order < f.order <= embedding.order]
        pooled_norm = norm is not None and all(_only_passes(modules[f.module]) for f in between)
        if pooled_norm:
            also[name] = embedding.module
        else:
            layers[name] = embedding.module
    return Default(dict(sorted(layers.items(), key=lambda item: traced.at(item[1]).order)), also)


def _chain(
    modules: Mapping[str, nn.Module], traced: Trace, outputs: Mapping[str, Output]
) -> dict[str, str]:
    """The leaves of a network without blocks, each read after the norm and the ReLU that follow it."""
    leaves = [f for f in traced.fired.values() if f.leaf and f.module in outputs]
    leaves = [f for f in leaves if not _only_passes(modules[f.module])]
    top = _top(modules, traced, 0)
    kept = [
        fired.module
        for fired, after in pairwise([*leaves, None])
        if fired is not None
        and fired.module != top
        and (
            after is None
            or after.shape != fired.shape
            or after.weight_module == after.module
            or isinstance(modules[after.module], _POOLS)
        )
    ]
    return {name: name for name in kept or [f.module for f in leaves]}


def _end(traced: Trace) -> int:
    """The order of the last call."""
    return max(f.order for f in traced.fired.values())


def _blocks(
    modules: Mapping[str, nn.Module], traced: Trace, outputs: Mapping[str, Output]
) -> list[str]:
    """The outermost modules where paths meet, those beside them in the same lists, in order."""
    meets = [name for name in traced.meetings if name in traced.fired]
    kinds = Counter(type(modules[name]) for name in meets)
    parents = Counter(_parent(name) for name in meets)
    blocks = {
        name
        for name in modules
        if name in traced.fired
        and name
        and type(modules[name]) in kinds
        and (kinds[type(modules[name])] > 1 or parents[_parent(name)] > 1)
    }
    blocks = _readable(modules, traced, _outermost(blocks), outputs)
    blocks = _outermost(blocks | set(_lifted(modules, traced, blocks)))
    blocks = _outermost(blocks | set(_beside(modules, traced, blocks)))
    blocks = {name for name in blocks if _tensor_of(name, traced, outputs) is not None}
    return sorted(blocks, key=lambda name: traced.fired[name].order)


def _readable(
    modules: Mapping[str, nn.Module],
    traced: Trace,
    blocks: Collection[str],
    outputs: Mapping[str, Output],
) -> set[str]:
    """The blocks that can be layers; for others, such as blocks on windows, the module around them."""
    readable: set[str] = set()
    for block in blocks:
        name = block
        while name and (type(modules[name]) in _LISTS or _tensor_of(name, traced, outputs) is None):
            name = _parent(name)
        readable |= {name} - {""}
    return _outermost(readable)


def _tensor_of(name: str, traced: Trace, outputs: Mapping[str, Output]) -> str | None:
    """The name of a module's output that can be a layer: the module, or the last such part of it."""
    if name in outputs:
        return name
    parts = [part for part, f in traced.parts.items() if f.module == name and part in outputs]
    return parts[-1] if parts else None


def _lifted(
    modules: Mapping[str, nn.Module], traced: Trace, blocks: Collection[str]
) -> Iterator[str]:
    """Modules made of nothing but different blocks, in every instance the same ones."""
    made: dict[type, set[tuple[type, ...]]] = {}
    parents: dict[str, list[str]] = {}
    for block in blocks:
        parent = _parent(block)
        while parent and type(modules[parent]) in _LISTS:
            parent = _parent(parent)
        if parent:
            parents.setdefault(parent, []).append(block)
    for parent, inside in parents.items():
        made.setdefault(type(modules[parent]), set()).add(
            tuple(type(modules[name]) for name in sorted(inside))
        )
    for parent, inside in parents.items():
        kinds = made[type(modules[parent])]
        alone = len({name.removeprefix(parent) for name in inside}) == len(inside)
        rest = [
            name
            for name, f in traced.fired.items()
            if name.startswith(f"{parent}.") and f.leaf and f.weight_module == name
            and not any(name.startswith(f"{block}.") for block in inside)
        ]  # fmt: skip
        many = sum(type(modules[name]) is type(modules[parent]) for name in parents) > 1
        unlike = len(set(next(iter(kinds)))) > 1
        if many and alone and not rest and len(kinds) == 1 and unlike and parent in traced.fired:
            yield parent


def _beside(
    modules: Mapping[str, nn.Module], traced: Trace, blocks: Collection[str]
) -> Iterator[str]:
    """Modules in the same list as a block, or in a list beside that: blocks without a shortcut."""
    lists = {_parent(b) for b in blocks if type(modules[_parent(b)]) in _LISTS}
    families = {_parent(n) for n in lists if n and type(modules[_parent(n)]) in _LISTS}
    for name, module in modules.items():
        parent = _parent(name) if name else ""
        if not name or name not in traced.fired or type(module) in _LISTS:
            continue
        near = parent in lists or (
            bool(parent) and type(modules[parent]) in _LISTS and _parent(parent) in families
        )
        weighted = sum(
            f.leaf and f.weight_module == n
            for n, f in traced.fired.items()
            if n.startswith(f"{name}.")
        )
        if near and weighted > 1:
            yield name


def _outermost(names: set[str]) -> set[str]:
    return {n for n in names if not any(_holds(other, n) for other in names if other != n)}


def _holds(outer: str, name: str | None) -> bool:
    return name is not None and name.startswith(f"{outer}.")


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _top(modules: Mapping[str, nn.Module], traced: Trace, last: int) -> str | None:
    """The classifier: the last weight layer, where it comes after the last block and gives a vector.

    Of several that give as many scores, as in a distilled network, the first.
    """
    weighted = [
        fired
        for name, fired in traced.fired.items()
        if fired.leaf and fired.begun >= last and isinstance(modules[name], nn.Linear | nn.Conv2d)
    ]
    if not weighted or sum(side > 1 for side in weighted[-1].shape) > 1:
        return None
    if any(_holds(outer, weighted[-1].module) for outer in traced.meetings):
        return None  # a pooling of tokens that has weights of its own
    return next(fired.module for fired in weighted if fired.shape == weighted[-1].shape)


def _embedding(
    modules: Mapping[str, nn.Module], after: list[Fired], outputs: Mapping[str, Output]
) -> Fired | None:
    """The last vector before the classifier; before modules that only pass it on."""
    vectors = [f for f in after if outputs[f.module].kind == "vector"]
    if not vectors:
        return None
    active = [f for f in vectors if not _only_passes(modules[f.module])]
    passed = vectors[-1]
    if active and all(
        prod(f.shape) == prod(passed.shape) for f in vectors[vectors.index(active[-1]) :]
    ):
        return active[-1]
    return passed


def _does(modules: Mapping[str, nn.Module], fired: Fired) -> bool:
    return not isinstance(modules[fired.module], _SILENT)


def _only_passes(module: nn.Module) -> bool:
    """Whether a module passes its input on, in another shape at most."""
    return isinstance(module, _SILENT) or type(module).__name__ in _KEEPS


def _is_norm(module: nn.Module) -> bool:
    return re.search("(Layer|Batch|Group|Rms|RMS|Simple)Norm", type(module).__name__) is not None
