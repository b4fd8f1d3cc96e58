from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from features.backbone import Backbone, load
from features.cards.trace import first_tensor
from probe.training.cut import prefix_of, renew_above, train_mode
from probe.training.head import Head, classifier, with_head
from probe.training.kept_prefix import suffix_of
from probe.training.variants import Variant, start


def backbone(name: str) -> Backbone:
    return load(name, None if name == "sample-faces" else "random")


@pytest.fixture(scope="module")
def resnet() -> Backbone:
    return load("torchvision:resnet18", "random")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("torchvision:alexnet", "classifier.6"),
        ("torchvision:squeezenet1_1", "classifier.1"),
        ("torchvision:resnet18", "fc"),
        ("gilnet", "fc8"),
        ("vggface2-resnet50", "classifier"),
        ("sample-faces", "fc7"),
        ("mobilefacenet", None),  # its output is a description
    ],
)
def test_classifier(name: str, place: str | None) -> None:
    from features.backbone import describe

    found = describe(name)
    assert classifier(found.card, found.traced) == place


def test_head_takes_the_classifiers_place_or_stands_on_top() -> None:
    squeezenet = backbone("torchvision:squeezenet1_1")
    network, _ = start(squeezenet, Variant("finetune"), 3, 0)
    scores = network.eval()(torch.randn(2, 3, 64, 64))
    assert scores.shape == (2, 3)
    assert (scores < 0).any()  # no ReLU after the head
    last = squeezenet.layers()[-1]
    network, prefix = start(squeezenet, Variant("frozen", last), 3, 0)
    assert network.place is None
    assert network.head.linear.in_features == 1000
    assert {n for n, p in network.named_parameters() if p.requires_grad} == {
        "top.linear.weight",
        "top.linear.bias",
    }
    assert len(prefix.parameters) == len(dict(squeezenet.model.named_parameters()))


def test_head_folds_its_scaling() -> None:
    head = Head(5, 3, seed=0)
    head.mean.copy_(torch.randn(5))
    head.scale.copy_(torch.rand(5))
    nn.init.normal_(head.linear.bias)
    x = torch.randn(7, 5)
    weight, bias = head.folded()
    torch.testing.assert_close(x @ weight.T + bias, head(x))
    maps = torch.randn(2, 5, 4, 3)
    torch.testing.assert_close(head(maps), head(maps.mean((2, 3))))


@pytest.mark.parametrize(
    ("layer", "shortcut", "closed"),
    [
        ("layer2.0.bn2", False, False),  # beside the shortcut
        ("layer2.0.relu", True, True),  # after their sum
        ("layer2.0.conv1", False, False),
        ("maxpool", False, True),
        ("fc", True, True),
    ],
)
def test_branches_fall_on_their_own_side(
    resnet: Backbone, layer: str, shortcut: bool, closed: bool
) -> None:
    (cut,) = resnet.layers((layer,))
    prefix = prefix_of(resnet.architecture, cut)
    assert ("layer2.0.downsample.0.weight" in prefix.parameters) == shortcut
    assert prefix.closed == closed
    assert "conv1.weight" in prefix.parameters
    assert ("layer2.0.conv2.weight" in prefix.parameters) == (
        layer in ("layer2.0.bn2", "layer2.0.relu", "fc")
    )


def test_the_prefix_is_what_decides_the_layer(resnet: Backbone) -> None:
    """Changing anything above leaves the layer's output; changing anything below does not."""
    (cut,) = resnet.layers(("layer2.0.bn2",))
    prefix = prefix_of(resnet.architecture, cut)
    image = torch.randn(1, 3, 64, 64)
    seen: list[torch.Tensor] = []
    handle = resnet.model.get_submodule(cut.module).register_forward_hook(
        lambda _m, _i, output: seen.append(output.clone())
    )
    with torch.no_grad():
        resnet.model(image)
        for name, parameter in resnet.model.named_parameters():
            parameter.add_(0.1)
            resnet.model(image)
            parameter.sub_(0.1)
            changed = not torch.allclose(seen[0], seen[-1], atol=1e-4)
            assert changed == (name in prefix.parameters), name
    handle.remove()


def test_above_the_cut_all_is_drawn_anew() -> None:
    faces = backbone("sample-faces")
    (cut,) = faces.layers(("conv3",))
    before = {n: t.clone() for n, t in faces.model.state_dict().items()}
    for method in ("frozen", "copied"):
        network, _ = start(faces, Variant(method, cut), 4, 0)
        state = network.body.state_dict()
        for name in ("conv1.weight", "conv3.weight", "norm3.running_var", "norm3.weight"):
            assert torch.equal(state[name], before[name]), name
        for name in ("conv4.weight", "norm4.running_var", "norm5.weight", "fc6.weight"):
            assert not torch.equal(state[name], before[name]), name
        trained = {n for n, p in network.named_parameters() if p.requires_grad}
        assert ("body.conv3.weight" in trained) == (method == "copied")
    kept, _ = start(faces, Variant("frozen", cut, keep_above=True), 4, 0)
    assert torch.equal(kept.body.state_dict()["conv5.weight"], before["conv5.weight"])
    assert torch.equal(faces.model.state_dict()["conv5.weight"], before["conv5.weight"])


@pytest.mark.parametrize(
    ("variant", "cut", "new"),
    [
        (Variant("finetune"), "", False),
        (Variant("scratch"), "", True),
        (Variant("frozen"), "conv3", True),
        (Variant("copied"), "conv3", True),
        (Variant("frozen", keep_above=True), "conv3", False),
        (Variant("frozen"), "fc6", False),  # fc7, which is above, gives its place to the head
        (Variant("copied"), "fc7", False),
    ],
)
def test_which_heads_read_layers_that_are_new(variant: Variant, cut: str, new: bool) -> None:
    faces = backbone("sample-faces")
    layer = faces.layers((cut,))[0] if cut else None
    network, _ = start(faces, replace(variant, layer=layer), 4, 0)
    assert network.new_below_head == new


def test_new_weights_are_the_networks_own_initial_ones() -> None:
    gilnet = backbone("gilnet")
    (cut,) = gilnet.layers(("conv2",))
    renew_above(gilnet.model, gilnet.architecture.card, prefix_of(gilnet.architecture, cut), 5)
    state = gilnet.model.state_dict()
    assert state["fc6.weight"].std() == pytest.approx(0.005, rel=0.02)
    assert (state["fc6.bias"] == 1).all()


def test_dropout_and_norms_of_the_prefix_rest() -> None:
    alexnet = backbone("torchvision:alexnet")
    (cut,) = alexnet.layers(("classifier.2",))  # after the first of two dropouts
    prefix = prefix_of(alexnet.architecture, cut)
    train_mode(alexnet.model, prefix)
    assert not alexnet.model.get_submodule("classifier.0").training
    assert alexnet.model.get_submodule("classifier.3").training


@pytest.mark.parametrize(
    ("name", "layer", "apart"),
    [
        ("sample-faces", "conv3", True),
        ("sample-faces", "fc7", True),
        ("torchvision:resnet18", "layer2.1.relu", True),
        ("torchvision:resnet18", "layer2.0.bn2", False),
        (
            "torchvision:squeezenet1_1",
            "features.7.expand3x3_activation",
            False,
        ),  # one of two branches
        ("mobilefacenet", "blocks.3", True),
        ("vggface2-senet50", "conv3_2_relu", None),
    ],
)
def test_suffix_gives_the_networks_scores(name: str, layer: str, apart: bool | None) -> None:
    model = backbone(name)
    names = [x.name for x in model.layers()]
    (cut,) = model.layers((layer if layer in names else names[len(names) // 2],))
    network, prefix = start(model, Variant("frozen", cut), 3, 0)
    image = torch.randn(2, 3, *model.architecture.input.size)
    suffix = suffix_of(network, model.architecture, prefix, image)
    if apart is not None:
        assert (suffix is not None) == apart
    if suffix is not None:
        assert not {n for n, _ in suffix.named_parameters()} & {
            f"body.{n}" for n in prefix.parameters
        }
        assert set(suffix.state_dict()) <= set(network.state_dict())


def test_head_reads_a_network_that_returns_a_tuple(
    tmp_path: Path, tiny_card: Callable[..., Path]
) -> None:
    card = tiny_card()
    (card.parent / "tiny.py").write_text(
        (card.parent / "tiny.py")
        .read_text()
        .replace(
            "def build(num_classes: int = 5)",
            "class Pair(nn.Module):\n"
            "    def __init__(self, inner):\n"
            "        super().__init__()\n"
            "        self.inner = inner\n"
            "    def forward(self, x):\n"
            "        y = self.inner(x)\n"
            "        return y, y * 0\n\n\n"
            "def build(num_classes: int = 5):\n"
            "    return Pair(sequential(num_classes))\n\n\n"
            "def sequential(num_classes: int)",
        )
    )
    for module in ("pixels", "conv", "relu", "pool", "fc"):
        card.write_text(card.read_text().replace(f'= "{module}"', f'= "inner.{module}"'))
    tiny = load(str(card), "random")
    network = with_head(
        tiny.architecture.card, tiny.model, tiny.architecture.traced, (8, 8), 2, 0, on_top=False
    )
    assert network.place == "inner.fc"
    assert network(torch.zeros(3, 3, 8, 8)).shape == (3, 2)
    assert first_tensor(tiny.model(torch.zeros(3, 3, 8, 8))).shape == (3, 2)  # type: ignore[union-attr]
