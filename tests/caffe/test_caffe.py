import math
import random
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import randomnets
import torch
from caffefiles import write
from torch import Tensor

from features.backbone import choose, describe, load
from features.caffe import named_tensors, network_from_prototxt, read_caffemodel
from features.caffe.network import CaffeNetwork
from features.caffe.prototxt import read_prototxt
from features.caffe.schema import layer_type
from features.errors import InputError

PAIR = """
name: "pair" input: "data" input_shape { dim: 4 dim: 3 dim: 33 dim: 30 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 12 kernel_size: 5 stride: 2 pad_h: 1 pad_w: 3 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1"
  lrn_param { local_size: 5 alpha: 0.3 beta: 0.75 } }
layer { name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "conv2/3x3" type: "Convolution" bottom: "pool1" top: "conv2/3x3"
  convolution_param { num_output: 24 kernel_size: 3 group: 4 dilation: 2 pad: 2 bias_term: false } }
layer { name: "bn2" type: "BatchNorm" bottom: "conv2/3x3" top: "conv2/3x3"
  batch_norm_param { eps: 0.001 } }
layer { name: "scale2" type: "Scale" bottom: "conv2/3x3" top: "conv2/3x3"
  scale_param { bias_term: true } }
layer { name: "prelu2" type: "PReLU" bottom: "conv2/3x3" top: "conv2/3x3" }
layer { name: "ave2" type: "Pooling" bottom: "conv2/3x3" top: "ave2"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "conv3.a" type: "Convolution" bottom: "ave2" top: "conv3.a"
  convolution_param { num_output: 24 kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1 } }
layer { name: "bn3" type: "BatchNorm" bottom: "conv3.a" top: "bn3" }
layer { name: "scale3" type: "Scale" bottom: "bn3" top: "scale3" }
layer { name: "sum" type: "Eltwise" bottom: "scale3" bottom: "ave2" top: "sum"
  eltwise_param { operation: SUM coeff: 0.5 coeff: -1.5 } }
layer { name: "sum_relu" type: "ReLU" bottom: "sum" top: "sum" relu_param { negative_slope: 0.1 } }
layer { name: "max" type: "Eltwise" bottom: "sum" bottom: "ave2" top: "max"
  eltwise_param { operation: MAX } }
layer { name: "product" type: "Eltwise" bottom: "sum" bottom: "max" top: "product"
  eltwise_param { operation: PROD } }
layer { name: "concat" type: "Concat" bottom: "sum" bottom: "max" bottom: "product" top: "concat" }
layer { name: "within" type: "LRN" bottom: "concat" top: "within"
  lrn_param { local_size: 3 alpha: 0.3 norm_region: WITHIN_CHANNEL } }
layer { name: "global" type: "Pooling" bottom: "within" top: "global"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc6" type: "InnerProduct" bottom: "within" top: "fc6"
  inner_product_param { num_output: 20 } }
layer { name: "prelu6" type: "PReLU" bottom: "fc6" top: "fc6"
  prelu_param { channel_shared: true } }
layer { name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" }
layer { name: "flat" type: "Flatten" bottom: "global" top: "flat" }
layer { name: "concat7" type: "Concat" bottom: "fc6" bottom: "flat" top: "concat7"
  concat_param { axis: 1 } }
layer { name: "fc8" type: "InnerProduct" bottom: "concat7" top: "fc8"
  inner_product_param { num_output: 7 bias_term: false } }
layer { name: "prob" type: "Softmax" bottom: "fc8" top: "prob" }
"""

OLD_PAIR = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 29 input_dim: 29
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "gaussian" std: 0.01 } } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "norm1" type: LRN bottom: "conv1" top: "norm1" lrn_param { alpha: 0.1 } }
layers { name: "pool1" type: POOLING bottom: "norm1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layers { name: "conv2a" type: CONVOLUTION bottom: "pool1" top: "conv2a"
  convolution_param { num_output: 4 kernel_size: 3 group: 2 pad: 1 } }
layers { name: "conv2b" type: CONVOLUTION bottom: "pool1" top: "conv2b"
  convolution_param { num_output: 4 kernel_size: 1 } }
layers { name: "sum" type: ELTWISE bottom: "conv2a" bottom: "conv2b" top: "sum" }
layers { name: "concat" type: CONCAT bottom: "sum" bottom: "pool1" top: "concat"
  concat_param { concat_dim: 1 } }
layers { name: "fc3" type: INNER_PRODUCT bottom: "concat" top: "fc3"
  inner_product_param { num_output: 10 } }
layers { name: "drop3" type: DROPOUT bottom: "fc3" top: "fc3" }
layers { name: "fc4" type: INNER_PRODUCT bottom: "fc3" top: "fc4"
  inner_product_param { num_output: 1 } }
layers { name: "prob" type: SOFTMAX bottom: "fc3" top: "prob" }
"""


def layer(
    kind: str, parameters: str = "", bottoms: Iterable[str] = ("data",), top: str = "x"
) -> str:
    reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{top}" type: "{kind}" {reads} top: "{top}" {parameters} }}\n'


def image(*sides: int) -> str:
    return "input: 'data' " + " ".join(f"input_dim: {side}" for side in sides) + "\n"


def network(folder: Path, text: str) -> CaffeNetwork:
    (folder / "net.prototxt").write_text(text)
    return network_from_prototxt(folder / "net.prototxt").eval()


def drawn(net: CaffeNetwork, file: Path) -> tuple[dict[str, list[Tensor]], dict[str, str]]:
    """Blobs for every layer that has weights, and the layers' types."""
    generator = torch.Generator().manual_seed(7)
    blobs, types = {}, {}
    for text in read_prototxt(file).layers:
        state = net._modules[text.name.replace(".", "/")].state_dict()  # type: ignore[union-attr]
        if "running_mean" in state:
            sides = state["running_mean"].shape
            variance = torch.rand(sides, generator=generator) + 0.2
            mean = torch.randn(sides, generator=generator)
            blobs[text.name] = [mean * 2.5, variance * 2.5, torch.tensor([2.5])]
        elif state:
            blobs[text.name] = [
                torch.randn(v.shape, generator=generator) * (0.3 if v.dim() > 1 else 1.0)
                for v in state.values()
            ]
        types[text.name] = layer_type(text.parameters)
    return blobs, types


def outputs(net: CaffeNetwork, x: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: seen.update({name: output})

    for name, module in net.named_children():
        module.register_forward_hook(keep(name))
    with torch.no_grad():
        net(x)
    return seen


def equals_opencv(folder: Path, text: str, old: bool = False) -> int:
    """Compare what a person reads at each layer with OpenCV's; returns how many layers."""
    cv2 = pytest.importorskip("cv2")
    net, file = network(folder, text), folder / "net.prototxt"
    blobs, types = drawn(net, file)
    weights = write(folder / "net.caffemodel", blobs, types, old)
    state = named_tensors(read_caffemodel(weights) if blobs else {})
    wanted = {key for key in net.state_dict() if not key.endswith("num_batches_tracked")}
    assert set(state) == wanted
    net.load_state_dict(state, strict=False)
    theirs = cv2.dnn.readNetFromCaffe(str(file), *[str(weights)] * bool(blobs))
    theirs.enableFusion(False)
    theirs.enableWinograd(False)
    layers = read_prototxt(file)
    x = 3 * torch.randn(1, *next(iter(layers.inputs.values()))[1:])
    ours = outputs(net, x)
    writer = {text.tops[0]: text.name for text in layers.layers}  # the last one in place counts
    for text_layer in layers.layers:
        name = text_layer.name.replace(".", "/")
        if len(text_layer.tops) > 1:
            continue  # seen in the layers that read them
        theirs.setInput(x.numpy())
        expected = torch.from_numpy(theirs.forward(writer[text_layer.tops[0]]))
        assert ours[name].shape == expected.shape, name
        error = (ours[name] - expected).abs().max() / expected.abs().max().clamp_min(1e-30)
        assert error < 1e-4, name
    return len(layers.layers)


def test_every_layer_equals_opencv(tmp_path: Path) -> None:
    assert equals_opencv(tmp_path, PAIR) == 26


def test_every_layer_of_an_old_file_equals_opencv(tmp_path: Path) -> None:
    assert equals_opencv(tmp_path, OLD_PAIR, old=True) == 12


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_equal_opencv(tmp_path: Path, seed: int) -> None:
    text, old = randomnets.drawn(seed)
    assert equals_opencv(tmp_path, text, old) > 1


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(
    "window",
    [
        "kernel_size: 3 stride: 2",
        "kernel_size: 2 stride: 2",
        "kernel_size: 3 stride: 2 pad: 1",
        "kernel_size: 2 stride: 3 pad: 1",
        "kernel_size: 3 stride: 1 pad: 2",
        "kernel_h: 4 kernel_w: 3 stride_h: 3 stride_w: 2 pad_h: 3 pad_w: 1",
        "global_pooling: true",
    ],
)
def test_pooling_equals_opencv(tmp_path: Path, method: str, window: str) -> None:
    for sides in ((11, 14), (8, 15)):
        pool = layer("Pooling", f"pooling_param {{ pool: {method} {window} }}")
        assert equals_opencv(tmp_path, image(1, 3, *sides) + pool) == 1


@pytest.mark.parametrize(
    "text",
    [
        layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 group: 3 pad: 1 }"),
        layer("Convolution", "convolution_param { num_output: 2 kernel_size: 2 dilation: 3 }"),
        layer(
            "Convolution",
            "convolution_param { num_output: 2 kernel_h: 2 kernel_w: 5 stride_h: 3 stride_w: 1 "
            "pad_h: 4 pad_w: 0 }",
        ),
        layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 kernel_size: 1 }"),
        layer("Scale", "scale_param { bias_term: true }"),
        layer("Sigmoid"),
        layer("TanH"),
        layer("AbsVal"),
        layer("ELU", "elu_param { alpha: 0.7 }"),
        layer("Power", "power_param { power: 2 scale: 0.5 shift: 0.3 }"),
        layer("Softmax"),
        layer("LRN", "lrn_param { local_size: 7 alpha: 0.01 beta: 0.5 }"),
        layer("InnerProduct", "inner_product_param { num_output: 5 }"),
    ],
)
def test_single_layers_equal_opencv(tmp_path: Path, text: str) -> None:
    assert equals_opencv(tmp_path, image(1, 3, 9, 12) + text) == 1


def caffe_pooling(x: Tensor, method: str, k: Any, s: Any, p: Any, ceil: bool) -> Tensor:
    """Pooling by the loops of Caffe's pooling_layer.cpp, on one channel."""
    sides, rounded = x.shape, math.ceil if ceil else math.floor
    out = [rounded((sides[i] + 2 * p[i] - k[i]) / s[i]) + 1 for i in (0, 1)]
    if p[0] or p[1]:
        out = [n - ((n - 1) * s[i] >= sides[i] + p[i]) for i, n in enumerate(out)]
    result = torch.empty(out)
    for row in range(out[0]):
        for column in range(out[1]):
            start = [row * s[0] - p[0], column * s[1] - p[1]]
            end = [min(start[i] + k[i], sides[i] + p[i]) for i in (0, 1)]
            size = (end[0] - start[0]) * (end[1] - start[1])
            part = x[max(start[0], 0) : end[0], max(start[1], 0) : end[1]]
            result[row, column] = part.max() if method == "MAX" else part.sum() / size
    return result


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize("seed", range(16))
def test_pooling_follows_the_loops_of_caffe(tmp_path: Path, method: str, seed: int) -> None:
    rng = random.Random(seed)
    sides = rng.randint(5, 12), rng.randint(5, 12)
    kernel = [rng.randint(2, 5) for _ in "hw"] if seed else [sides[0] + 1, 3]  # a window cut short
    stride = [rng.randint(2, side) for side in kernel]
    pad = [rng.randrange(side) for side in kernel] if seed else [0, 0]
    ceil = rng.random() < 0.7 or not seed
    text = " ".join(
        f"{word}_{axis}: {value}"
        for word, sides in (("kernel", kernel), ("stride", stride), ("pad", pad))
        for axis, value in zip("hw", sides, strict=True)
    )
    mode = "CEIL" if ceil else "FLOOR"
    pool = layer("Pooling", f"pooling_param {{ pool: {method} round_mode: {mode} {text} }}")
    x = torch.randn(1, 3, *sides) - 2  # below zero, so that padding shows
    ours = network(tmp_path, image(1, 3, *sides) + pool)(x)
    expected = torch.stack([caffe_pooling(c, method, kernel, stride, pad, ceil) for c in x[0]])
    torch.testing.assert_close(ours[0], expected)


def test_lrn_equals_its_formula(tmp_path: Path) -> None:
    x = 4 * torch.randn(2, 3, 7, 6)
    text = image(1, 3, 7, 6) + layer("LRN", "lrn_param { local_size: 3 alpha: 0.6 beta: 0.4 k: 2 }")
    squares = torch.nn.functional.pad(x * x, (0, 0, 0, 0, 1, 1))
    sums = squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]
    torch.testing.assert_close(network(tmp_path, text)(x), x / (2 + 0.6 / 3 * sums) ** 0.4)
    within = "lrn_param { local_size: 3 alpha: 0.6 beta: 0.4 k: 2 norm_region: WITHIN_CHANNEL }"
    squares = torch.nn.functional.pad(x * x, (1, 1, 1, 1))
    sums = sum(  # type: ignore[assignment]
        squares[:, :, i : i + 7, j : j + 6] for i in range(3) for j in range(3)
    )
    ours = network(tmp_path, image(1, 3, 7, 6) + layer("LRN", within))(x)
    torch.testing.assert_close(ours, x / (1 + 0.6 / 9 * sums) ** 0.4)  # Caffe ignores k here


@pytest.mark.parametrize(
    ("axes", "sides", "shape"),
    [
        ("num_axes: 0", (1,), (1, 1, 1)),
        ("axis: 2 num_axes: 1", (4,), (1, 4, 1)),
        ("axis: 1 num_axes: -1", (3, 4, 5), (3, 4, 5)),
    ],
)
def test_a_scale_covers_the_axes_it_says(
    tmp_path: Path, axes: str, sides: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    text = image(1, 3, 4, 5) + layer("Scale", f"scale_param {{ {axes} bias_term: true }}")
    net = network(tmp_path, text)
    factor, summand = torch.randn(sides), torch.randn(sides)
    net.load_state_dict({"x.weight": factor, "x.bias": summand})
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(net(x), x * factor.reshape(shape) + summand.reshape(shape))


def test_layers_with_two_inputs_and_slices(tmp_path: Path) -> None:
    gate = layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", top="pool")
    gate += layer("Flatten", bottoms=["pool"], top="gate")
    x = torch.randn(2, 3, 5, 5)
    mean = x.mean((2, 3), keepdim=True)
    scale = layer("Scale", "scale_param { axis: 0 }", ["data", "gate"])
    torch.testing.assert_close(network(tmp_path, image(1, 3, 5, 5) + gate + scale)(x), x * mean)
    axpy = layer("Axpy", "", ["gate", "data", "data"])
    torch.testing.assert_close(network(tmp_path, image(1, 3, 5, 5) + gate + axpy)(x), x * mean + x)
    cut = (
        'layer { name: "cut" type: "Slice" bottom: "data" top: "a" top: "b" '
        "slice_param { slice_point: 1 } }\n"
    )
    swapped = network(tmp_path, image(1, 3, 5, 5) + cut + layer("Concat", "", ["b", "a"]))
    assert swapped(x).equal(x[:, [1, 2, 0]])
    turned = "inner_product_param { num_output: 4 transpose: true bias_term: false }"
    net = network(tmp_path, image(1, 3, 5, 5) + layer("InnerProduct", turned))
    weight = net.state_dict()["x.weight"]
    assert weight.shape == (75, 4)
    torch.testing.assert_close(net(x), x.flatten(1) @ weight)


IN_PLACE = image(1, 3, 6, 6) + "".join(
    [
        layer("ReLU", top="before"),
        layer("Convolution", "convolution_param { num_output: 2 kernel_size: 1 }", top="conv.1"),
        'layer { name: "bn" type: "BatchNorm" bottom: "conv.1" top: "conv.1" }\n',
        'layer { name: "relu/1" type: "ReLU" bottom: "conv.1" top: "conv.1" }\n',
        layer("Power", "power_param { shift: -1 }", ["conv.1"], "type"),
        layer("AbsVal", "", ["type"], "seen"),
        'layer { name: "late" type: "ReLU" bottom: "type" top: "type" }\n',
        layer("Dropout", "", ["type"], "drop"),
        layer("Concat", "", ["drop", "type", "seen"], "last"),
    ]
)


def test_a_layer_is_read_after_what_works_in_place_on_it(tmp_path: Path) -> None:
    net = network(tmp_path, IN_PLACE)
    names = ["before", "conv.1", "type", "seen", "late", "last"]
    assert list(net.default_layers) == names
    assert net.default_layers["conv.1"] == "conv/1"
    for copy in (net, deepcopy(net)):
        seen = outputs(copy, torch.randn(1, 3, 6, 6))
        conv, shifted = seen["conv/1"], seen["conv/1"] - 1
        assert conv.min() == 0
        assert conv.equal(seen["bn"])
        assert conv.equal(seen["relu/1"])
        # `seen` stands before `late` and so reads the blob as it was.
        assert seen["type"].equal(shifted)
        assert seen["seen"].equal(shifted.abs())
        assert seen["last"].equal(torch.cat([shifted.relu()] * 2 + [shifted.abs()], 1))
    assert {"conv/1.weight", "bn.running_mean"} <= set(net.state_dict())


def test_a_card_without_layers_lists_those_of_the_prototxt(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(PAIR)
    card = tmp_path / "card.toml"
    card.write_text(
        'name = "pair"\ndomain = "toys"\nnetwork = "caffe:net.prototxt"\n[input]\nsize = [33, 30]\n'
    )
    layers = describe(str(card)).layers
    names = [found.name for found in layers]
    assert names[:8] == ["conv1", "norm1", "pool1", "conv2.3x3", "ave2", "conv3.a", "bn3", "scale3"]
    assert names[8:14] == ["sum", "max", "product", "concat", "within", "global"]
    assert names[14:] == ["fc6", "flat", "concat7", "fc8", "prob"]
    by_name = {found.name: found for found in layers}
    assert by_name["pool1"].shape == (12, 8, 8)
    assert by_name["fc8"].shape == (7,)
    assert [by_name[name].depth for name in ("conv1", "sum", "fc6", "prob")] == [0.2, 0.6, 0.8, 1]
    card.write_text(card.read_text() + '[layers]\nfirst = "conv1"\nact = "sum_relu"\n')
    assert [found.name for found in describe(str(card)).layers] == ["first", "act"]


def test_a_card_loads_its_pair(tmp_path: Path) -> None:
    net = network(tmp_path, PAIR)
    blobs, types = drawn(net, tmp_path / "net.prototxt")
    write(tmp_path / "net.caffemodel", blobs, types)
    net.load_state_dict(named_tensors(blobs), strict=False)
    card = tmp_path / "card.toml"
    card.write_text(
        'name = "pair"\ndomain = "toys"\nnetwork = "caffe:net.prototxt"\n[input]\nsize = [33, 30]\n'
        '[[weights]]\npath = "net.caffemodel"\n'
    )
    loaded = load(str(card))
    assert loaded.unused == ()
    x = torch.randn(2, 3, 33, 30)
    assert loaded.model(x).equal(net(x))
    del blobs["scale2"]
    write(tmp_path / "net.caffemodel", blobs, types)
    with pytest.raises(InputError, match=r"2 of \d+ tensors are missing \(scale2.weight, scale2.b"):
        load(str(card))


DETECTOR = (
    image(1, 3, 20, 20)
    + layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", top="conv1")
    + layer("ReLU", bottoms=["conv1"], top="conv1").replace('name: "conv1"', 'name: "relu1"')
    + layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 }", ["conv1"], "conv2")
    + layer("Normalize", "norm_param { across_spatial: false }", ["conv1"], "conv1_norm")
    + layer(
        "Convolution", "convolution_param { num_output: 2 kernel_size: 1 }", ["conv1_norm"], "loc1"
    )
    + layer("Permute", "permute_param { order: 0 order: 2 }", ["loc1"], "loc1_perm")
    + layer("Flatten", "flatten_param { axis: 1 }", ["loc1_perm"], "loc1_flat")
    + layer("Convolution", "convolution_param { num_output: 2 kernel_size: 1 }", ["conv2"], "loc2")
    + layer("Permute", "permute_param { order: 0 order: 2 }", ["loc2"], "loc2_perm")
    + layer("PriorBox", "prior_box_param { min_size: 3 }", ["conv2", "data"], "prior")
    + layer("Concat", "concat_param { axis: 1 }", ["loc1_flat", "loc2_perm"], "loc")
    + layer("DetectionOutput", "", ["loc", "prior"], "detection")
)


def test_the_body_of_a_detector_is_built_up_to_what_is_not_known(tmp_path: Path) -> None:
    net = network(tmp_path, DETECTOR)
    assert [name for name, _ in net.named_children()] == ["conv1", "relu1", "conv2", "loc2"]
    assert net.left == {
        "conv1_norm": "since its type Normalize is none that can be built",
        "loc1": "since it reads conv1_norm, which is not built",
        "loc1_perm": "since its type Permute is none that can be built",
        "loc1_flat": "since it reads loc1_perm, which is not built",
        "loc2_perm": "since its type Permute is none that can be built",
        "prior": "since its type PriorBox is none that can be built",
        "loc": "since it reads loc1_flat, which is not built",
        "detection": "since its type DetectionOutput is none that can be built",
    }
    blobs = {
        "conv1": [torch.randn(4, 3, 3, 3), torch.randn(4)],
        "conv2": [torch.randn(6, 4, 3, 3), torch.randn(6)],
        "conv1_norm": [torch.randn(4)],
        "loc1": [torch.randn(2, 4, 1, 1), torch.randn(2)],
    }
    types = {name: "Normalize" if "norm" in name else "Convolution" for name in blobs}
    write(tmp_path / "net.caffemodel", blobs, types)
    card = tmp_path / "card.toml"
    text = (
        'name = "body"\ndomain = "toys"\nnetwork = "caffe:net.prototxt"\n[input]\nsize = [20, 20]\n'
    )
    card.write_text(text)
    file = str(tmp_path / "net.caffemodel")
    loaded = load(str(card), file, layers=lambda _, of: choose(of, ("conv2",)))
    x = torch.randn(2, 3, 20, 20)
    first = torch.nn.functional.conv2d(x, *blobs["conv1"]).relu()
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.model.get_submodule("conv2")(loaded.model.get_submodule("conv1")(x)),
            torch.nn.functional.conv2d(first, *blobs["conv2"]),
        )
    assert [layer.name for layer in loaded.layers()] == ["conv1", "conv2", "loc2"]
    assert [layer.depth for layer in loaded.layers()] == [1 / 3, 2 / 3, 1.0]
    assert "2 tensors above conv2 are not needed" in loaded.notes[0]  # loc2's are not in the file
    with pytest.raises(InputError, match="2 of 6 tensors are missing"):
        load(str(card), file, layers=lambda _, of: choose(of, ("loc2",)))
    with pytest.raises(
        InputError, match="loc1 is no layer, since it reads conv1_norm, which is not"
    ):
        load(str(card), file, layers=lambda _, of: choose(of, ("loc1",)))
    card.write_text(text + '[layers]\nfound = "detection"\n')
    with pytest.raises(
        InputError, match="found reads the module detection, which is no layer, since"
    ):
        describe(str(card))


def test_only_what_runs_in_the_test_phase_is_built(tmp_path: Path) -> None:
    text = """
    state { level: 1 stage: "deploy" }
    layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
      transform_param { crop_size: 5 } }
    layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TEST }
      transform_param { crop_size: 6 } image_data_param { source: "list" } }
    layer { name: "a" type: "ReLU" bottom: "data" top: "a" exclude { phase: TRAIN } }
    layer { name: "b" type: "ReLU" bottom: "data" top: "b" exclude { phase: TEST } }
    layer { name: "c" type: "ReLU" bottom: "data" top: "c" include { stage: "other" } }
    layer { name: "d" type: "ReLU" bottom: "a" top: "d" include { phase: TRAIN }
      include { stage: "deploy" min_level: 1 max_level: 1 } }
    layer { name: "e" type: "ReLU" bottom: "a" top: "e" include { min_level: 2 } }
    layer { name: "f" type: "ReLU" bottom: "a" top: "f" include { not_stage: "deploy" } }
    layer { type: "ReLU" bottom: "d" top: "d" }
    layer { name: "accuracy" type: "Accuracy" bottom: "d" bottom: "label" top: "accuracy" }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "d" bottom: "label" top: "loss" }
    layer { name: "silence" type: "Silence" bottom: "label" }
    """
    net = network(tmp_path, text)
    assert [name for name, _ in net.named_children()] == ["a", "d", "relu_4"]
    assert net(torch.ones(1, 3, 6, 6)).shape == (1, 3, 6, 6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            layer("Pooling2"),
            "layer x (Pooling2) cannot be built: there is no such type here; did you mean Pooling "
            "or Convolution?",
        ),
        (
            layer("ReLU", bottoms=["dta"]),
            "layer x (ReLU) cannot be built: no layer gives the blob dta that it reads; did you mean "
            "data?",
        ),
        (
            layer("ReLU") * 2,
            "layer x (ReLU) cannot be built: another layer has this name; correct it.",
        ),
        (layer("Convolution"), "kernel_size is missing; correct it."),
        (
            layer("Convolution", "convolution_param { kernel_size: 1 }"),
            "num_output is missing or 0; correct it.",
        ),
        (
            layer("Convolution", "convolution_param { kernel_size: 1 num_output: 4 group: 2 }"),
            "group 2 does not divide 3 and 4 channels; correct it.",
        ),
        (
            layer("Convolution", "convolution_param { kernel_size: 1 num_output: 4 stride: 0 }"),
            "stride 0 fits no image; correct it.",
        ),
        (
            layer("Convolution", "convolution_param { kernel_h: 1 num_output: 4 }"),
            "it needs either kernel_size or both kernel_h and kernel_w; correct it.",
        ),
        (
            layer("InnerProduct", "inner_product_param { num_output: 4000000000 }"),
            "its 4000000000 x 108 weights fit into no caffemodel; correct it.",
        ),
        (
            layer("Pooling", "pooling_param { kernel_size: 1 stride: 2 }"),
            "one of its windows lies outside of 6 x 6; correct it.",
        ),
        (
            layer("Pooling", "pooling_param { kernel_size: 2 pad: 2 }"),
            "its pad is not smaller than its kernel; correct it.",
        ),
        (
            layer("Pooling", "pooling_param { kernel_size: 2 pool: STOCHASTIC }"),
            "its pooling is stochastic; only MAX and AVE are supported; correct it.",
        ),
        (
            layer("LRN", "lrn_param { local_size: 4 }"),
            "its local_size 4 is not a small odd number; correct it.",
        ),
        (
            layer("BatchNorm", "batch_norm_param { use_global_stats: false }"),
            "use_global_stats: false makes the features of an image depend on the others of its "
            "batch; correct it.",
        ),
        (
            layer("Convolution", "convolution_param { kernel_size: 9 pad: 60000 num_output: 1 }"),
            "it gives 1 x 1 x 119998 x 119998 numbers for one image; correct it.",
        ),
        (
            layer("Concat", "concat_param { axis: 4 }"),
            "axis 4 is not one of (1, 3, 6, 6); correct it.",
        ),
        (layer("ReLU", bottoms=["data", "data"]), "it reads 2 blobs; correct it."),
        ("layer { name: 'x' type: 'ReLU' bottom: 'data' }", "it gives 0 blobs; correct it."),
        ("", "describes no layers; give the prototxt of a network."),
        ("layers { type: RELU }" + layer("ReLU"), "mixes `layer` with the older `layers`"),
        ("layer { name: 3 }", " line 2: not a prototxt that can be read (Expected string"),
        ("layer {" * 3000, "not a prototxt that can be read"),
        ("unknown {" * 3000, "not a prototxt that can be read"),
    ],
)
def test_what_cannot_be_built_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        network(tmp_path, image(1, 3, 6, 6) + text)
    message = str(caught.value)
    assert said in message
    assert message.startswith(str(tmp_path / "net.prototxt"))
    assert message.endswith((".", "?"))
    assert "\n" not in message


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ("", "has no input; add a layer of type Input."),
        ("input: 'data'", "does not say how large its input data is; add its input_shape"),
        (image(1, 1, 6, 6), "its input data is 1 x 1 x 6 x 6, not a batch of images of 3 channels"),
        (image(1, 3, 0, 6), "its input data is 1 x 3 x 0 x 6"),
        (image(1, 3, 6, 6) + "input: 'b'", "has 2 inputs and the sides of 1"),
    ],
)
def test_what_is_not_an_image_is_refused(tmp_path: Path, inputs: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        network(tmp_path, inputs + layer("ReLU"))


def test_a_second_input_may_stand_there_unread(tmp_path: Path) -> None:
    inputs = layer("Input", "input_param { shape { dim: 1 dim: 3 } }", (), "info")
    inputs += layer("Input", "", (), "data")
    (tmp_path / "net.prototxt").write_text(inputs + layer("ReLU"))
    with pytest.raises(InputError, match="info is 1 x 3, not a batch"):
        network_from_prototxt(tmp_path / "net.prototxt", (4, 5))
    inputs = layer("Input", "input_param { shape { dim: 9 dim: 3 dim: 4 dim: 5 } }", (), "data")
    inputs += layer("Input", "", (), "info")
    assert network(tmp_path, inputs + layer("ReLU"))(torch.ones(2, 3, 4, 5)).shape == (2, 3, 4, 5)
    with pytest.raises(InputError, match="it reads info, which is not the image; correct it"):
        network(tmp_path, inputs + layer("ReLU", "", ["info"]))


def test_a_prototxt_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; paths start from the card's folder"):
        network_from_prototxt(tmp_path / "x.prototxt")


def test_numbers_in_a_prototxt_may_be_anything(tmp_path: Path) -> None:
    rng = random.Random(4)
    words = PAIR.split(" ")
    numbers = [i for i, word in enumerate(words) if word.replace(".", "").isdigit()]
    refused = 0
    for _ in range(150):
        changed = list(words)
        for i in rng.sample(numbers, 2):
            changed[i] = rng.choice(
                ["0", "1", "2", "3", "65535", "4294967295", "-1", "1e30", "nan"]
            )
        (tmp_path / "net.prototxt").write_text(" ".join(changed))
        try:
            with torch.device("meta"):
                network_from_prototxt(tmp_path / "net.prototxt")
        except InputError:
            refused += 1
    assert 20 < refused < 150
