"""The networks in a file: training code puts prefixes before names, and copies side by side.

A checkpoint may hold a network at `state_dict.module.encoder_q.` and its moving average at
`state_dict.module.encoder_k.`. A part is the tensors under one such prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from features.errors import InputError

_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True)
class NetworkPart:
    """The tensors of a file under one prefix that have names of the network."""

    prefix: str
    """With the dot at its end; empty for names without a prefix."""
    names: Mapping[str, str]
    """The file's full name of each tensor by the network's name."""

    @property
    def shown(self) -> str:
        """The prefix as a person writes it after `#`."""
        return self.prefix.rstrip(".") or "."


def parts_of(sources: Iterable[str], spelled: Callable[[str], str | None]) -> list[NetworkPart]:
    """Every part of a file with at least one name of the network, the largest first.

    Args:
        sources: The names in the file.
        spelled: The network's name for a file's name without prefix, None if it has none.
    """
    names_by_prefix: dict[str, dict[str, str]] = {}
    for source in sources:
        start = 0
        while True:
            own = spelled(source[start:])
            if own is not None:
                names_by_prefix.setdefault(source[:start], {}).setdefault(own, source)
            dot = source.find(".", start)
            if dot < 0:
                break
            start = dot + 1
    parts = [NetworkPart(prefix, names) for prefix, names in names_by_prefix.items()]
    return sorted(parts, key=lambda part: -len(part.names))  # a stable sort: the file's order


def without_wrappers(sources: Sequence[str], wanted: Iterable[str]) -> dict[str, str]:
    """The file's names by the same names without the parts that compiling and sharding put in.

    Where the network itself has such names, or two would become equal, nothing is removed.
    """
    short = {
        ".".join(word for word in source.split(".") if word not in _WRAPPERS): source
        for source in sources
    }
    own = any(word in name.split(".") for name in wanted for word in _WRAPPERS)
    return {source: source for source in sources} if own or len(short) < len(sources) else short


def chosen(parts: Sequence[NetworkPart], key: str, file: object) -> list[NetworkPart]:
    """The parts that `key` names: by their prefix, or else by some of its words in order.

    Raises:
        InputError: There is none.
    """
    exact = [part for part in parts if part.shown == key.strip(".") or part.shown == key]
    some = [part for part in parts if _in_order(key.strip(".").split("."), part.prefix.split("."))]
    if not exact and not some:
        raise InputError(
            f"{file}: has no network at {key}; {_fitting(parts)}leave the part out, or name another."
        )
    return exact or some


def refuse_several(parts: Sequence[NetworkPart], file: object) -> None:
    """Refuse a file of which several parts fit, with their names.

    Raises:
        InputError: Always.
    """
    raise InputError(
        f"{file}: holds {len(parts)} networks that fit ({listed(parts)}); say which with --weights "
        f'FILE#{parts[-1].shown}, or with key = "{parts[-1].shown}" under [[weights]] in a card.'
    )


def are_equal(
    parts: Sequence[NetworkPart], tensors: Mapping[str, Tensor], names: Iterable[str]
) -> bool:
    """Whether it makes no difference which of the parts is read."""
    first, *others = parts
    return all(
        _same(tensors[first.names[name]], tensors[other.names[name]])
        for name in names
        if name in first.names
        for other in others
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def listed(parts: Sequence[NetworkPart]) -> str:
    """The prefixes of the parts, for messages."""
    return ", ".join(part.shown for part in parts[:8]) + (", ..." if len(parts) > 8 else "")


def group_of(source: str, groups: Sequence[str]) -> str:
    """The innermost container that a tensor lies in, with the dot at its end; empty for none."""
    held = [f"{group}." for group in groups if source.startswith(f"{group}.")]
    return max(held, key=len, default="")


def _fitting(parts: Sequence[NetworkPart]) -> str:
    return f"networks that fit are at {listed(parts)}; " if parts else ""


def _in_order(words: list[str], among: list[str]) -> bool:
    rest = iter(among)
    return all(word in rest for word in words)
