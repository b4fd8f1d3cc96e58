"""What every reader returns: named tensors in PyTorch's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

MOST = 8 << 30
"""Bytes: no published file of weights is larger, so a file that claims to be is damaged."""


@dataclass(frozen=True)
class Blobs:
    """The tensors of one file.

    Filters are `(out, in / groups, height, width)`, matrices `(out, in)`, and names end in `.weight`,
    `.bias`, `.running_mean`, `.running_var` or, where the file has the square root of variance plus
    epsilon, `.running_std`.
    """

    format: str
    tensors: Mapping[str, Tensor]
    flatten: str = "chw"
    """The order of a matrix's columns that read a map, channels first or last, unless a card gives it."""
    by_order: bool = False
    """Whether layers may be assigned by their order: names in files of this format are often automatic."""
    ordered: bool = True
    """Whether the file records that order; otherwise only the numbers in the names show it."""
    unread: tuple[str, ...] = ()
    """Tensors of kinds that no network has here: sparse, quantised, complex."""
    groups: tuple[str, ...] = ()
    """The containers in the file that hold tensors; their names are prefixes of those of the tensors."""


def of(file_format: str, path: Path, tensors: Mapping[str, Tensor], **about: object) -> Blobs:
    """The blobs of a file, without the tensors that no network could load.

    Raises:
        InputError: No tensor is left.
    """
    usable = {name: tensor.detach() for name, tensor in tensors.items() if is_plain(tensor)}
    if not usable:
        raise InputError(f"{path}: holds no tensors; give a file of weights, such as a state_dict.")
    unread = tuple(name for name in tensors if name not in usable)
    return Blobs(file_format, usable, unread=unread, **about)  # type: ignore[arg-type]


def is_plain(tensor: Tensor) -> bool:
    """Whether a value is an array of real numbers in memory, not sparse, quantised, nested or absent."""
    import torch

    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.is_nested
        and not tensor.is_complex()
    )


def because(error: BaseException) -> str:
    """The first sentence of another library's message, for use inside one of ours."""
    text = "".join(c if c.isprintable() else " " for c in str(error).strip())
    first = text.partition(". ")[0].rstrip(". ")[:160]
    return first or type(error).__name__
