"""The networks of the package against their prototxts, written out here as their authors have them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from prototxts import PROTOTXTS
from torch import Tensor, nn

from features.backbone import describe
from features.caffe import fitted, named_tensors, network_from_prototxt
from features.caffe.network import CaffeNetwork
from features.cards.network import build
from features.cards.reading import find, shipped


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


def counted(*steps: tuple[str, int]) -> dict[str, int]:
    """Weight layers up to each layer, from how many each adds."""
    found, total = {}, 0
    for names, more in steps:
        total += more
        found.update(dict.fromkeys(names.split(), total))
    return found


_FC = (("fc6", 1), ("fc7", 1), ("fc8", 1))
_FIVE = (("conv1 pool1 norm1", 1), ("conv2 pool2 norm2", 1), ("conv3", 1), ("conv4", 1))
_VGG = tuple(
    (f"conv{stage}_{i}" + f" pool{stage}" * (i == last), 1)
    for stage, last in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3))
    for i in range(1, last + 1)
)
_RESNET = (
    ("conv1.7x7_s2 pool1.3x3_s2", 1),
    *((f"conv{s}_{i}", 3) for s, n in ((2, 3), (3, 4), (4, 6), (5, 3)) for i in range(1, n + 1)),
    ("pool5.7x7_s1", 0),
    ("classifier", 1),
)
_SMALL = (*((f"conv{i}", 1) for i in range(1, 6)), ("pool5", 0), ("fc6", 1), ("fc7", 1))
_FIRES = {"1_0": (1, 4, 8), "1_1": (1, 3, 5)}


def _squeezenet(version: str) -> dict[str, int]:
    pools = _FIRES[version]
    fires = ((f"fire{i}" + f" pool{i}" * (i in pools), 2) for i in range(2, 10))
    return counted(("conv1 pool1", 1), *fires, ("conv10 pool10", 1))


# Counted by hand: convolutions and fully connected layers from the image to each layer.
COUNTS = {
    "alexnet": counted(
        ("conv1 pool1", 1), ("conv2 pool2", 1), *_FIVE[2:], ("conv5 pool5", 1), *_FC
    ),
    "bvlc-alexnet": counted(*_FIVE, ("conv5 pool5", 1), *_FC),
    "caffenet": counted(*_FIVE, ("conv5 pool5", 1), *_FC),
    "control:pixels": counted(("pixels", 0)),
    "control:tiny": counted(("tiny", 0)),
    "gilnet": counted(*_FIVE[:2], ("conv3 pool5", 1), *_FC),
    "googlenet-bvlc": counted(
        ("conv1.7x7_s2 pool1.3x3_s2 pool1.norm1", 1),
        ("conv2.3x3_reduce", 1),
        ("conv2.3x3 conv2.norm2 pool2.3x3_s2", 1),
        ("inception_3a.output", 2),
        ("inception_3b.output pool3.3x3_s2", 2),
        *((f"inception_4{i}.output", 2) for i in "abcd"),
        ("inception_4e.output pool4.3x3_s2", 2),
        ("inception_5a.output", 2),
        ("inception_5b.output pool5.7x7_s1", 2),
        ("loss3.classifier", 1),
    ),
    "mobilefacenet": counted(
        ("conv1", 1), ("dw_conv1", 1), *((f"blocks.{i}", 3) for i in range(15)),
        ("conv2", 1), ("linear7", 1), ("linear1", 1),
    ),
    "sample-faces": counted(*_SMALL),
    "sample-objects": counted(*_SMALL),
    "squeezenet1_0": _squeezenet("1_0"),
    "squeezenet1_1": _squeezenet("1_1"),
    "squeezenet1_1-caffe": _squeezenet("1_1"),
    "vgg16": counted(*_VGG, *_FC),
    "vggface": counted(*_VGG, *_FC),
    "vggface2-resnet50": counted(*_RESNET),
    "vggface2-senet50": counted(*_RESNET),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(shipped()))
def test_depth_is_the_hand_count(name: str) -> None:
    counts = COUNTS[name]
    longest = max(1, *counts.values())
    found = {layer.name: layer.depth for layer in describe(name).layers}
    assert found == pytest.approx({layer: count / longest for layer, count in counts.items()})


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
