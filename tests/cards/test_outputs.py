"""What a tensor of a network is, and how it becomes a row: kinds, prefixes, poolings of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from features.backbone import Backbone, Layer, describe, load
from features.cards.outputs import Evidence, Output, output_of
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.capture import capture
from features.extraction.extract import extract

KNOWN = Evidence(True, {197: (0,), 201: (0, 1, 2, 3, 4)}, frozenset({(14, 14)}))
MAP, LAST, VECTOR = Output("map"), Output("map channels last"), Output("vector")
AXES = "which of its three axes are channels cannot be told"
TOKENS = "which of its two axes are tokens cannot be told"


@pytest.mark.parametrize(
    ("module", "shape", "larger", "expected"),
    [
        (nn.ReLU(), (64, 56, 56), (64, 112, 168), MAP),
        (nn.ReLU(), (64, 55, 55), (64, 111, 167), MAP),  # rounded
        (nn.Identity(), (56, 56, 96), (112, 168, 96), LAST),
        (nn.Identity(), (7, 7, 768), (14, 21, 768), LAST),
        (nn.Conv2d(3, 8, 3), (8, 8, 8), None, MAP),
        (nn.AdaptiveAvgPool2d(6), (256, 6, 6), (256, 6, 6), MAP),
        (nn.LayerNorm(768), (7, 7, 768), None, LAST),
        (nn.Linear(8, 768), (7, 7, 768), None, LAST),
        (nn.Identity(), (7, 7, 768), None, AXES),
        (nn.Softmax(-1), (3, 197, 197), (3, 1177, 1177), AXES),
        (nn.Identity(), (3, 197, 64), (3, 1177, 64), AXES),
        (nn.Identity(), (512, 1, 1), (512, 2, 3), VECTOR),
        (nn.Identity(), (1, 192), (1, 192), VECTOR),
        (nn.Identity(), (1000,), None, VECTOR),
        (nn.Identity(), (196, 192), (1176, 192), Output("tokens", 0, False, (14, 14))),
        (nn.Identity(), (197, 192), (1177, 192), Output("tokens", 1, True, (14, 14))),
        (nn.Identity(), (201, 192), (1181, 192), Output("tokens", 5, True, (14, 14))),
        (nn.Identity(), (197, 192), None, Output("tokens", 1, True, (14, 14))),
        (nn.Identity(), (198, 192), (1178, 192), Output("tokens", 2, True, (14, 14))),
        (nn.Identity(), (49, 192), (294, 192), Output("tokens", 0, False, None)),
        (nn.Identity(), (16, 384), (77, 384), Output("tokens", 0, False, None)),  # 4 x 4, 7 x 11
        (nn.Identity(), (198, 192), None, TOKENS),
        (nn.Identity(), (64, 192), (64, 192), TOKENS),
        (nn.Identity(), (192, 196), (192, 1176), "its channels come before its places"),
        (nn.Identity(), (201, 192), (1177, 192),
         "how many of its tokens are of patches cannot be told"),
        (nn.Identity(), (3, 4, 5, 6), None, "it has 4 axes, and what they are cannot be told"),
    ],
)  # fmt: skip
def test_axes_are_told_by_how_they_grow(
    module: nn.Module, shape: tuple[int, ...], larger: Any, expected: Output | str
) -> None:
    assert output_of(module, shape, larger, KNOWN) == expected


def test_tokens_of_no_patch_have_to_come_first() -> None:
    last = Evidence(True, {197: (196,)}, frozenset({(14, 14)}))
    why = "its tokens of no patch do not come first"
    assert output_of(nn.Identity(), (197, 192), (1177, 192), last) == why


def write(folder: Path, network: str, options: str = "", rest: str = "") -> str:
    card = folder / "net.toml"
    card.write_text(
        f'name = "net"\ndomain = "toys"\nnetwork = "{network}"\noptions = {{ {options} }}\n'
        f"[input]\nsize = [64, 64]\n{rest}"
    )
    return str(card)


VITS = [
    ("vit_tiny_patch16_224", 1, True),
    ("deit_tiny_distilled_patch16_224", 2, True),
    ("vit_small_patch14_reg4_dinov2", 5, True),
    ("vit_base_patch16_siglip_224", 0, False),
    ("vit_medium_patch16_reg4_gap_256", 4, False),
    ("vit_small_patch16_dinov3", 5, True),
    ("beit_base_patch16_224", 1, True),
]


@pytest.mark.parametrize(("name", "prefix", "cls"), VITS)
def test_prefix_and_class_token_are_timms_own(
    tmp_path: Path, name: str, prefix: int, cls: bool
) -> None:
    size = "img_size = 64, patch_size = 16, depth = 2, embed_dim = 48, num_heads = 3"
    backbone = load(write(tmp_path, f"timm:{name}", size), "random")
    model: Any = backbone.model
    assert model.num_prefix_tokens == prefix
    [block] = backbone.layers(("blocks.1",))
    assert block.output == Output("tokens", prefix, cls, (4, 4))
    assert block.shape == (16 + prefix, 48)
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        [(last, first)] = (
            model.forward_intermediates(
                x, indices=[1], return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
            )
            if prefix
            else [
                (
                    model.forward_intermediates(
                        x, indices=[1], output_fmt="NLC", intermediates_only=True
                    )[0],
                    None,
                )
            ]
        )
    rows = read(backbone, block, x)
    torch.testing.assert_close(rows["avg"], last.mean(1))
    torch.testing.assert_close(rows["max"], last.amax(1))
    torch.testing.assert_close(
        rows["grid:2"],
        last.transpose(1, 2).reshape(3, 48, 2, 2, 2, 2).mean((3, 5)).flatten(1),
    )
    torch.testing.assert_close(rows["auto"], first[:, 0] if cls else last.mean(1))
    if cls:
        torch.testing.assert_close(rows["cls"], first[:, 0])
        torch.testing.assert_close(rows["cls+avg"], torch.cat([first[:, 0], last.mean(1)], 1))
    whole = last if first is None else torch.cat([first, last], 1)
    torch.testing.assert_close(rows["none"], whole.flatten(1))


def read(backbone: Backbone, layer: Layer, x: Tensor) -> dict[str, Tensor]:
    """The rows of a layer under every pooling that it has."""
    pools = ["auto", "avg", "max", "grid:2", *["cls", "cls+avg"] * layer.output.cls]
    plan = [*pooling.plan([layer], pools), *pooling.plan([layer], ["none"])]

    def reduce(_name: str, output: Tensor) -> dict[str, Tensor]:
        return {one.pool: pooling.apply(output, one) for one in plan}

    with capture(backbone.model, [layer], backbone.architecture.traced, reduce) as run:
        found = run(x)[layer.name]
    assert {one.pool: one.dim for one in plan} == {k: v.shape[1] for k, v in found.items()}
    return found


def test_a_swins_average_has_its_channels_and_is_what_its_head_sees(tmp_path: Path) -> None:
    size = "img_size = 64, window_size = 2, embed_dim = 24, depths = [2, 2], num_heads = [2, 4]"
    backbone = load(write(tmp_path, "timm:swin_tiny_patch4_window7_224", size), "random")
    [norm, pool] = backbone.layers(("norm", "head.global_pool"))
    assert (norm.output, norm.shape) == (LAST, (48, 8, 8))
    x = torch.randn(2, 3, 64, 64)
    model: Any = backbone.model
    with torch.no_grad():
        features = model.forward_features(x)
        seen = model.forward_head(features, pre_logits=True)
    rows = read(backbone, norm, x)
    torch.testing.assert_close(rows["avg"], seen)
    torch.testing.assert_close(rows["auto"], features.permute(0, 3, 1, 2).flatten(1))
    torch.testing.assert_close(rows["max"], features.amax((1, 2)))
    torch.testing.assert_close(read(backbone, pool, x)["none"], seen)


def test_tokens_without_a_class_token_have_no_cls_and_those_without_places_no_grid() -> None:
    plain = Layer("x", "x", (16, 8), 0.5, Output("tokens", 0, False, None))
    with_cls = Layer("y", "y", (17, 8), 0.5, Output("tokens", 1, True, (4, 4)))
    keys = [one.key for one in pooling.plan([plain, with_cls], ["auto", "cls", "avg"])]
    assert keys == ["x", "x:avg", "y", "y:cls", "y:avg"]
    with pytest.raises(InputError, match=r"^--pool cls: none of the layers has a class token;"):
        pooling.plan([plain], ["cls"])
    with pytest.raises(InputError, match=r"^--pool grid:2: where on the image the tokens of x lie"):
        pooling.plan([plain], ["grid:2"])
    for pool in ("auto", "avg", "max", "cls", "cls+avg", "grid:4", "none"):
        x = torch.ones(2, 17, 8)
        found = pooling.apply(x, pooling.pooled(with_cls, pool))
        x.zero_()
        assert (found == 1).all(), pool


OWN = """
import torch
from torch import nn


class Net(nn.Module):
    '''Tokens of a fixed size, two of them of no patch, at FIRST or at the end.'''

    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, 6, 16, 16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 6))
        self.other = nn.Parameter(torch.zeros(1, 1, 6))
        self.places = nn.Parameter(torch.randn(1, 18, 6))
        self.norm = nn.LayerNorm(6)
        self.block = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        self.latents = nn.Linear(18, 5)

    def forward(self, x):
        x = self.proj(x).flatten(2).transpose(1, 2)
        own = torch.cat([self.cls_token, self.other], 1).expand(len(x), -1, -1)
        x = torch.cat([own, x] if FIRST else [x, own], 1) + self.places
        x = self.block(self.norm(x))
        return self.latents(x.transpose(1, 2)).mean(1)


def build():
    return Net()
"""


@pytest.mark.parametrize("first", [True, False])
def test_an_own_network_of_one_size_shows_its_class_tokens(tmp_path: Path, first: bool) -> None:
    (tmp_path / "net.py").write_text(OWN.replace("FIRST", str(first)))
    card = write(tmp_path, "./net.py:build")
    if first:
        [block] = load(card, "random").layers(("block",))
        assert block.output == Output("tokens", 2, True, (4, 4))
    else:
        with pytest.raises(InputError, match=r"^net: block is no layer, its tokens of no patch do"):
            load(card, "random").layers(("block",))
    with pytest.raises(InputError, match=rf"^net: latents is no layer, {TOKENS}; ask for another"):
        load(card, "random").layers(("latents",))


@pytest.mark.parametrize(
    ("said", "shape", "output"),
    [
        ('{ module = "latents", output = "tokens", prefix = 0 }', (6, 5), Output("tokens")),
        ('{ module = "latents", output = "vector" }', (30,), VECTOR),
        ('{ module = "latents", output = "tokens", prefix = 1, cls = true }', (6, 5),
         Output("tokens", 1, True)),
    ],
)  # fmt: skip
def test_what_cannot_be_told_the_card_says(
    tmp_path: Path, said: str, shape: tuple[int, ...], output: Output
) -> None:
    (tmp_path / "net.py").write_text(OWN.replace("FIRST", "True"))
    [layer] = describe(write(tmp_path, "./net.py:build", rest=f"[layers]\nx = {said}\n")).layers
    assert (layer.name, layer.module, layer.shape, layer.output) == ("x", "latents", shape, output)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('"latents"', r"line 8: layer x .* is no layer, which of its two axes are tokens .* prefix = 1 \}"),
        ('{ module = "latents", output = "map" }', "has 2 axes, and a map has three"),
        ('{ module = "latents", output = "tokens" }', "how many of them stand before"),
        ('{ module = "latents", output = "tokens", prefix = 6 }', "has 6 tokens, and prefix = 6"),
        ('{ module = "latents", output = "token" }', "line 8: unknown output token; did you mean tok"),
        ('{ module = "latents", output = "map", prefix = 1 }', "prefix and cls go with output"),
        ('{ module = "latents", output = "tokens", cls = true, prefix = 0 }', "prefix is the number"),
        ('{ output = "tokens" }', r"\[layers\] module is missing; add it"),
        ('{ module = "latents", kind = "tokens" }', r"unknown key \[layers\] kind; choose"),
        ("3", 'a layer is NAME = "MODULE"'),
    ],
)  # fmt: skip
def test_a_card_that_says_it_wrongly_is_told_so(tmp_path: Path, said: str, message: str) -> None:
    (tmp_path / "net.py").write_text(OWN.replace("FIRST", "True"))
    with pytest.raises(InputError, match=message) as caught:
        describe(write(tmp_path, "./net.py:build", rest=f"[layers]\nx = {said}\n"))
    assert str(caught.value).endswith(".") or "did you mean" in str(caught.value)


def drawn(folder: Path) -> str:
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "m.csv").write_text("path,label\n0.png,a\n1.png,b\n2.png,a\n3.png,b\n")
    return str(folder / "m.csv")


def test_a_file_says_what_its_layers_are_and_one_from_before_is_held_to_it(tmp_path: Path) -> None:
    size = "img_size = 64, window_size = 2, embed_dim = 24, depths = [2, 2], num_heads = [2, 4]"
    card, data = write(tmp_path, "timm:swin_tiny_patch4_window7_224", size), drawn(tmp_path)
    study = tmp_path / "study"
    result = extract(study, card, data=data, weights="random", layers=("norm", "patch_embed.proj"))
    with h5py.File(result.file) as file:
        about = {key: dict(data.attrs) for key, data in file["layers"].items()}
    assert about["norm:avg"]["output"] == "map channels last"
    assert about["norm:avg"]["shape"].tolist() == [48, 8, 8]
    assert about["patch_embed.proj"]["output"] == "map"
    with h5py.File(result.file, "r+") as file:  # as it was before outputs were told apart
        del file["layers/patch_embed.proj"].attrs["output"]
    extract(study, card, weights="random", layers=("head.global_pool",))
    with h5py.File(result.file, "r+") as file:
        del file["layers/norm:avg"].attrs["output"]
    with pytest.raises(
        InputError, match="norm:avg holds wrong numbers, it was read as a map and is"
    ):
        extract(study, card, weights="random", layers=("patch_embed.norm",))
