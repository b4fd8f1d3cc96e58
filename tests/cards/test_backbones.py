import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from features.backbone import Backbone, describe, load
from features.cards.architecture import Architecture
from features.cards.card import Card
from features.cards.network import build
from features.cards.published import with_licence
from features.cards.reading import find, shipped
from features.errors import InputError
from features.extraction.capture import capture
from features.weights import entries_of

CARDS = list(shipped())
BIG = ("vgg16",)


def read(backbone: Backbone, x: Tensor, *asked: str) -> dict[str, Tensor]:
    layers = backbone.layers(asked or ("all",))
    with capture(backbone.model, layers, backbone.architecture.traced) as run:
        return run(x)


def images(backbone: Backbone, n: int, seed: int = 0) -> Tensor:
    size = backbone.architecture.input.size
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(seed))


def not_in_place(model: nn.Module) -> nn.Module:
    """A copy of the network in which no module overwrites what it reads."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return twin.eval()


STEPS: dict[str, tuple[str, ...]] = {
    "AlexNet": ("features", "avgpool", "|", "classifier"),
    "VGG": ("features", "avgpool", "|", "classifier"),
    "SqueezeNet": ("features", "classifier"),
    "MobileFaceNet": ("conv1", "dw_conv1", "blocks", "conv2", "linear7", "linear1"),
}


def prefixes(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Modules' outputs, each handed on to the next by hand; `|` flattens in between."""
    found: dict[str, Tensor] = {}

    def walk(module: nn.Module, x: Tensor, name: str) -> Tensor:
        if type(module) is nn.Sequential:
            for child_name, child in module.named_children():
                x = walk(child, x, f"{name}{child_name}.")
        else:
            x = module(x)
        found[name[:-1]] = x
        return x

    if type(model) is nn.Sequential:
        walk(model, x, "")
    else:
        for step in STEPS.get(type(model).__name__, ()):
            x = x.flatten(1) if step == "|" else walk(model.get_submodule(step), x, f"{step}.")
    return found


def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Modules' last outputs in one whole pass of a network with branches, without hooks."""
    found: dict[str, Tensor] = {}

    def keep(name: str, forward: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object) -> object:
            output = forward(*args)
            if isinstance(output, Tensor):
                found[name] = output.clone()
            return output

        return wrapped

    for name, module in model.named_modules():
        module.forward = keep(name, module.forward)
    model(x)
    return found


# Of a pair that differs in its last layer's width alone, one is enough.
@pytest.fixture(scope="module", params=[name for name in CARDS if name != "vggface"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return load(request.param, "random")


def test_features_are_those_of_the_networks_prefix(backbone: Backbone) -> None:
    x = images(backbone, 1 if backbone.architecture.card.name in BIG else 3)
    with torch.inference_mode():
        twin = not_in_place(backbone.model)
        expected = prefixes(twin, x.clone())
        if not {layer.module for layer in backbone.layers()} <= set(expected):
            expected = outputs(twin, x.clone())
    found = read(backbone, x.clone())
    layers = backbone.layers()
    assert list(found) == [layer.name for layer in layers] != []
    for layer in layers:
        assert found[layer.name].flatten(1).shape[1] == layer.size
        torch.testing.assert_close(found[layer.name], expected[layer.module], rtol=1e-5, atol=1e-6)
        if layer.shape != (3072,):
            assert found[layer.name].std() > 0


def test_every_card_says_all_its_layers_in_depth_order(backbone: Backbone) -> None:
    card = backbone.architecture.card
    assert card.layers is not None
    assert [layer.name for layer in backbone.layers()] == list(card.layers)
    depths = [layer.depth for layer in backbone.layers()]
    assert depths == sorted(depths)
    assert 0 <= depths[0] <= depths[-1] <= 1


def test_features_do_not_depend_on_the_batch(backbone: Backbone) -> None:
    n = 3 if backbone.architecture.parameters < 2e7 else 2
    asked = "pool3" if backbone.architecture.card.name in BIG else "all"
    x = images(backbone, n, seed=1)
    together = read(backbone, x, asked)
    alone = [read(backbone, one[None], asked) for one in x]
    for name, batch in together.items():
        one_by_one = torch.cat([found[name] for found in alone])
        scale = float(batch.abs().max())
        torch.testing.assert_close(one_by_one, batch, rtol=1e-4, atol=1e-5 * scale)


def test_no_module_after_the_deepest_asked_layer_runs(backbone: Backbone) -> None:
    layers = backbone.layers()
    x = images(backbone, 1)
    calls: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda _m, _i, n=name: calls.append(n))
        for name, module in backbone.model.named_modules()
        if not list(module.children())
    ]
    with torch.inference_mode():
        backbone.model(x)
    whole = list(calls)
    for layer in layers[:: max(1, len(layers) // 5)]:
        calls.clear()
        read(backbone, x, layer.name)
        inside = [n for n in whole if n == layer.module or n.startswith(layer.module + ".")]
        assert calls == whole[: whole.index(inside[-1]) + 1]
    for handle in handles:
        handle.remove()


def test_the_network_is_left_as_it_was_found() -> None:
    backbone = load("sample-faces", "random")
    x = images(backbone, 2)
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    with torch.inference_mode():
        expected = backbone.model(x)
    given = x.clone()
    read(backbone, given)
    assert torch.equal(given, x)
    assert all(not module._forward_hooks for module in backbone.model.modules())
    assert all(torch.equal(t, before[n]) for n, t in backbone.model.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(backbone.model(x), expected)
    assert not backbone.model.training


def test_layers_come_in_depth_order_whatever_order_is_asked() -> None:
    architecture = describe("sample-faces")
    backbone = load("sample-faces", "random")
    names = [layer.name for layer in backbone.layers(("fc7", "conv1", "pool5"))]
    assert names == ["conv1", "pool5", "fc7"]
    assert architecture.layers == backbone.layers()
    with pytest.raises(InputError, match=r"sample-faces has no layer conv6; did you mean conv"):
        backbone.layers(("conv6",))


ODD_NETWORK = """
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.grouped = nn.Conv2d(6, 8, 3, padding=1, groups=2)
        self.side = nn.Conv2d(8, 8, 1)
        self.never = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.pool(self.relu(self.conv(x)))
        x = self.relu(self.grouped(x))
        x = F.relu_(x + self.side(x).neg_())
        return self.fc(x.mean((2, 3)))


def build():
    return Net()
"""


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    (tmp_path / "odd.py").write_text(ODD_NETWORK)
    card = tmp_path / "odd.toml"
    card.write_text(
        'name = "odd"\ndomain = "toys"\nnetwork = "./odd.py:build"\n[input]\nsize = [20, 24]\n'
        '[layers]\nconv = "conv"\npool = "pool"\ngrouped = "grouped"\nact = "relu"\n'
        'side = "side"\nfc = "fc"\n'
    )
    return card


def test_groups_ceil_pooling_and_a_relu_used_twice_in_place(odd: Path) -> None:
    backbone = load(str(odd), "random", seed=3)
    x = images(backbone, 4)
    found = read(backbone, x.clone())
    net = not_in_place(backbone.model)
    w = dict(net.named_parameters())
    with torch.inference_mode():
        conv = net.conv(x)
        # 20 x 24 -> 9 x 11 -> ceil((9 - 3) / 2) + 1 = 4, ceil((11 - 3) / 2) + 1 = 5
        padded = nn.functional.pad(conv.relu(), (0, 1, 0, 1), value=-torch.inf)
        pool = padded.unfold(2, 3, 2).unfold(3, 3, 2).amax((4, 5))[:, :, :4, :5]
        halves = [
            nn.functional.conv2d(
                pool[:, 3 * i : 3 * i + 3], w["grouped.weight"][4 * i : 4 * i + 4], padding=1
            )
            for i in range(2)
        ]
        grouped = torch.cat(halves, 1) + w["grouped.bias"].view(1, 8, 1, 1)
        side = net.side(grouped.relu())
        fc = net.fc((grouped.relu() - side).relu().mean((2, 3)))
    expected = {"conv": conv, "pool": pool, "grouped": grouped, "act": grouped.relu()}
    expected |= {"side": side, "fc": fc}
    assert {layer.name: layer.shape for layer in backbone.layers()} == {
        "conv": (6, 9, 11),
        "pool": (6, 4, 5),
        "grouped": (8, 4, 5),
        "act": (8, 4, 5),
        "side": (8, 4, 5),
        "fc": (4,),
    }
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)
    assert [round(layer.depth * 4, 6) for layer in backbone.layers()] == [1, 1, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "weight_layers"),
    [
        ("torchvision:resnet18", 18),
        ("torchvision:resnet50", 50),
        ("torchvision:densenet121", 121),
        ("torchvision:googlenet", 22),
        ("torchvision:vgg19_bn", 19),
        ("torchvision:mobilenet_v2", 53),
        # stem, a first block without expansion, ten blocks of three, last conv, two linear
        ("torchvision:mobilenet_v3_small", 1 + 2 + 10 * 3 + 1 + 2),
    ],
)
def test_depth_counts_the_weight_layers_of_the_papers(
    tmp_path: Path, name: str, weight_layers: int
) -> None:
    """At a quarter of the size, on which the number of layers does not hang."""
    architecture = describe(str(small(tmp_path, name)))
    check_depth(architecture, weight_layers)


def small(folder: Path, network: str) -> Path:
    """A card of a published network that takes images of 64 x 64."""
    card = folder / "small.toml"
    card.write_text(
        f'name = "small"\ndomain = "objects"\nnetwork = "{network}"\n[input]\nsize = [64, 64]\n'
    )
    return card


def check_depth(architecture: Architecture, weight_layers: int) -> None:
    assert architecture.traced.weight_layers == weight_layers
    assert architecture.layers[-1].depth == 1
    assert all(0 <= layer.depth <= 1 for layer in architecture.layers)


@pytest.mark.parametrize(
    ("name", "weight_layers"),
    [("alexnet", 8), ("vgg16", 16), ("vggface", 16), ("gilnet", 6), ("squeezenet1_1", 18)],
)
def test_depth_counts_the_weight_layers_of_a_cards_network(name: str, weight_layers: int) -> None:
    check_depth(describe(name), weight_layers)


@pytest.mark.parametrize(("name", "weight_layers"), [("seresnet18", 18), ("seresnet50", 50)])
def test_squeeze_excite_before_the_last_layer_does_not_deepen(
    tmp_path: Path, name: str, weight_layers: int
) -> None:
    pytest.importorskip("timm")
    architecture = describe(str(small(tmp_path, f"timm:{name}")))
    assert architecture.traced.weight_layers == weight_layers
    assert max(layer.depth for layer in architecture.layers) == 1


GATED_NETWORK = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, c, out):
        super().__init__()
        self.conv1 = nn.Conv2d(c, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.squeeze = nn.Conv2d(out, 2, 1)
        self.excite = nn.Conv2d(2, out, 1)
        self.shortcut = nn.Conv2d(c, out, 1)
        self.norm = nn.BatchNorm2d(out)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x):
        y = self.conv2(self.conv1(x).relu())
        y = y * self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.pool(self.norm(y + self.shortcut(x)))


def build(blocks=2):
    net = nn.Sequential(*[Block(3 if i == 0 else 4, 4) for i in range(blocks)])
    return nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_depth_of_gates_shortcuts_norms_and_pools(tmp_path: Path, blocks: int) -> None:
    (tmp_path / "gated.py").write_text(GATED_NETWORK)
    card = tmp_path / "gated.toml"
    modules = {"b0": "0.0", "norm": "0.0.norm", "pool": "0.0.pool", "out": "3"}
    lines = [f'{layer} = "{module}"' for layer, module in modules.items()]
    card.write_text(
        'name = "gated"\ndomain = "toys"\nnetwork = "./gated.py:build"\n'
        f"options = {{ blocks = {blocks} }}\n[input]\nsize = [16, 16]\n[layers]\n"
        + "\n".join(lines)
    )
    depth = {layer.name: layer.depth for layer in describe(str(card)).layers}
    longest = 2 * blocks + 1
    assert depth == pytest.approx(
        {"b0": 2 / longest, "norm": 2 / longest, "pool": 2 / longest, "out": 1}
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("alexnet", 61_100_840), ("vggface", 145_002_878), ("gilnet", 11_415_048)],
)
def test_parameter_counts_are_the_published_ones(name: str, parameters: int) -> None:
    assert describe(name).parameters == parameters


def test_gilnet_pools_round_up() -> None:
    architecture = describe("gilnet")
    shapes = {layer.name: layer.shape for layer in architecture.layers}
    assert shapes["pool1"] == (96, 28, 28)
    assert shapes["pool2"] == (256, 14, 14)
    assert shapes["pool5"] == (384, 7, 7)
    fc6 = load("gilnet", "random").model.get_submodule("fc6")
    assert isinstance(fc6, nn.Linear)
    assert fc6.in_features == 384 * 7 * 7


def test_gilnets_initial_weights_are_the_prototxts() -> None:
    model = load("gilnet", "random").model
    std = {"conv1": 0.01, "conv2": 0.01, "conv3": 0.01, "fc6": 0.005, "fc7": 0.005, "fc8": 0.01}
    bias = {"conv1": 0, "conv2": 1, "conv3": 0, "fc6": 1, "fc7": 1, "fc8": 0}
    for name, wanted in std.items():
        module = model.get_submodule(name)
        assert isinstance(module, nn.Conv2d | nn.Linear)
        assert module.weight.std().item() == pytest.approx(wanted, rel=0.05)
        assert module.bias is not None
        assert set(module.bias.tolist()) == {bias[name]}


SILENT = (nn.Dropout, nn.Identity)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "alexnet"])
def test_torchvision_without_a_card_lists_its_leaf_modules(name: str) -> None:
    model = get_model(name, weights=None)
    leaves = {
        module
        for module, m in model.named_modules()
        if not list(m.children()) and not isinstance(m, SILENT)
    }
    architecture = describe(f"torchvision:{name}")
    assert {layer.module for layer in architecture.layers} == leaves
    assert [layer.name for layer in architecture.layers] == [
        layer.module for layer in architecture.layers
    ]
    depths = [layer.depth for layer in architecture.layers]
    assert depths[-1] == 1
    assert architecture.input.size == (224, 224)


def test_timm_without_a_card_lists_its_leaf_modules() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("resnet18", pretrained=False)
    leaves = {
        module
        for module, m in model.named_modules()
        if not list(m.children()) and not isinstance(m, SILENT)
    }
    architecture = describe("timm:resnet18")
    assert {layer.module for layer in architecture.layers} == leaves
    assert architecture.traced.weight_layers == 18


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("resnet18", ["layer1.0.conv2", "layer1.0.relu", "layer3.1.bn2", "avgpool", "fc"]),
        ("shufflenet_v2_x0_5", ["stage2.0.branch1.0", "stage3.1.branch2.7", "conv5.2", "fc"]),
    ],
)
def test_networks_with_branches_agree_with_torchvisions_own_extractor(
    name: str, modules: list[str]
) -> None:
    backbone = load(f"torchvision:{name}", "random")
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    nodes = {"layer1.0.relu": "layer1.0.relu_1"}  # the module runs twice, the last output counts
    twin = not_in_place(backbone.model)
    extractor = create_feature_extractor(twin, {nodes.get(m, m): m for m in modules})
    with torch.inference_mode():
        expected = extractor(x)
    found = read(backbone, x, *modules)
    for module in modules:
        torch.testing.assert_close(found[module], expected[module], rtol=1e-4, atol=1e-5)


NAMES_ALL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)])
        self.pair, self.named = Pair(), Named()
        self.unused = nn.Linear(4, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x, _ = self.pair(x)
        return self.named(x)["out"].mean((2, 3))


class Pair(nn.Module):
    def forward(self, x):
        return x + 1, "text"


class Named(nn.Module):
    def forward(self, x):
        return {"none": None, "out": 2 * x, "more": [x]}


def build():
    return Net()
"""


@pytest.fixture
def uncarded(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NAMES_ALL)
    card = tmp_path / "net.toml"
    card.write_text(
        'name = "net"\ndomain = "toys"\nnetwork = "./net.py:build"\n[input]\nsize = [6, 5]\n'
    )
    return card


def test_each_tensor_of_a_tuple_or_dict_is_a_layer_and_the_module_the_first(uncarded: Path) -> None:
    backbone = load(str(uncarded), "random")
    x = images(backbone, 3)
    names = ["stem.0", "stem.1", "blocks.0", "blocks.1", "pair", "named[out]", "named[more][0]"]
    assert [layer.name for layer in backbone.layers()] == names
    found = read(backbone, x, "blocks.1", "pair", "named", "named[out]", "named[more][0]")
    assert torch.equal(found["pair"], found["blocks.1"] + 1)
    assert torch.equal(found["named"], 2 * found["pair"])
    assert torch.equal(found["named[out]"], found["named"])
    assert torch.equal(found["named[more][0]"], found["pair"])


def test_depth_is_counted_against_the_deepest_tensor_of_the_output(tmp_path: Path) -> None:
    """A network that returns its levels, in a tuple, a list or a dict."""
    for kind in ("tuple(levels)", "levels", "{'a': levels[0], 'rest': levels[1:]}"):
        (tmp_path / "net.py").write_text(LEVELS.replace("OUTPUT", kind))
        card = tmp_path / "net.toml"
        card.write_text(
            'name = "net"\ndomain = "toys"\nnetwork = "./net.py:build"\n[input]\nsize = [8, 8]\n'
        )
        assert [layer.depth for layer in describe(str(card)).layers] == [0.25, 0.5, 0.75, 1]


LEVELS = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleList([nn.Conv2d(3, 3, 3, 1, 1) for _ in range(4)])

    def forward(self, x):
        levels = []
        for step in self.steps:
            x = step(x)
            levels.append(x)
        return OUTPUT


def build():
    return Net()
"""


def test_a_module_that_never_runs_is_said_to_and_one_that_holds_others_is_read(
    uncarded: Path,
) -> None:
    backbone = load(str(uncarded), "random")
    for name in ("blocks", "unused"):  # iterated, and not called at all
        with pytest.raises(
            InputError, match=rf"^net never runs its module {name}; .*lists them\.$"
        ):
            backbone.layers((name,))
    with pytest.raises(InputError, match=r"^net has no layer block\.1; did you mean blocks\.1 or"):
        backbone.layers(("block.1",))
    layers = backbone.layers(("named", "stem"))
    assert [(layer.name, layer.shape, layer.depth) for layer in layers] == [
        ("stem", (4, 6, 5), 1 / 3),
        ("named", (4, 6, 5), 1.0),
    ]
    x = images(backbone, 2)
    assert torch.equal(read(backbone, x, "stem")["stem"], read(backbone, x, "stem.1")["stem.1"])


def test_a_transformers_modules_run_on_images_as_they_did_on_zeros(tmp_path: Path) -> None:
    """PyTorch's fused path for transformers would leave the modules inside out."""
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef build():\n"
        "    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), Turned(), layer)\n\n\n"
        "class Turned(nn.Module):\n"
        "    def forward(self, x):\n        return x.transpose(1, 2)\n"
    )
    card = tmp_path / "net.toml"
    card.write_text(
        'name = "net"\ndomain = "toys"\nnetwork = "./net.py:build"\n[input]\nsize = [8, 8]\n'
    )
    backbone = load(str(card), "random")
    names = [layer.name for layer in backbone.layers()]
    assert {"3.linear1", "3.norm1"} <= set(names)
    found = read(backbone, images(backbone, 2), *names)
    with torch.inference_mode():
        linear1 = backbone.model.get_submodule("3.linear1")(found["3.norm1"])
    torch.testing.assert_close(found["3.linear1"], linear1)


def test_a_module_that_runs_only_now_and_then_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)\n"
        "    def forward(self, x):\n"
        "        return self.a(x) if x.is_meta or not x.any() else self.b(x)\n\n\n"
        "def build():\n    return Net()\n"
    )
    card = tmp_path / "net.toml"
    card.write_text(
        'name = "net"\ndomain = "toys"\nnetwork = "./net.py:build"\n[input]\nsize = [4, 4]\n'
    )
    backbone = load(str(card), "random")
    with pytest.raises(InputError, match=r"^layer a: its module a ran when the network was tried"):
        read(backbone, images(backbone, 1))


def test_no_network_takes_memory_to_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def recorded(*args: Any, device: str = "cpu", **kwargs: Any) -> nn.Module:
        built.append(device)
        return build(*args, device=device, **kwargs)

    monkeypatch.setattr("features.cards.architecture.build", recorded)
    for name in CARDS:
        assert describe(name).layers
    assert built == ["meta"] * len(CARDS)


def test_the_licence_is_the_publishers_where_no_card_says_it() -> None:
    pytest.importorskip("timm")
    for name, licence in (
        ("torchvision:resnet18", "BSD-3-Clause (torchvision)"),
        ("torchvision:vit_h_14", "https://github.com/facebookresearch/SWAG/blob/main/LICENSE"),
        ("timm:resnet18", "apache-2.0"),
        ("timm:convnextv2_atto", "cc-by-nc-4.0"),
    ):
        assert with_licence(find(name)).licence == licence
    for card in shipped().values():
        assert card.licence or card.domain == "control", card.name


def test_timm_weights_have_the_publishers_address() -> None:
    pytest.importorskip("timm")
    (entry,) = entries_of(Card("timm:resnet18", "objects", "timm:resnet18"))
    assert str(entry.url).endswith("resnet18_a1_0-d63eafa0.pth")
    (entry,) = entries_of(Card("timm:convnextv2_atto", "objects", "timm:convnextv2_atto"))
    assert str(entry.url).endswith(
        "timm/convnextv2_atto.fcmae_ft_in1k/resolve/main/model.safetensors"
    )
    with pytest.raises(InputError, match="weights are not here and PROBE_OFFLINE is set; download"):
        load("timm:resnet18")


def test_a_seed_decides_random_weights_and_leaves_the_callers_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (load("sample-faces", "random", seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    weight: Callable[[Backbone], Tensor] = lambda b: b.model.state_dict()["conv1.weight"]  # noqa: E731
    assert torch.equal(weight(first), weight(again))
    assert not torch.equal(weight(first), weight(other))


def test_control_pixels_is_the_image() -> None:
    backbone = load("control:pixels")
    x = images(backbone, 2)
    assert (backbone.name, backbone.domain) == ("control:pixels", "control")
    torch.testing.assert_close(read(backbone, x)["pixels"], x.flatten(1), rtol=0, atol=0)


def test_control_tiny_by_hand() -> None:
    """A ramp to the right on grey 3 g: its gradient is one step, towards the right alone."""
    backbone = load("control:tiny")
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    found = read(backbone, torch.cat([3 * ramp, ramp, 0 * ramp], 1))["tiny"][0]
    step = 3 * 0.299 + 0.587
    grey, mean, sd, gradients = found.split([64, 3, 3, 128])
    torch.testing.assert_close(grey.view(8, 8)[0], step * (1.5 + 4 * torch.arange(8.0)))
    torch.testing.assert_close(grey.view(8, 8)[7], grey.view(8, 8)[0])
    torch.testing.assert_close(mean, torch.tensor([46.5, 15.5, 0.0]))
    spread = ((32**2 - 1) / 12) ** 0.5
    torch.testing.assert_close(sd, torch.tensor([3 * spread, spread, 0.0]))
    by_direction = gradients.view(8, 16)
    along = torch.tensor([1, 0.5**0.5, 0, 0, 0, 0, 0, 0.5**0.5]) * step
    torch.testing.assert_close(by_direction, along[:, None].expand(8, 16), rtol=1e-5, atol=1e-5)
