"""A card's `network` key, turned into a module."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from features.cards import huggingface, trust
from features.cards.card import Card
from features.cards.outputs import LARGER
from features.cards.published import installed_timm, torchvision_weights
from features.cards.trace import shapes_at
from features.errors import InputError, nearest
from features.machine.device import seeded
from features.machine.regular_files import read_regular

PLUGINS = "transfer_probe.networks"
"""The group of entry points by which an installed package registers its networks, MODULE:FUNCTION."""
_OWN = "features.networks"
# These options would load weights or read files without any check.
_NOT_OPTIONS = (
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir",
    "weights", "weights_backbone", "pretrained_strict",
)  # fmt: skip
# The options that torchvision sets when it loads published weights into these networks.
_WITH_WEIGHTS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}


def build(card: Card, *, seed: int = 0, device: str = "cpu", random: bool = False) -> nn.Module:
    """The network of `card` with initial weights drawn from `seed`, in evaluation mode.

    On `device="meta"` nothing is allocated, which is enough to list its layers. `random` says that
    these weights will be used as they are, not replaced by published ones.

    Raises:
        InputError: The network does not exist or cannot be built.
    """
    make = _builder(card, random=random or device == "meta")
    with seeded(seed, torch.device("cpu")):
        try:
            with torch.device(device):
                model = make()
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{card.line('network')}: {card.network} could not be built with options "
                f"{dict(card.options)}: {type(error).__name__}: {error}; correct network or options."
            ) from error
    try:
        return _plain(card, model).eval()
    except NotImplementedError as error:
        raise InputError(
            f"{card.line('network')}: {card.network} returned an exported program, which cannot be put "
            "into evaluation mode; return the network that it was exported from."
        ) from error


def _plain(card: Card, model: object) -> nn.Module:
    """The network itself, out of what wraps it, in single precision."""
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    model = getattr(model, "_orig_mod", model)  # torch.compile
    where = f"{card.line('network')}: {card.network} returned"
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{where} {type(model).__name__}, not a torch.nn.Module; return the network."
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"{where} a TorchScript network, whose layers cannot be read; return the network that it was "
            "made of, and give the archive as weights."
        )
    if any(isinstance(p, nn.UninitializedParameter) for p in model.parameters()):
        raise InputError(
            f"{where} a network with lazy modules, which have no shapes yet; run it on one image before "
            "you return it."
        )
    return model.float()


def file_of(card: Card) -> Path:
    """The file that `onnx:FILE` names, from the card's folder."""
    name = card.network.partition(":")[2]
    return (card.file.parent if card.file else Path()) / Path(name).expanduser()


def larger_shapes(
    card: Card, model: nn.Module, shape: tuple[int, int, int]
) -> tuple[tuple[int, int], dict[str, tuple[int, ...]]]:
    """A larger image as multiples of `shape`'s height and width, and the shape of its tensor by module.

    A network of one size is built again for the larger one where its library has an option for that;
    there are no shapes where it takes no other size at all. `model` may be on the meta device.
    """
    kind = card.network.partition(":")[0]
    option = {"timm": "img_size", "torchvision": "input_size", "hf": "image_size"}.get(kind)
    parts = [name for name, _ in model.named_children()]
    best: tuple[tuple[int, int], dict[str, tuple[int, ...]]] = (LARGER[0], {})
    for times in LARGER:
        larger = (times[0] * shape[1], times[1] * shape[2])
        tried = [shapes_at(model, (shape[0], *larger))]
        if option is not None and any(name not in tried[0] for name in parts):
            # transformers has one number for a square
            side = larger[0] if kind == "hf" and larger[0] == larger[1] else larger
            other = replace(card, options={**card.options, option: side})
            with suppress(InputError):
                tried.append(shapes_at(build(other, device="meta"), (shape[0], *larger)))
        shapes = max(tried, key=len)
        if len(shapes) > len(best[1]):
            best = times, shapes
        if all(name in shapes for name in parts):
            break
    return best


def _builder(card: Card, *, random: bool) -> Callable[[], Any]:
    kind, _, name = card.network.partition(":")
    if not name:
        raise InputError(
            f"{card.line('network')}: network = {card.network!r} is not KIND:NAME; write "
            "torchvision:NAME, timm:NAME, hf:NAME, onnx:FILE, caffe:FILE.prototxt, "
            "features.networks:FUNCTION or ./FILE.py:FUNCTION."
        )
    options = dict(card.options)
    if kind == "onnx" and options:
        raise InputError(f"{card.line('options')}: an ONNX file takes no options; leave them out.")
    if kind in ("torchvision", "timm"):
        for option in _NOT_OPTIONS:
            if option in options:
                raise InputError(
                    f"{card.line('options')}: the option {option} loads weights or files by itself; "
                    "leave it out and give the file in [[weights]] or with --weights."
                )
    if kind == "torchvision":
        return _torchvision(card, name, options, random)
    if kind == "timm":
        timm = installed_timm()
        if name not in timm.list_models() and not timm.is_model(name):
            raise InputError(
                f"{card.line('network')}: timm has no model {name}; "
                f"{nearest(name, timm.list_models())}"
            )
        return lambda: timm.create_model(name, pretrained=False, **options)
    if kind == "hf":
        return huggingface.builder(card, name, options)
    if kind == "onnx":
        from features.cards.onnx_network import OnnxNetwork

        return lambda: OnnxNetwork(file_of(card))
    if kind == "caffe":
        from features.caffe import network_from_prototxt

        file = (card.file.parent if card.file else Path()) / name
        size = card.input.size if card.input else None
        return lambda: network_from_prototxt(file, size, **options)
    if kind.endswith(".py"):
        return _with(card, _python_file(card, kind), kind, name, options)
    if kind == _OWN or kind.startswith(f"{_OWN}."):
        return _with(card, _own_module(card, kind), kind, name, options)
    if card.network in _registered():
        return _with(card, _module(card, kind), kind, name, options)
    raise InputError(
        f"{card.line('network')}: {card.network} is neither one of {_OWN} nor registered by an "
        f"installed package (entry points {PLUGINS}); write ./FILE.py:FUNCTION for a file beside the "
        "card."
    )


def _with(
    card: Card, module: ModuleType, where: str, name: str, options: dict[str, Any]
) -> Callable[[], Any]:
    """A call of the function `name` with the options; in our package of its own functions alone."""
    function = None if name.startswith("_") else getattr(module, name, None)
    ours = module.__name__.startswith(_OWN)
    if ours and not (inspect.isfunction(function) and function.__module__.startswith(_OWN)):
        function = None
    if not callable(function):
        names = [n for n, value in vars(module).items() if inspect.isfunction(value)]
        raise InputError(
            f"{card.line('network')}: {where} has no function {name}; {nearest(name, names)}"
        )
    return lambda: function(**options)


def _registered() -> set[str]:
    return {entry.value.replace(" ", "") for entry in entry_points(group=PLUGINS)}


def _torchvision(card: Card, name: str, options: dict[str, Any], random: bool) -> Callable[[], Any]:
    from torchvision.models import get_model, list_models

    if name not in list_models():
        raise InputError(
            f"{card.line('network')}: torchvision has no model {name}; "
            f"{nearest(name, list_models())}"
        )
    if name in _WITH_WEIGHTS:
        extra = {"init_weights": random} if random else _WITH_WEIGHTS[name]
        options = {**extra, **options}
    weights = torchvision_weights(name)
    if name.startswith("vit_") and weights is not None:
        options = {"image_size": weights.meta["min_size"][0], **options}
    return lambda: get_model(name, weights=None, **options)


def _own_module(card: Card, name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputError(
            f"{card.line('network')}: {name!r} is not the name of a module; correct it."
        )
    return _module(card, name)


def _module(card: Card, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{card.line('network')}: there is no module {name} ({error}); check the name, or write "
            "./FILE.py:FUNCTION for a file beside the card."
        ) from error


def _python_file(card: Card, name: str) -> ModuleType:
    path = (card.file.parent if card.file else Path()) / name
    if not path.is_file():
        raise InputError(
            f"{card.line('network')}: {path} does not exist; paths start from the card's folder."
        )
    code = read_regular(path)
    trust.check(path, code)
    module = ModuleType(f"backbone_{path.stem}")
    module.__file__ = str(path)
    # Registered as an import would be: dataclasses look their module up by its name.
    sys.modules[module.__name__] = module
    try:
        # The very bytes that are trusted, without the future statements of this file.
        exec(compile(code, path, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise InputError(
            f"{path}: importing it failed with {type(error).__name__}: {error}; correct the file."
        ) from error
    return module
