"""The default layers of networks without a card: 45 architectures, against their libraries.

`UPDATE=1 pytest -m slow tests/cards/test_defaults.py` writes the table in features/README.md anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from features.backbone import Backbone, load
from features.errors import InputError
from features.extraction import pool as pooling
from features.extraction.capture import capture

README = Path(__file__).parents[2] / "features" / "README.md"
BEGIN, END = "<!-- architectures -->\n", "<!-- end of architectures -->\n"
HEAD = (
    "| network | default layers | what they are | numbers an image, `auto` |\n|---|---|---|---|\n"
)
_NAMES = """
    torchvision:resnet50 timm:regnety_002 timm:convnext_atto torchvision:efficientnet_b0
    timm:mobilenetv3_small_100 torchvision:mobilenet_v2 torchvision:densenet121 timm:inception_v3
    torchvision:googlenet torchvision:squeezenet1_1 torchvision:shufflenet_v2_x0_5
    timm:vit_tiny_patch16_224 torchvision:vit_b_16 timm:deit_tiny_distilled_patch16_224
    timm:vit_small_patch14_reg4_dinov2 timm:vit_small_patch16_dinov3 timm:eva02_tiny_patch14_224
    timm:beit_base_patch16_224 timm:resnet50_clip.openai timm:vit_base_patch32_clip_224.openai
    timm:vit_base_patch16_siglip_224 timm:swin_tiny_patch4_window7_224 torchvision:swin_t
    timm:swinv2_tiny_window8_256 torchvision:swin_v2_t timm:maxvit_tiny_rw_224 torchvision:maxvit_t
    timm:coatnet_0_rw_224 timm:mixer_s16_224 timm:pvt_v2_b0 timm:hiera_tiny_224 timm:dm_nfnet_f0
    timm:repvgg_a0 timm:fastvit_t8 timm:nextvit_small timm:levit_128s timm:xcit_nano_12_p16_224
    timm:cait_xxs24_224 timm:edgenext_xx_small timm:mobilevit_xxs timm:mobilevitv2_050
    timm:poolformer_s12 timm:tnt_s_patch16_224 timm:gcvit_xxtiny timm:efficientvit_b0 torchvision:vgg11
    torchvision:alexnet
"""
ARCHITECTURES = _NAMES.split()
APART = tuple(f"timm:{name}" for name in ("tnt", "cait", "inception", "pvt", "dm_nfnet"))
"""Their levels lie inside the stem, after a stage's norm, before a last ReLU or among other tokens."""
SAMPLE = ["timm:mobilenetv3_small_100", "timm:levit_128s", "timm:vit_tiny_patch16_224"]


def rows_of(backbone: Backbone, x: Tensor, *asked: str) -> dict[str, Tensor]:
    """The features of layers under `auto` and `avg`, by data set."""
    layers = backbone.layers(asked)
    plan = pooling.plan(layers, ["auto", "avg"])

    def reduce(name: str, output: Tensor) -> dict[str, Tensor]:
        return {p.key: pooling.apply(output, p) for p in plan if p.layer.name == name}

    with capture(backbone.model, layers, backbone.architecture.traced, reduce) as run:
        found = {key: rows for one in run(x).values() for key, rows in one.items()}
    assert {p.key: p.dim for p in plan} == {key: rows.shape[1] for key, rows in found.items()}
    return found


def references(name: str, model: Any, x: Tensor) -> Iterator[Tensor]:
    """What the library itself has: the average of every level, and what the classifier reads."""
    if name.startswith("timm:"):
        if hasattr(model, "forward_intermediates") and not name.startswith(APART):
            levels = model.forward_intermediates(x, intermediates_only=True)
            yield from (
                level.mean((2, 3)) if level.ndim == 4 else level.mean(1) for level in levels
            )
        if "distilled" in name or "levit" in name:
            return  # two heads on two tokens, the mean of which is no tensor
        if model.num_classes and "clip" not in name:
            yield model.forward_head(model.forward_features(x), pre_logits=True)
        else:
            yield model(x)


def line(name: str, backbone: Backbone) -> str:
    """The row of the table."""
    layers = backbone.layers(())
    kinds = [
        f"tokens, {k.prefix} before" if (k := layer.output).prefix else k.kind for layer in layers
    ]
    widths = [pooling.pooled(layer, "auto").dim for layer in layers]
    names = [layer.name for layer in layers]
    inner = names[1:-1]
    shown = (
        ", ".join(names)
        if len(names) < 4
        else (f"{names[0]}; {len(inner)} from {inner[0]} to {inner[-1]}; {names[-1]}")
    )
    return (
        f"| `{name}` | {shown} | {'; '.join(dict.fromkeys(kinds))} | "
        f"{min(widths):,} to {max(widths):,} |\n"
    )


def table() -> dict[str, str]:
    """The rows of the table in the README by network."""
    text = README.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return {
        name: row + "\n" for row in text.splitlines() for name in re.findall(r"^\| `(\S+)`", row)
    }


def check(name: str) -> str:
    """Hold the default layers of one architecture against its library; returns the row of the table."""
    backbone = load(name, "random")
    x = torch.randn(2, 3, *backbone.architecture.input.size, generator=torch.manual_seed(0))
    found = rows_of(backbone, x)
    layers = backbone.layers(())
    assert 0 <= layers[0].depth < layers[-1].depth <= 1
    with torch.inference_mode():
        for wanted in references(name, backbone.model, x):
            near = 1e-4 * float(wanted.abs().max()) + 1e-7
            same = [
                key
                for key, rows in found.items()
                if rows.shape == wanted.shape and float((rows - wanted).abs().max()) <= near
            ]
            assert same, f"{name}: nothing of {list(found)} is {tuple(wanted.shape)}"
        head = getattr(backbone.model, "fc", None)
        last = layers[-1].output.kind
        if name.startswith("torchvision:") and isinstance(head, nn.Linear) and last == "vector":
            torch.testing.assert_close(head(found[layers[-1].name]), backbone.model(x))
    return line(name, backbone)


@pytest.mark.parametrize("name", SAMPLE)
def test_default_layers_agree_with_the_library_and_with_the_table(name: str) -> None:
    assert check(name) == table()[name]


@pytest.mark.slow
def test_the_table_of_architectures() -> None:
    rows = {name: check(name) for name in ARCHITECTURES}
    if os.environ.get("UPDATE"):
        text = README.read_text(encoding="utf-8")
        if BEGIN not in text:
            text = text.rstrip("\n") + f"\n\n{BEGIN}{END}"
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        README.write_text(before + BEGIN + HEAD + "".join(rows.values()) + END + after)
    assert rows == table()


def test_patterns_last_all_and_names_choose_layers() -> None:
    backbone = load("timm:mobilenetv3_small_100", "random")
    names = [layer.name for layer in backbone.layers(())]
    assert names[0] == "bn1"
    assert [layer.name for layer in backbone.layers(("blocks.*",))] == names[1:13]
    assert [layer.name for layer in backbone.layers(("blocks.1.*",))] == [
        "blocks.1.0",
        "blocks.1.1",
    ]
    assert [layer.name for layer in backbone.layers(("last",))] == names[-1:]
    assert len(backbone.layers(("all",))) > 3 * len(names)
    squeezes = backbone.layers(("*.se.conv_reduce",))
    assert len(squeezes) > 5
    assert {layer.name.rpartition(".")[2] for layer in squeezes} == {"conv_reduce"}
    [block, last] = backbone.layers(("last", "blocks.2"))
    assert (block.name, last.name) == ("blocks.2", names[-1])
    with pytest.raises(InputError, match=r"has no layer stages\.\*; "):
        backbone.layers(("stages.*",))
    faces = load("sample-faces", "random")
    assert faces.layers(()) == faces.layers(("all",))
    assert [layer.name for layer in faces.layers(("conv*", "last"))] == [
        *(f"conv{i}" for i in range(1, 6)), faces.layers(())[-1].name
    ]  # fmt: skip
