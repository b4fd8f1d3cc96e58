"""Every card against activations of its network that were computed without this package.

The values in data/golden.json come from golden.py: OpenCV, NumPy, and the networks' prototxts. Each
fault below, the kind that leaves a network working and its numbers wrong, must turn a card red.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from features.backbone import Architecture, choose, describe, target_of
from features.caffe import named_tensors
from features.cards.card import Input, WeightsEntry
from features.cards.reading import shipped
from features.extraction.capture import capture
from features.formats.blobs import Blobs
from features.images import preprocess
from features.images.decode import read_rgb
from features.images.preprocess import normalise, to_pixels
from features.weights.assign import assign

GOLDEN: dict[str, dict[str, dict[str, Any]]] = json.loads(golden.DATA.read_text())
INPUTS = {name: describe(name).input for name in GOLDEN}


@pytest.fixture(scope="module", params=GOLDEN)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Image.Image:
    path = tmp_path_factory.mktemp("golden") / "photo.png"
    Image.fromarray(golden.photo()).save(path)
    return read_rgb(path)


@lru_cache(maxsize=1)
def ready(name: str) -> tuple[nn.Module, Architecture]:
    """The network with the weights that the golden values were made with, read as a Caffe file's."""
    target = target_of(name)
    if name in golden.NETWORKS:
        held = {
            layer: [torch.from_numpy(np.array(blob, np.float32)) for blob in blobs]
            for layer, blobs in golden.weights(name).items()
        }
        tensors = {renamed(name, key): tensor for key, tensor in named_tensors(held).items()}
        found = assign(target, Blobs("caffe", tensors), WeightsEntry(), Path(name))
        assert not found.missing + found.mismatched + found.unused
        counts = [key for key in target.model.state_dict() if key.endswith("num_batches_tracked")]
        state = {**found.state, **{key: torch.tensor(0) for key in counts}}
        target.model.load_state_dict(state, assign=True)
    return target.model.eval(), describe(name)


def renamed(name: str, key: str) -> str:
    """Torchvision's names for SqueezeNet; the other networks' are found by the reader."""
    if not name.startswith("squeezenet"):
        return key
    layer, _, part = key.rpartition(".")
    if layer == "conv10":
        return f"classifier.1.{part}"
    if layer == "conv1":
        return f"features.0.{part}"
    fire, _, side = layer.partition("/")
    module = (shipped()[name].layers or {})[fire]
    return f"{module}.{side.replace('squeeze1x1', 'squeeze')}.{part}"


def wrong(
    name: str, picture: Image.Image, layers: tuple[str, ...] = ("all",), wanted: Input | None = None
) -> list[str]:
    """The layers of a card whose values are not the golden ones, to 1e-3."""
    model, architecture = ready(name)
    wanted = wanted or architecture.input
    asked = choose(architecture, layers)
    try:
        fed = normalise(torch.from_numpy(np.stack([to_pixels(picture, wanted)])), wanted)
        with capture(model, asked, architecture.traced) as run:
            found = run(fed)
    except RuntimeError:
        return [layer.name for layer in asked]  # the shapes do not fit any more
    return [layer.name for layer in asked if differs(found[layer.name], GOLDEN[name][layer.name])]


def differs(found: Tensor, expected: Mapping[str, Any]) -> bool:
    if [found.shape[1], *(side for side in found.shape[2:] if side > 1)] != expected["shape"]:
        return True
    flat = found.flatten().double()
    values = torch.tensor(expected["values"], dtype=torch.float64)
    error = (flat[golden.places(len(flat))] - values).norm() / values.norm()
    return bool(error > 1e-3) or abs(float(flat.norm()) / expected["norm"] - 1) > 1e-3


def test_every_card_has_golden_values_of_every_layer() -> None:
    assert {name: list(layers) for name, layers in GOLDEN.items()} == {
        card.name: list(card.layers or ()) for card in shipped().values()
    }
    for layers in GOLDEN.values():
        for expected in layers.values():
            assert any(expected["values"])


def test_golden_values_are_those_of_their_program() -> None:
    pytest.importorskip("cv2")
    for name in ("gilnet", "mobilefacenet", "sample-faces", "control:pixels"):
        found = {layer: golden.golden(array) for layer, array in golden.run(name).items()}
        for layer, expected in GOLDEN[name].items():
            assert found[layer]["shape"] == expected["shape"]
            np.testing.assert_allclose(found[layer]["norm"], expected["norm"], rtol=1e-4)
            scale = np.abs(expected["values"]).max()
            np.testing.assert_allclose(
                found[layer]["values"], expected["values"], rtol=0, atol=1e-4 * scale
            )


def test_a_card_gives_the_golden_values(name: str, picture: Image.Image) -> None:
    assert wrong(name, picture) == []


def shifted(patch: pytest.MonkeyPatch) -> None:
    inner = preprocess.offset
    patch.setattr(preprocess, "offset", lambda room, wanted: inner(room, wanted) + 1)


def not_smoothed(patch: pytest.MonkeyPatch) -> None:
    """Bilinear as OpenCV and old versions of torchvision resize tensors: four neighbours alone."""
    cv2 = pytest.importorskip("cv2")
    patch.setattr(
        Image.Image,
        "resize",
        lambda image, size, _filter: Image.fromarray(cv2.resize(np.asarray(image), size)),
    )


def nearest(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(preprocess, "_FILTERS", {"bilinear": Image.Resampling.NEAREST})


# What is done to a card's [input], or to the code; None where it changes nothing for this card.
Fault = Callable[[Input], Input | None]
INPUT_FAULTS: dict[str, Fault] = {
    "channels swapped": lambda x: replace(x, channel_order=x.channel_order[::-1]),
    "channels swapped, mean with them": lambda x: replace(
        x, channel_order=x.channel_order[::-1], mean=x.mean[::-1], std=x.std[::-1]
    ),
    "another range": lambda x: replace(x, scale=1.0 if x.scale == 255 else 255.0),
    "0..256": lambda x: replace(x, scale=x.scale * 256 / 255),
    "mean left out": lambda x: replace(x, mean=(0.0,) * 3) if any(x.mean) else None,
    "mean in the other order": lambda x: (
        replace(x, mean=x.mean[::-1]) if x.mean[0] != x.mean[-1] else None
    ),
    "std left out": lambda x: replace(x, std=(1.0,) * 3) if set(x.std) != {1.0} else None,
    "squashed, not cropped": lambda x: (
        replace(x, resize=x.size) if x.resize not in (None, x.size) else None
    ),
    "cropped, not squashed": lambda x: (
        replace(x, resize=max(x.resize)) if isinstance(x.resize, tuple) else None
    ),
    "squashed before the crop": lambda x: (
        replace(x, resize=(x.resize, x.resize)) if isinstance(x.resize, int) else None
    ),
    "bicubic": lambda x: replace(x, interpolation="bicubic"),
}
CODE_FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "crop shifted": shifted,
    "not smoothed": not_smoothed,
    "nearest": nearest,
}


def test_every_fault_of_preprocessing_turns_a_card_red(
    name: str, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next(iter(GOLDEN[name]))
    assert wrong(name, picture, (first,)) == []
    unseen, wanted = [], INPUTS[name]
    for fault, change in INPUT_FAULTS.items():
        faulty = change(wanted)
        if faulty is not None and not wrong(name, picture, (first,), faulty):
            unseen.append(fault)
    for fault, plant in CODE_FAULTS.items():
        cropped = wanted.resize not in (None, wanted.size)
        if fault == "crop shifted" and not cropped:
            continue
        with monkeypatch.context() as patch:
            plant(patch)
            if not wrong(name, picture, (first,)):
                unseen.append(fault)
    assert unseen == []


def floor(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    for module in model.modules():
        if isinstance(module, nn.MaxPool2d):
            patch.setattr(module, "ceil_mode", False)


def lrn_not_divided(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    """Alpha times the window's size, as tf.nn.lrn would read it."""
    for module in model.modules():
        if isinstance(module, nn.LocalResponseNorm):
            patch.setattr(module, "alpha", module.alpha * module.size)


def lrn_window(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    """A radius of 5 for a size of 5."""
    for module in model.modules():
        if isinstance(module, nn.LocalResponseNorm):
            patch.setattr(module, "size", 11)


def flattened(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    """The first matrix runs through its map with the channels last."""
    sides = {1024: 4, 9216: 6, 18816: 7, 25088: 7}
    module = next(m for m in model.modules() if isinstance(m, nn.Linear))
    weight, side = module.weight.detach(), sides[module.in_features]
    turned = weight.reshape(len(weight), -1, side * side).transpose(1, 2).reshape(weight.shape)
    patch.setitem(module._parameters, "weight", nn.Parameter(turned))


def groups_swapped(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == 2:
            rolled = module.weight.detach().roll(len(module.weight) // 2, 0)
            patch.setitem(module._parameters, "weight", nn.Parameter(rolled))


def roots(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    """The variance taken for its root."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            patch.setitem(module._buffers, "running_var", module.running_var**2)


def strides_moved(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    """A stage's stride on its 3 x 3 convolution, where torchvision has it."""
    for stage in (3, 4, 5):
        for kind, stride in (("1x1_reduce", 1), ("3x3", 2)):
            module = model.get_submodule(f"conv{stage}_1_{kind}")
            patch.setattr(module, "stride", (stride, stride))


def padded_stem(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    """The first pool padded, where torchvision's ResNet pads it."""
    module = model.get_submodule("pool1_3x3_s2")
    patch.setattr(module, "padding", 1)
    patch.setattr(module, "ceil_mode", False)


NETWORK_FAULTS: dict[Callable[[nn.Module, pytest.MonkeyPatch], None], tuple[str, ...]] = {
    floor: (
        "gilnet",
        "googlenet-bvlc",
        "squeezenet1_0",
        "vggface2-resnet50",
        "vggface2-senet50",
    ),
    lrn_not_divided: ("caffenet", "bvlc-alexnet", "gilnet", "googlenet-bvlc"),
    lrn_window: ("caffenet", "bvlc-alexnet", "gilnet", "googlenet-bvlc"),
    flattened: (
        "alexnet", "caffenet", "bvlc-alexnet", "gilnet", "vgg16", "vggface", "sample-faces",
    ),
    groups_swapped: ("caffenet", "bvlc-alexnet"),
    roots: ("mobilefacenet", "vggface2-resnet50", "sample-objects"),
    strides_moved: ("vggface2-resnet50", "vggface2-senet50"),
    padded_stem: ("vggface2-resnet50", "vggface2-senet50"),
}  # fmt: skip


def test_every_fault_of_a_network_turns_its_card_red(
    name: str, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = []
    for plant in (plant for plant, names in NETWORK_FAULTS.items() if name in names):
        with monkeypatch.context() as patch:
            plant(ready(name)[0], patch)
            if not wrong(name, picture):
                unseen.append(plant.__name__)
    assert unseen == []


def test_a_layer_read_before_its_relu_turns_its_card_red(name: str, picture: Image.Image) -> None:
    model, architecture = ready(name)
    unseen = []
    for layer in architecture.layers:
        module = model.get_submodule(layer.module)
        if not isinstance(module, nn.ReLU):
            continue
        names = list(architecture.traced.fired)
        before = replace(layer, module=names[names.index(layer.module) - 1])
        fed = torch.from_numpy(np.stack([to_pixels(picture, architecture.input)]))
        with capture(model, [before], architecture.traced) as run:
            found = run(normalise(fed, architecture.input))[layer.name]
        if not differs(found, GOLDEN[name][layer.name]):
            unseen.append(layer.name)
        break  # the first one: the others are read in the same way
    assert unseen == []
