"""Blocks that repeat another one to the letter: what is shown of one is shown of all.

A deep network is mostly copies of one block, of the same class, settings and shapes. These decide which
rows a block reads, and its weights do not; so two blocks of a kind run, and the others let pass what they
read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

_RUN = 2
"""Blocks of a kind that run."""
_OWN = frozenset(vars(nn.Module()))
_IDLE = ("Drop", "StochasticDepth")
"""In the names of modules that do nothing at test time, so that their settings do not matter."""


@contextmanager
def passing(model: nn.Module) -> Iterator[dict[str, str]]:
    """Let the third and later of alike blocks return what they read; yields whom each of them repeats.

    Blocks are alike that have one parent and are the same in class, settings and shapes, with all that is
    inside them. One lets pass what it reads only if the block that it repeats returned a tensor of the
    shape that it had read. The names in what is yielded are of blocks that did.
    """
    passed: dict[str, str] = {}
    with ExitStack() as undone:
        for parent, module in model.named_modules():
            kinds: dict[Hashable, list[str]] = {}
            for name, child in module.named_children():
                if next(child.children(), None) is not None and "forward" not in vars(child):
                    whole = f"{parent}.{name}" if parent else name
                    kinds.setdefault(_settings(child), []).append(whole)
            for alike in kinds.values():
                model_block, repeats = alike[_RUN - 1 : _RUN], alike[_RUN:]
                if repeats:
                    shapes: set[tuple[int, ...]] = set()
                    block = model.get_submodule(model_block[0])
                    undone.callback(block.register_forward_hook(_noting(shapes)).remove)
                    for name in repeats:
                        child = model.get_submodule(name)
                        child.forward = _forward(child, name, model_block[0], shapes, passed)
                        undone.callback(delattr, child, "forward")
        yield passed


def counterparts(passed: dict[str, str], name: str) -> Iterator[tuple[str, str]]:
    """Every block that let pass what it read, and the module in it that repeats the module `name`."""
    for repeat, block in passed.items():
        if name == block or name.startswith((f"{block}.", f"{block}[")):
            yield repeat, repeat + name.removeprefix(block)


def _noting(shapes: set[tuple[int, ...]]) -> Callable[..., None]:
    """A hook that notes the shapes that a block returns as it read them."""

    def hook(_module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        read = inputs[0] if inputs else None
        if isinstance(read, Tensor) and isinstance(output, Tensor) and read.shape == output.shape:
            shapes.add(tuple(read.shape))

    return hook


def _forward(
    block: nn.Module,
    name: str,
    repeated: str,
    shapes: set[tuple[int, ...]],
    passed: dict[str, str],
) -> Callable[..., Any]:
    own = block.forward

    def forward(*inputs: Any, **settings: Any) -> Any:
        read = inputs[0] if inputs else None
        if isinstance(read, Tensor) and tuple(read.shape) in shapes:
            passed[name] = repeated
            return read.clone()  # what follows may work in place
        return own(*inputs, **settings)

    return forward


def _settings(block: nn.Module) -> Hashable:
    """All that decides what a block does, but for the values of its weights."""
    settings: list[Hashable] = []
    for name, module in block.named_modules():
        settings.append((name, type(module)))
        for held in (module._parameters, module._buffers):
            settings += [
                (key, None if tensor is None else (tuple(tensor.shape), str(tensor.dtype)))
                for key, tensor in held.items()
            ]
        if not any(word in type(module).__name__ for word in _IDLE):
            own = ((key, value) for key, value in vars(module).items() if key not in _OWN)
            settings += [(key, _plain(value)) for key, value in own]
    return tuple(settings)


def _plain(value: object) -> Hashable:
    """A setting by its value; an object of any other kind is like nothing but itself."""
    if value is None or isinstance(value, bool | int | float | str):
        return type(value), value
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_plain, value))
    return "object", id(value)
