"""The law of rows, checked on a network: row i of a module's output depends on image i and on no other.

A wrong row is the worst of errors: it carries a piece of another image, often of one on the other side of
a split. Modules that see windows or patches return batch x windows rows, some put tokens before images,
a batch norm in training mode mixes all images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.cards.repeats import counterparts, passing
from features.cards.trace import part_name, tensors_in
from features.errors import InputError, first_line
from features.machine.device import cores, threads

_BATCH = 4
_KEPT = 4_096
"""Values of a row that are compared."""
_STILL = "it does not depend on the image"
_LONG = 1.0
"""Seconds of a pass of one image on one thread, above which all cores compute the others."""
_NEAR = 1e-2
"""Rounding differs with the size of a batch, and a deep network with random weights magnifies it."""


@dataclass(frozen=True)
class _Row:
    """The output of one module for a batch of one image."""

    shape: tuple[int, ...]
    """With the batch axis."""
    values: Tensor
    finite: bool


@dataclass(frozen=True)
class RowCheck:
    """The result of running a network on an image and on NaN."""

    refused: dict[str, str]
    """By module, or part of its output, why its rows are not those of the images."""
    clear: dict[int, tuple[int, ...]]
    """By number of tokens, the indices of those that do not depend on any pixel where they first occur."""


def foreign_rows(model: nn.Module, shape: tuple[int, int, int]) -> RowCheck:
    """Check that row i of what every module returns is of image i alone.

    The network runs twice: on one image of `shape` (channels, height, width), and on that image as the
    second of four whose others are NaN. A number that depends on another image, however little, is NaN
    then. So row 1 of 4 has to be finite and equal to row 0 of 1, and the other rows have to hold
    a NaN; at the last call of a module that runs several times. Where a module removes NaN the others
    are drawn at random and the rows compared. Of blocks that are alike to the letter two run, and
    what they show is true of the others (repeats.py).
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    chance = torch.Generator().manual_seed(0)
    others = torch.randn(_BATCH, *shape, generator=chance).to(device)
    image = others[1:2].clone()
    lost = torch.full_like(others, torch.nan)
    lost[1] = image[0]
    alone: dict[str, _Row] = {}
    refused: dict[str, str | None] = {}
    still: dict[str, torch.Size] = {}
    clear: dict[int, tuple[int, ...]] = {}

    def keep(name: str, tensor: Tensor) -> None:
        row = tensor[0] if tensor.shape[:1] == (1,) else tensor
        alone[name] = _Row(tuple(tensor.shape), _some(row), _finite(row))

    def compare(name: str, tensor: Tensor) -> None:
        if name in alone:
            refused[name] = _by_shape(alone[name], tensor) or _by_values(alone[name], tensor)
            still.pop(name, None)
            if refused[name] == _STILL and alone[name].shape != tuple(tensor.shape):
                still[name] = tensor.shape
            if refused[name] is None and tensor.ndim == 3 and tensor.shape[1] not in clear:
                unreached = (~tensor[0].isnan().any(1)).nonzero().flatten().tolist()
                if 0 < len(unreached) < tensor.shape[1]:
                    clear[tensor.shape[1]] = tuple(unreached)
        else:
            refused[name] = "it does not run for every batch"

    def compare_again(name: str, tensor: Tensor) -> None:
        if name in still and tensor.shape == still[name]:
            rows = [_some(row) for row in tensor]
            if not all(row.equal(rows[1]) for row in rows):
                refused[name] = _moved(alone[name], rows[1])

    with passing(model) as passed, ExitStack() as stack:
        # Threads that share small operations wait for each other: a start cost 4 times as much with two.
        stack.enter_context(threads(1))
        started = time.perf_counter()
        try:
            _run(model, image, keep)
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(
                f"the network fails on an image of noise ({type(error).__name__}: {first_line(error)}); "
                "correct its code."
            ) from error
        if time.perf_counter() - started > _LONG:
            stack.enter_context(threads(cores()))
        try:
            _run(model, lost, compare)
        except (Exception, SystemExit) as error:  # quantised layers measure what they read
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(
                f"the network fails where other images of a batch are NaN ({reason}), so that nothing "
                "shows that rows are each image's own; use it before it is quantised, or leave "
                "out what checks its numbers."
            ) from error
        if still:
            _run(model, others, compare_again)
    reasons = {name: why for name, why in refused.items() if why is not None}
    for name in alone:
        for repeat, counterpart in counterparts(passed, name):
            # what such a block read may break the law too, and then all inside it does
            why = reasons.get(repeat, reasons.get(name))
            if why is not None:
                reasons.setdefault(counterpart, why)
    return RowCheck(reasons, clear)


def _by_shape(alone: _Row, tensor: Tensor) -> str | None:
    """Why a tensor of several images has not one row for each, as far as its shape shows."""
    single, batch = alone.shape, tuple(tensor.shape)
    if not tensor.is_floating_point():
        return f"it returns {str(tensor.dtype).removeprefix('torch.')}, not features"
    if single and single == batch:
        return _STILL
    if single[:1] == (1,) and batch == (_BATCH, *single[1:]):
        return None
    if single and single[1:] == batch[1:] and batch[0] == _BATCH * single[0]:
        return f"it sees windows or patches, {single[0]} rows an image"
    if single[:1] == batch[:1] and single[1:2] == (1,) and batch[1:2] == (_BATCH,):
        return "its first axis is not the images, the second is"
    return "it has not one row for each image"


def _by_values(alone: _Row, tensor: Tensor) -> str | None:
    """Why the rows of a tensor, of an image among others that are NaN, are not those of the images."""
    if not alone.finite:
        return None  # nothing to compare: extraction refuses such numbers
    lost = tensor.flatten(1).sum(1, dtype=torch.float32).isnan().tolist()
    if not any(lost):
        return _STILL
    if all(lost):
        return "an image's row depends on the other images of its batch"
    if lost.index(False) != 1 or lost.count(False) > 1:
        return "its rows are not in the order of the images"
    return _moved(alone, _some(tensor[1]))


def _moved(alone: _Row, row: Tensor) -> str | None:
    scale = float(alone.values.abs().max()) if len(row) else 0.0
    if len(row) and float((row - alone.values).abs().max()) > _NEAR * scale:
        return "an image's row depends on its place in the batch"
    return None


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32)))


def _some(row: Tensor) -> Tensor:
    flat = row.detach().flatten()
    return flat[:: max(1, len(flat) // _KEPT)].float().clone()


def _run(model: nn.Module, batch: Tensor, see: Callable[[str, Tensor], None]) -> None:
    """Run the network and show `see` every tensor that a module of it returns."""

    def hook_of(module: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            tensors = list(tensors_in(output))
            for place, (part, tensor) in enumerate(tensors):
                if place == 0:
                    see(module, tensor)
                if len(tensors) > 1:
                    see(part_name(module, part), tensor)

        return hook

    handles = [m.register_forward_hook(hook_of(n)) for n, m in model.named_modules() if n]
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
