"""Networks whose input is not one image: told by their signature and their first convolution."""

from __future__ import annotations

import inspect

from torch import nn

_NAMED = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)


def foreign_input(model: nn.Module) -> str | None:
    """Why `model` takes no image alone, and what to do; None where nothing shows that.

    Worth asking only once it has failed: some networks add the axes that their convolutions want.
    """
    if others := _others(model):
        named, them = " and ".join(others), "a default" if len(others) == 1 else "defaults"
        return f"needs {named} beside the image; give {named} {them}, or return a network of one input."
    first = next(
        (m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None
    )
    if isinstance(first, nn.Conv3d):
        return (
            "takes volumes or films (its first convolution is a Conv3d) and fails on an image; return a "
            "network that adds the axis, x.unsqueeze(2), or use one of images."
        )
    if isinstance(first, nn.Conv1d):
        return (
            "takes series (its first convolution is a Conv1d) and fails on an image; return a network "
            "that makes series of an image, or use one of images."
        )
    return None


def _others(model: nn.Module) -> list[str]:
    """The inputs without a default that `forward` has after the first."""
    try:
        inputs = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # a forward that is no Python function
        return []
    needed = [i.name for i in inputs if i.kind in _NAMED and i.default is inspect.Parameter.empty]
    return needed[1:]
