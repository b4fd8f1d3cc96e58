"""A file's tensors beside a network's: what leaves no choice is paired, and a card names the rest."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from cli.app import app
from features.backbone import load
from features.cards.card import Card, Input
from features.cards.reading import read_file
from features.cards.trace import trace
from features.errors import InputError
from features.weights.assign import Target
from features.weights.converted import recipe_of
from features.weights.match import match
from features.weights.rename import renamed

NETWORK = """
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.side = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.last(self.b(self.a(x).relu())) + self.side(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 4, 3), Block(), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.block(self.stem(x)).mean((2, 3)))
"""
CARD = """name = "net"
domain = "toys"
network = "./net.py:Net"

[input]
size = [6, 6]

[layers]
block = "block"
head = "head"

[[weights]]
path = "w.pth"
"""


@pytest.fixture
def card(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "net.toml").write_text(CARD)
    return tmp_path / "net.toml"


def tensors(names: dict[str, str]) -> dict[str, Tensor]:
    shapes = {
        "stem": (4, 3, 3, 3), "block.a": (4, 4, 3, 3), "block.b": (4, 4, 3, 3),
        "block.side": (4, 4, 1, 1), "block.last": (4, 4, 1, 1), "head": (2, 4),
    }  # fmt: skip
    chance = torch.Generator().manual_seed(1)
    found = {}
    for module, layer in names.items():
        found[f"{layer}.weight"] = torch.rand(shapes[module], generator=chance)
        found[f"{layer}.bias"] = torch.rand(shapes[module][:1], generator=chance)
    return found


NAMES = {
    "stem": "conv2d", "block.a": "conv2d_2", "block.b": "conv2d_10", "block.side": "conv2d_1",
    "block.last": "conv2d_11", "head": "dense",
}  # fmt: skip


def probe(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["weights", "match", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else " ".join(result.stderr.split())


def test_pairs_that_leave_no_choice(card: Path, tmp_path: Path) -> None:
    torch.save(tensors(NAMES), tmp_path / "w.pth")
    found = json.loads(probe(tmp_path / "w.pth", "-b", card, "--json"))
    how = {row["network"].removesuffix(".weight"): row["paired_by"] for row in found["rows"]}
    # a runs before b on one path; the shortcut lies beside the last convolution
    assert {name: how[name] for name in NAMES} == {
        "stem": "shape", "block.a": "order", "block.b": "order", "block.side": "",
        "block.last": "", "head": "shape",
    }  # fmt: skip
    assert found["rename"] == {
        "conv2d": "stem", "conv2d_2": "block.a", "conv2d_10": "block.b", "dense": "head"
    }  # fmt: skip
    table = probe(tmp_path / "w.pth", "-b", card)
    assert "block.side.weight\t4 x 4 x 1 x 1\t\t\tno pair" in table
    assert "\t\tconv2d_11.weight\t4 x 4 x 1 x 1\tno pair" in table
    assert "stem.weight\t4 x 3 x 3 x 3\tconv2d.weight\t4 x 3 x 3 x 3\tshape" in table


def test_pairs_by_name_after_a_prefix(card: Path, tmp_path: Path) -> None:
    given = {f"model.{n}": t for n, t in tensors({name: name for name in NAMES}).items()}
    given["model.head.weight"] = torch.zeros(5, 4)
    torch.save(given, tmp_path / "w.pth")
    rows = json.loads(probe(tmp_path / "w.pth", "-b", card, "--json"))["rows"]
    pairs = {row["network"]: (row["file"], row["paired_by"]) for row in rows if row["network"]}
    assert pairs["block.a.bias"] == ("model.block.a.bias", "name")
    assert pairs["head.weight"] == ("", "")
    assert rows[-1]["file"] == "model.head.weight"
    assert rows[-1]["file_shape"] == [5, 4]


def test_a_part_of_a_file(card: Path, tmp_path: Path) -> None:
    given = tensors({name: name for name in NAMES})
    del given["head.weight"]
    held = {"student": given, "teacher": dict(given)}
    torch.save(held, tmp_path / "w.pth")
    rows = json.loads(probe(f"{tmp_path / 'w.pth'}#teacher", "-b", card, "--json"))["rows"]
    assert rows[0]["file"] == "teacher.stem.weight"
    assert "there is no such weights file" in probe(tmp_path / "gone", "-b", card, code=3)
    with pytest.raises(InputError, match=r"1 of 12 tensors are missing \(head.weight\)"):
        load(str(card), f"{tmp_path / 'w.pth'}#teacher")


def test_a_card_names_the_layers_of_a_file(card: Path, tmp_path: Path) -> None:
    given = tensors(NAMES)
    torch.save({"net": given}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="12 of 12 tensors are missing"):
        load(str(card))
    rules = {**{v: k for k, v in NAMES.items() if "block" not in k}, r"conv2d_(2|1)": r"block.p\1"}
    rules |= {"block.p2": "block.a"}
    rename = (
        "rename = { 'conv2d' = 'stem', 'dense' = 'head', 'conv2d_2' = 'block.a', "
        "'conv2d_10' = 'block.b', 'conv2d_1' = 'block.side', 'conv2d_(11)' = 'block.last' }\n"
    )
    plain = recipe_of(read_file(card), read_file(card).weights[0])
    card.write_text(card.read_text() + rename)
    backbone = load(str(card))
    state = backbone.model.state_dict()
    for module, layer in NAMES.items():
        assert torch.equal(state[f"{module}.weight"], given[f"{layer}.weight"])
    assert backbone.weights is not None
    assert "renamed by {" in backbone.weights.identity
    assert recipe_of(read_file(card), read_file(card).weights[0]) != plain


def test_what_is_kept_from_before_is_still_known(card: Path) -> None:
    """The recipe of an entry without the keys that came later, as it was hashed before them."""
    found = recipe_of(read_file(card), read_file(card).weights[0])
    assert found == "9572f4e05b5f85d75aac64cbd34e1dabf7d40a52c93f96f6ae9aba646a31129e"


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        ("{ 'conv2d_(' = 'a' }", 'rename is { "PATTERN" = "NAME" }, and \'conv2d_(\' is not one'),
        (r"{ 'conv2d_(\d)' = 'a\2' }", "is not one"),
        (r"{ 'conv2d' = '\g<of>' }", "is not one"),
        (r"{ 'conv2d' = '\q' }", "is not one"),
        ("{ 'a{99999999999}' = 'b' }", "is not one"),
        ("{ '" + "(" * 3000 + ")" * 3000 + "' = 'b' }", "is not one"),
        ("{ 'conv2d' = 3 }", "is not one"),
        ("'conv2d'", "is not a table { key = value }"),
        ("{ 'conv3d' = 'a' }", "rename has 'conv3d', which matches none of its layers"),
        ("{ 'conv2d_.*' = 'stem' }", "rename makes stem.weight of both"),
    ],
)
def test_a_rename_that_cannot_be_used(card: Path, tmp_path: Path, rename: str, said: str) -> None:
    torch.save(tensors(NAMES), tmp_path / "w.pth")
    card.write_text(card.read_text() + f"rename = {rename}\n")
    with pytest.raises(InputError) as caught:
        load(str(card))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_renaming_by_hand() -> None:
    names = ["a.conv_1.weight", "conv_12.weight", "conv_1/x.weight", "lone"]
    rules = {r"conv_(\d+)": r"block.\1.conv", "lone": "fc.bias"}
    assert renamed(names, rules, Path("f")) == {
        "a.block.1.conv.weight": "a.conv_1.weight",
        "block.12.conv.weight": "conv_12.weight",
        "conv_1/x.weight": "conv_1/x.weight",
        "fc.bias": "lone",
    }


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b"])
def test_a_pattern_that_takes_for_ever_is_stopped(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.weights.rename._LONGEST", 0.2)
    with pytest.raises(InputError, match="takes for ever with its layers"):
        renamed(["a" * 60 + ".weight"], {pattern: "c"}, Path("f"))
    assert signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_a_file_that_is_not_weights(card: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("hello")
    assert "not a file of weights" in probe(tmp_path / "w.pth", "-b", card, code=3)


def test_modules_that_keep_the_order_of_a_chain(tmp_path: Path) -> None:
    model = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(3)))
    file = tmp_path / "w.pth"
    torch.save(
        {f"x{i}.{p}": t for i in range(3) for p, t in nn.Conv2d(3, 3, 1).state_dict().items()}, file
    )
    target = Target(Card("n", "toys", "none"), model, trace(model, (3, 4, 4)), Input((4, 4)))
    assert match(target, file).rename == {"x0": "0", "x1": "1", "x2": "2"}
