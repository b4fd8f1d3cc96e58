from __future__ import annotations

from pathlib import Path

import pytest

from features.backbone import describe
from features.cards.architecture import choose
from features.cards.layer_names import layer_name, may_be_called

NET = """
from torch import nn

def build():
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    made = nn.Sequential()
    made.add_module("all", inner)
    made.add_module("pool", nn.AdaptiveAvgPool2d(1))
    made.add_module("flat", nn.Flatten())
    made.add_module("best", nn.Linear(4, 5))
    return made
"""


@pytest.mark.parametrize(
    "name", ["conv1", "a b", "größe", "block[0]", "last", "best_", "alles", "-"]
)
def test_a_name_without_another_meaning_stays(name: str) -> None:
    assert layer_name(name) == name
    assert may_be_called(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "all", "best", "a/b", "a:b", "a\0b", "a\nb", "\ud800"]
)
def test_every_other_name_is_changed_into_one_that_stays(name: str) -> None:
    assert not may_be_called(name)
    assert may_be_called(layer_name(name))


def test_modules_of_such_names_are_layers_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_TRUST", "1")
    (tmp_path / "net.py").write_text(NET)
    card = tmp_path / "net.toml"
    card.write_text(
        'name = "net"\ndomain = "toys"\nnetwork = "./net.py:build"\n[input]\nsize = [8, 8]\n'
        "scale = 1.0\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n"
    )
    network = describe(str(card))
    for names in ((), ("all",), ("best",), ("best_",), ("*",)):
        layers = choose(network, names)
        assert all(may_be_called(layer.name) for layer in layers)
        if names and names != ("*",):
            assert [layer.module for layer in layers if layer.name == "best_"] == ["best"]
