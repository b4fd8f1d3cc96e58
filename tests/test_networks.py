"""The networks of the package against their prototxts, written out here as their authors have them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from features.backbone import describe
from features.caffe import fitted, named_tensors, network_from_prototxt
from features.caffe.network import CaffeNetwork
from features.card import find
from features.network import build


def layer(kind: str, name: str, bottoms: str | Iterable[str], top: str = "", more: str = "") -> str:
    bottoms = [bottoms] if isinstance(bottoms, str) else bottoms
    reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{top or name}" {more} }}\n'


def conv(name: str, bottom: str, out: int, kernel: int, more: str = "") -> str:
    parameters = f"convolution_param {{ num_output: {out} kernel_size: {kernel} {more} }}"
    return layer("Convolution", name, bottom, more=parameters)


def relu(name: str, blob: str) -> str:
    return layer("ReLU", name, blob, blob)


def pool(name: str, bottom: str, more: str = "kernel_size: 3 stride: 2") -> str:
    return layer("Pooling", name, bottom, more=f"pooling_param {{ {more} }}")


def norm(name: str, bottom: str) -> str:
    parameters = "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"
    return layer("LRN", name, bottom, more=parameters)


def dense(name: str, bottom: str, out: int) -> str:
    return layer("InnerProduct", name, bottom, more=f"inner_product_param {{ num_output: {out} }}")


def head(bottom: str, wide: int, classes: int) -> str:
    text = ""
    for i in "67":
        text += dense(f"fc{i}", bottom, wide) + relu(f"relu{i}", f"fc{i}")
        text += layer("Dropout", f"drop{i}", f"fc{i}", f"fc{i}")
        bottom = f"fc{i}"
    return text + dense("fc8", bottom, classes)


def alexnet(order: str) -> str:
    def after(i: int) -> str:
        if order == "pool norm":
            return pool(f"pool{i}", f"conv{i}") + norm(f"norm{i}", f"pool{i}")
        return norm(f"norm{i}", f"conv{i}") + pool(f"pool{i}", f"norm{i}")

    last = order.split()[1]
    text = conv("conv1", "data", 96, 11, "stride: 4") + relu("relu1", "conv1") + after(1)
    text += conv("conv2", f"{last}1", 256, 5, "pad: 2 group: 2") + relu("relu2", "conv2") + after(2)
    text += conv("conv3", f"{last}2", 384, 3, "pad: 1") + relu("relu3", "conv3")
    text += conv("conv4", "conv3", 384, 3, "pad: 1 group: 2") + relu("relu4", "conv4")
    text += conv("conv5", "conv4", 256, 3, "pad: 1 group: 2") + relu("relu5", "conv5")
    return text + pool("pool5", "conv5") + head("pool5", 4096, 1000)


def gilnet() -> str:
    text = conv("conv1", "data", 96, 7, "stride: 4") + relu("relu1", "conv1")
    text += pool("pool1", "conv1") + norm("norm1", "pool1")
    text += conv("conv2", "norm1", 256, 5, "pad: 2") + relu("relu2", "conv2")
    text += pool("pool2", "conv2") + norm("norm2", "pool2")
    text += conv("conv3", "norm2", 384, 3, "pad: 1") + relu("relu3", "conv3")
    return text + pool("pool5", "conv3") + head("pool5", 512, 8)


INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet() -> str:
    text = conv("conv1/7x7_s2", "data", 64, 7, "stride: 2 pad: 3")
    text += relu("conv1/relu_7x7", "conv1/7x7_s2") + pool("pool1/3x3_s2", "conv1/7x7_s2")
    text += norm("pool1/norm1", "pool1/3x3_s2") + conv("conv2/3x3_reduce", "pool1/norm1", 64, 1)
    text += relu("conv2/relu_3x3_reduce", "conv2/3x3_reduce")
    text += conv("conv2/3x3", "conv2/3x3_reduce", 192, 3, "pad: 1")
    text += relu("conv2/relu_3x3", "conv2/3x3") + norm("conv2/norm2", "conv2/3x3")
    text += pool("pool2/3x3_s2", "conv2/norm2")
    bottom = "pool2/3x3_s2"
    for number, widths in INCEPTIONS.items():
        name = f"inception_{number}"
        bottoms = [
            bottom,
            bottom,
            f"{name}/3x3_reduce",
            bottom,
            f"{name}/5x5_reduce",
            f"{name}/pool",
        ]
        kinds = ["1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj"]
        text += pool(f"{name}/pool", bottom, "kernel_size: 3 stride: 1 pad: 1")
        for kind, below, width in zip(kinds, bottoms, widths, strict=True):
            kernel = int(kind[0]) if kind in ("3x3", "5x5") else 1
            text += conv(f"{name}/{kind}", below, width, kernel, f"pad: {kernel // 2}")
            text += relu(f"{name}/relu_{kind}", f"{name}/{kind}")
        parts = [f"{name}/{kind}" for kind in ("1x1", "3x3", "5x5", "pool_proj")]
        text += layer("Concat", f"{name}/output", parts)
        bottom = f"{name}/output"
        if number in ("3b", "4e"):
            text += pool(f"pool{number[0]}/3x3_s2", bottom)
            bottom = f"pool{number[0]}/3x3_s2"
    text += pool("pool5/7x7_s1", bottom, "pool: AVE kernel_size: 7 stride: 1")
    return text + dense("loss3/classifier", "pool5/7x7_s1", 1000)


def resnet(gated: bool) -> str:
    def normalised(name: str, bottom: str, out: int, kernel: int, stride: int = 1) -> str:
        more = f"stride: {stride} pad: {kernel // 2} bias_term: false"
        text = conv(name, bottom, out, kernel, more) + layer("BatchNorm", f"{name}/bn", name, name)
        scale = "scale_param { bias_term: true }"
        return text + layer("Scale", f"{name}/bn/scale", name, name, scale)

    text = normalised("conv1/7x7_s2", "data", 64, 7, 2) + relu("conv1/relu_7x7_s2", "conv1/7x7_s2")
    text += pool("pool1/3x3_s2", "conv1/7x7_s2")
    below = "pool1/3x3_s2"
    for stage, width, blocks in ((2, 64, 3), (3, 128, 4), (4, 256, 6), (5, 512, 3)):
        for block in range(1, blocks + 1):
            name, stride = f"conv{stage}_{block}", 2 if block == 1 and stage > 2 else 1
            reduce, three, increase = f"{name}_1x1_reduce", f"{name}_3x3", f"{name}_1x1_increase"
            text += normalised(reduce, below, width, 1, stride) + relu(f"{reduce}/relu", reduce)
            text += normalised(three, reduce, width, 3) + relu(f"{three}/relu", three)
            text += normalised(increase, three, 4 * width, 1)
            shortcut = below
            if block == 1:
                shortcut = f"{name}_1x1_proj"
                text += normalised(shortcut, below, 4 * width, 1, stride)
            if gated:
                text += pool(f"{name}_pool", increase, "pool: AVE global_pooling: true")
                text += conv(f"{name}_1x1_down", f"{name}_pool", width // 4, 1)
                text += relu(f"{name}_1x1_down/relu", f"{name}_1x1_down")
                text += conv(f"{name}_1x1_up", f"{name}_1x1_down", 4 * width, 1)
                text += layer("Sigmoid", f"{name}_prob", f"{name}_1x1_up")
                text += layer("Axpy", name, [f"{name}_prob", increase, shortcut])
            else:
                text += layer("Eltwise", name, [increase, shortcut])
            text += relu(f"{name}/relu", name)
            below = name
    text += pool("pool5/7x7_s1", below, "pool: AVE kernel_size: 7 stride: 1")
    return text + dense("classifier", "pool5/7x7_s1", 8631)


PROTOTXTS: dict[str, Callable[[], str]] = {
    "gilnet": gilnet,
    "caffenet": lambda: alexnet("pool norm"),
    "bvlc-alexnet": lambda: alexnet("norm pool"),
    "googlenet-bvlc": googlenet,
    "vggface2-resnet50": lambda: resnet(gated=False),
    "vggface2-senet50": lambda: resnet(gated=True),
}


def blobs_for(net: CaffeNetwork) -> dict[str, list[Tensor]]:
    """Weights under which activations neither vanish nor grow, drawn for every layer."""
    generator = torch.Generator().manual_seed(1)
    blobs = {}
    for name, module in net.named_children():
        state = module.state_dict()
        if "running_mean" in state:
            mean = torch.randn(state["running_mean"].shape, generator=generator)
            blobs[name] = [mean, 0.5 + mean.abs(), torch.tensor([2.0])]
        elif isinstance(module, nn.Conv2d | nn.Linear):
            spread = (2 / module.weight[0].numel()) ** 0.5
            few = torch.randn(99_991, generator=generator)  # drawing 61 million would take a second
            weight = few.repeat(module.weight.numel() // 99_991 + 1)[: module.weight.numel()]
            blobs[name] = [spread * weight.reshape(module.weight.shape)]
            if module.bias is not None:
                blobs[name].append(0.1 * torch.randn(module.bias.shape, generator=generator))
        elif state:
            blobs[name] = [0.5 + torch.rand(v.shape, generator=generator) for v in state.values()]
    return blobs


def read_at(modules: dict[str, nn.Module], net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: seen.update({name: output.clone()})

    for name, module in modules.items():
        module.register_forward_hook(keep(name))
    with torch.no_grad():
        net(x)
    return seen


@pytest.mark.parametrize("name", PROTOTXTS)
def test_a_network_is_that_of_its_prototxt(tmp_path: Path, name: str) -> None:
    card = find(name)
    assert card.input is not None
    assert card.layers is not None
    side = card.input.size[0]
    text = f"input: 'data' input_shape {{ dim: 1 dim: 3 dim: {side} dim: {side} }}\n"
    (tmp_path / "deploy.prototxt").write_text(text + PROTOTXTS[name]())
    with torch.device("meta"):
        theirs = network_from_prototxt(tmp_path / "deploy.prototxt").eval()
    ours = build(card, device="meta")
    tensors = named_tensors(blobs_for(theirs))
    wanted = fitted(tensors, ours.state_dict())
    counted = {key for key in ours.state_dict() if key.endswith("num_batches_tracked")}
    assert set(wanted) == set(ours.state_dict()) - counted
    zeros = {key: torch.zeros((), dtype=torch.int64) for key in counted}
    ours.load_state_dict({**wanted, **zeros}, assign=True)
    counted = {key for key in theirs.state_dict() if key.endswith("num_batches_tracked")}
    zeros = {key: torch.zeros((), dtype=torch.int64) for key in counted}
    theirs.load_state_dict({**tensors, **zeros}, assign=True)
    modules = dict(ours.named_modules())
    image = 50 * torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(2))
    if "senet" in name:  # its gates make the most of the last bits
        ours, theirs, image = ours.double(), theirs.double(), image.double()
    mine = read_at({key: modules[module] for key, module in card.layers.items()}, ours, image)
    blobs = {key.replace("/", "."): module for key, module in theirs.named_children()}
    published = read_at({key: blobs[key] for key in card.layers}, theirs, image)
    order = [key for key in theirs.default_layers if key in card.layers]
    assert order == list(card.layers)
    for key in card.layers:
        assert mine[key].flatten(1).shape == published[key].flatten(1).shape, key
        scale = published[key].abs().max()
        assert scale > 0
        assert (mine[key].flatten() - published[key].flatten()).abs().max() < 1e-5 * scale, key


@pytest.mark.parametrize(
    ("name", "parameters", "weight_layers"),
    [
        ("caffenet", 60_965_224, 8),
        ("bvlc-alexnet", 60_965_224, 8),
        ("alexnet", 61_100_840, 8),
        ("gilnet", 11_415_048, 6),
        ("vggface", 145_002_878, 16),
        ("vgg16", 138_357_544, 16),
        ("googlenet-bvlc", 6_998_552, 22),
        ("vggface2-resnet50", 41_192_951, 50),
        ("vggface2-senet50", 43_723_943, 50),
        ("squeezenet1_0", 1_248_424, 18),
        ("squeezenet1_1", 1_235_496, 18),
        ("squeezenet1_1-caffe", 1_235_496, 18),
    ],
)
def test_parameters_and_depth_are_the_published_ones(
    name: str, parameters: int, weight_layers: int
) -> None:
    backbone = describe(name)
    assert backbone.parameters == parameters
    deepest = max(backbone.layers, key=lambda found: found.depth)
    assert backbone.traced.fired[deepest.module].weight_layers == weight_layers
    assert [found.depth for found in backbone.layers] == sorted(f.depth for f in backbone.layers)
    assert [found.name for found in backbone.layers] == list(find(name).layers or ())


SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "caffenet": {
        "conv1": (96, 55, 55),
        "pool1": (96, 27, 27),
        "norm1": (96, 27, 27),
        "pool2": (256, 13, 13),
        "norm2": (256, 13, 13),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "pool5": (256, 6, 6),
        "fc6": (4096,),
        "fc7": (4096,),
        "fc8": (1000,),
    },
    "bvlc-alexnet": {"norm1": (96, 55, 55), "pool1": (96, 27, 27), "norm2": (256, 27, 27)},
    "gilnet": {
        "conv1": (96, 56, 56),
        "pool1": (96, 28, 28),
        "pool2": (256, 14, 14),
        "conv3": (384, 14, 14),
        "pool5": (384, 7, 7),
        "fc6": (512,),
        "fc8": (8,),
    },
    "vggface": {
        "pool1": (64, 112, 112),
        "pool2": (128, 56, 56),
        "pool3": (256, 28, 28),
        "pool4": (512, 14, 14),
        "pool5": (512, 7, 7),
        "fc7": (4096,),
        "fc8": (2622,),
    },
    "googlenet-bvlc": {
        "pool1.norm1": (64, 56, 56),
        "conv2.3x3": (192, 56, 56),
        "inception_3a.output": (256, 28, 28),
        "inception_4e.output": (832, 14, 14),
        "inception_5b.output": (1024, 7, 7),
        "pool5.7x7_s1": (1024,),
    },
    "vggface2-resnet50": {
        "conv1.7x7_s2": (64, 112, 112),
        "pool1.3x3_s2": (64, 56, 56),
        "conv2_3": (256, 56, 56),
        "conv3_1": (512, 28, 28),
        "conv5_3": (2048, 7, 7),
        "pool5.7x7_s1": (2048,),
        "classifier": (8631,),
    },
    "squeezenet1_0": {"pool1": (96, 54, 54), "fire4": (256, 54, 54), "pool8": (512, 13, 13)},
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_the_published_ones(name: str) -> None:
    found = {layer.name: layer.shape for layer in describe(name).layers}
    assert {key: found[key] for key in SHAPES[name]} == SHAPES[name]


def test_pools_round_up_where_caffe_does() -> None:
    """At other sizes than their own, where rounding down would give a smaller map."""
    for name, side, expected in (("googlenet-bvlc", 228, 57), ("vggface2-resnet50", 228, 57)):
        net = build(find(name), device="meta")
        modules = dict(net.named_modules())
        pool_module = modules[(find(name).layers or {})["pool1.3x3_s2"]]
        x = torch.zeros(1, 64, side // 2, side // 2, device="meta")
        assert pool_module(x).shape[2:] == (expected, expected)


@pytest.mark.parametrize("name", ["caffenet", "bvlc-alexnet", "gilnet", "googlenet-bvlc"])
def test_norms_equal_the_formula(name: str) -> None:
    net = build(find(name), device="meta")
    norms = [module for module in net.modules() if isinstance(module, nn.LocalResponseNorm)]
    assert len(norms) == 2
    x = 100 * torch.randn(2, 7, 3, 4)
    squares = torch.nn.functional.pad(x * x, (0, 0, 0, 0, 2, 2))
    sums = torch.stack([squares[:, i : i + 7] for i in range(5)]).sum(0)
    for module in norms:
        torch.testing.assert_close(module(x), x / (1 + 1e-4 / 5 * sums) ** 0.75)


def test_untrained_networks_start_as_published() -> None:
    net = dict(build(find("googlenet-bvlc")).named_modules())
    assert isinstance(net["conv1.7x7_s2"], nn.Conv2d)
    assert net["conv1.7x7_s2"].bias is not None
    assert net["conv1.7x7_s2"].bias.eq(0.2).all()
    assert net["conv1.7x7_s2"].weight.abs().max() <= (3 / 147) ** 0.5
    for name, ones in (("caffenet", 1.0), ("bvlc-alexnet", 0.1)):
        modules = dict(build(find(name)).named_modules())
        conv1, conv2 = modules["conv1"], modules["conv2"]
        assert isinstance(conv1, nn.Conv2d)
        assert isinstance(conv2, nn.Conv2d)
        assert conv1.bias is not None
        assert conv2.bias is not None
        assert conv1.bias.eq(0).all()
        assert conv2.bias.eq(ones).all()
        assert 0.0095 < conv2.weight.std() < 0.0105
