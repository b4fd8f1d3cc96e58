"""A name that is no backbone gets the names, or the card, that it probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.backbone import describe
from features.errors import InputError


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("resnet18", "did you mean torchvision:resnet18 or timm:resnet18?"),
        ("vit_base_patch32_224", "did you mean timm:vit_base_patch32_224?"),
        ("restnet50", "did you mean torchvision:resnet50 or timm:resnet50 or "),
        ("squeeznet1_1", "did you mean squeezenet1_1 or torchvision:squeezenet1_1 or "),
        ("dinov3", "did you mean timm:"),
        ("nonsense", "choose from alexnet, "),
        ("gender.onnx", "write onnx:gender.onnx."),
        ("net.prototxt", 'a Caffe network needs a card: write net.toml with name = "net", '),
        (
            "./mynet.py:build",
            'needs a card: write mynet.toml with name = "mynet", domain = "...", ',
        ),
        ("mynet.py", 'network = "mynet.py:FUNCTION" and [input] size = '),
    ],
)
def test_what_was_meant_is_said(name: str, advice: str) -> None:
    with pytest.raises(InputError) as told:
        describe(name)
    assert str(told.value).startswith(f"{name}: there is no backbone of this name; ")
    assert advice in str(told.value)


def test_a_model_s_folder_is_known_by_its_settings(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="there is no backbone of this name; write hf:/"):
        describe(str(tmp_path))


def test_the_card_that_is_asked_for_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mynet.py").write_text(
        "from torch import nn\ndef build(): return nn.Sequential(nn.Conv2d(3, 4, 3))\n"
    )
    with pytest.raises(InputError) as told:
        describe("./mynet.py:build")
    words = str(told.value).partition("with ")[2].partition(" and [input]")[0]
    Path("mynet.toml").write_text("\n".join(words.split(", ")) + "\n[input]\nsize = [8, 8]\n")
    assert [layer.name for layer in describe("./mynet.toml").layers] == ["0"]
