"""Networks of transformers, `hf:DIR` or `hf:ORG/NAME`: built from their config.json, never from code.

A folder is one that `save_pretrained` wrote: config.json, preprocessor_config.json, model.safetensors. Of
ORG/NAME the same files are read from the cache of huggingface_hub, and the two JSON files are fetched if
they are not in it. Weights are read by features/weights, from safetensors alone.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from features.cards.card import Card, Input, WeightsEntry
from features.cards.usable_input import is_usable
from features.errors import InputError, first_line
from features.machine.home import offline

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_WEIGHTS = ("model.safetensors.index.json", "model.safetensors")
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".ckpt")
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
_MOST_LAYERS = 10_000
_MOST_BYTES = 16 << 20  # of a JSON file, which is read whole
_FILTERS = {2: "bilinear", 3: "bicubic"}


def builder(card: Card, name: str, options: Mapping[str, Any]) -> Callable[[], Any]:
    """A function that builds the network of `hf:name`: its vision part, without a classifier.

    Args:
        card: The card; `name` is relative to its folder.
        name: A folder, or ORG/NAME.
        options: Values that replace those of config.json.

    Raises:
        InputError: There is no such model, it needs code of its own, or transformers is not installed.
    """
    folder, transformers = folder_of(card, name), _transformers()
    config = _loaded(folder, "config.json", transformers.AutoConfig)
    if (vision := getattr(config, "vision_config", None)) is not None:
        if hasattr(config, "projection_dim"):
            vision.projection_dim = config.projection_dim
        config = vision
    for option, value in options.items():
        if not hasattr(config, option):
            raise InputError(
                f"{card.line('options')}: {folder / 'config.json'} has no {option}; leave it out."
            )
        setattr(config, option, value)
    if _depth(config) > _MOST_LAYERS:
        raise InputError(
            f"{folder / 'config.json'}: {_depth(config):,} layers are more than any network has "
            f"({_MOST_LAYERS:,}); correct it."
        )
    return lambda: _network(transformers, config)


def published_input(card: Card, name: str) -> Input:
    """The preprocessing of the image processor of `hf:name`.

    Raises:
        InputError: The folder has no image processor, or one that does more than Input can describe.
    """
    folder, transformers = folder_of(card, name), _transformers()
    if not any((folder / f"{kind}processor_config.json").is_file() for kind in ("pre", "")):
        raise InputError(
            f"{folder}: has no preprocessor_config.json, which says how images are prepared; put it "
            "there, or write a card with its own [input]."
        )
    processor = _loaded(folder, "preprocessor_config.json", transformers.AutoImageProcessor)
    try:
        wanted = _input(processor.to_dict())
        usable = wanted is None or is_usable(wanted)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
        usable = False
    if not usable:
        raise InputError(
            f"{folder}: its image processor has sizes, a factor, a mean or a std that no image can be "
            "prepared with; save it again, or write a card with its own [input]."
        )
    if wanted is None:
        raise InputError(
            f"{folder}: its image processor ({type(processor).__name__}) does more than resize, crop the "
            "centre and normalise; write a card with its own [input]."
        )
    return wanted


def weights_entries(card: Card, name: str) -> tuple[WeightsEntry, ...]:
    """The weights of `hf:name`: those in its folder, or else the published ones of ORG/NAME.

    Raises:
        InputError: It is a folder without weights, or with weights that are no safetensors.
    """
    folder = folder_of(card, name)
    if (held := weights_file(folder)) is not None:
        return (WeightsEntry(path=str(held)),)
    if not _local(card, name).is_dir():
        from huggingface_hub import hf_hub_url

        return (WeightsEntry(url=hf_hub_url(name, _WEIGHTS[-1])),)
    others = [file.name for file in folder.iterdir() if file.suffix in _OTHER_WEIGHTS]
    if others:
        raise InputError(
            f"{folder}: has {min(others)} and no model.safetensors, and only safetensors are read from a "
            "folder; save it again with save_pretrained, or give the file as --weights "
            f"{folder / min(others)}."
        )
    raise InputError(
        f"{folder}: has no weights (model.safetensors); save the model there with save_pretrained, give "
        "a file as --weights FILE, or use --weights random."
    )


def weights_file(folder: Path) -> Path | None:
    """The safetensors of a folder, or the list of several; None if it has none."""
    return next((folder / file for file in _WEIGHTS if (folder / file).is_file()), None)


def renamed_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file with the names that transformers uses now, split where it splits them.

    Files have the names of the version that wrote them, and the library renames them when it loads one.
    """
    try:
        mapping = importlib.import_module("transformers.conversion_mapping")
        steps = mapping.get_model_conversion_mapping(model)
    except (ImportError, AttributeError):  # versions before 5 rename nothing
        return dict(tensors)
    made: dict[str, Tensor] = {}
    for source, tensor in tensors.items():
        name, parts = source, {source: tensor}
        for step in steps:
            name, matched = step.rename_source_key(name)
            operations = getattr(step, "operations", [])
            if matched is None or not operations:
                parts = {name: tensor}
                continue
            targets = list(step.target_patterns)
            if [type(operation).__name__ for operation in operations] != ["Chunk"] or len(
                targets
            ) < 2:
                return dict(tensors)  # tensors are joined: messages name those that are missing
            pieces = tensor.chunk(len(targets), operations[0].dim)
            parts = {
                name.replace(targets[0], target): piece.contiguous()
                for target, piece in zip(targets, pieces, strict=True)
            }
            break
        made |= parts
    return made


def folder_of(card: Card, name: str) -> Path:
    """The folder with the config.json of `hf:name`: its own, or one in the cache.

    Raises:
        InputError: There is none, and it cannot be fetched.
    """
    folder = _local(card, name)
    if not folder.is_dir():
        if _REPOSITORY.fullmatch(name) is None:
            raise InputError(
                f"{card.line('network')}: there is no folder {folder}; give one that save_pretrained "
                "wrote, or ORG/NAME."
            )
        folder = _cached(name)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder}: has no config.json, so it is of neither transformers nor timm; give the folder "
            "that one of them wrote."
        )
    return folder


def _local(card: Card, name: str) -> Path:
    return (card.file.parent if card.file else Path()) / Path(name).expanduser()


def _cached(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise InputError(
            "huggingface_hub is not installed; pip install 'transfer-probe[hf]' brings it."
        ) from error
    with suppress(Exception):
        return Path(snapshot_download(name, local_files_only=True))
    if offline():
        raise InputError(
            f"hf:{name}: is not in the cache of huggingface_hub and PROBE_OFFLINE is set; fetch it where "
            "there is a network, or give the folder that save_pretrained wrote."
        )
    try:
        return Path(snapshot_download(name, allow_patterns=["*config.json"]))
    except (
        Exception
    ) as error:  # of the network, of a name that does not exist, of a licence not accepted
        raise InputError(
            f"hf:{name}: its config.json cannot be fetched ({type(error).__name__}: "
            f"{first_line(error)}); check the name, or give the folder that "
            "save_pretrained wrote."
        ) from error


def _loaded(folder: Path, file: str, kind: Any) -> Any:
    """The object that transformers makes of a JSON file, never with code from the folder."""
    arguments: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if "Processor" in kind.__name__:
        arguments["backend"] = "pil"  # the filters of Pillow, as everywhere here
    for name in ("config.json", "preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file() and (folder / name).stat().st_size > _MOST_BYTES:
            raise InputError(
                f"{folder / name}: is larger than {_MOST_BYTES >> 20} MB, so it is not what transformers "
                "writes; save the model again with save_pretrained."
            )
    try:
        with _quiet():
            return kind.from_pretrained(folder, **arguments)
    except Exception as error:
        if "remote_code" in str(error):
            raise InputError(
                f"{folder}: needs code of its own, which is not run; use a model that transformers has, "
                "or write its network in a .py file with a card."
            ) from error
        raise InputError(
            f"{folder / file}: transformers cannot use it ({type(error).__name__}: "
            f"{first_line(error)}); save the model again with save_pretrained."
        ) from error


def _depth(config: Any) -> int:
    """The layers that a config.json asks for; 0 where it does not say, or not with numbers."""
    stages = getattr(config, "depths", None)
    try:
        return int(sum(stages) if stages else getattr(config, "num_hidden_layers", 0) or 0)
    except (TypeError, ValueError):
        return 0


def _network(transformers: Any, config: Any) -> Any:
    """The network that the weights were saved from, without its head."""
    name = (config.architectures or [""])[0]
    projecting = type(config).__name__.replace("VisionConfig", "VisionModelWithProjection")
    kind: Any = getattr(transformers, name, None) or getattr(transformers, projecting, None)
    with _quiet():
        if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
            # the saved architecture decides whether there is a pooler or a projection
            model: Any = kind
            made = model._from_config(config, dtype=torch.float32)
            return made if kind.__name__ == projecting else made.base_model
        return transformers.AutoModel.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )


def _input(settings: Mapping[str, Any]) -> Input | None:
    """The input that an image processor's settings describe; None if Input cannot describe them."""
    if any(key.startswith("do_") and on and key not in _STEPS for key, on in settings.items()):
        return None
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    resize: int | tuple[int, int]
    if not settings.get("do_resize") or settings.get("resample") not in _FILTERS:
        return None
    if {"height", "width"} <= size.keys():
        resize = fed = (size["height"], size["width"])
    elif list(size) == ["shortest_edge"]:
        resize, fed = size["shortest_edge"], (0, 0)
    else:
        return None
    if settings.get("crop_pct") and isinstance(
        resize, int
    ):  # ConvNeXt: the size is that of the crop
        fed = (resize, resize)
        resize = int(resize / settings["crop_pct"]) if resize < 384 else fed
    if settings.get("do_center_crop"):
        fed = (crop.get("height", 0), crop.get("width", 0))
    if min(fed) < 1 or min(fed) > (resize if isinstance(resize, int) else min(resize)):
        return None
    normal = settings.get("do_normalize")
    return Input(
        size=fed,
        resize=resize,
        interpolation=_FILTERS[settings["resample"]],
        scale=255.0 * settings["rescale_factor"] if settings.get("do_rescale") else 255.0,
        mean=tuple(settings["image_mean"]) if normal else (0.0, 0.0, 0.0),
        std=tuple(settings["image_std"]) if normal else (1.0, 1.0, 1.0),
        crop_offset="floor",
    )


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(
            "transformers is not installed; pip install 'transfer-probe[hf]' brings it."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the messages of the library."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
