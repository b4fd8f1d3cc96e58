"""The law of rows: a row of features is its own image's, for any batch, or the layer is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from cli.app import app
from features.backbone import Architecture, describe, load
from features.cards.reading import shipped
from features.cards.row_law import foreign_rows
from features.errors import InputError
from features.extraction.capture import capture
from features.extraction.extract import extract
from features.store.making import create
from features.store.paths import partial_of
from features.store.writer import Writer

RUN = CliRunner()
WINDOWS = "it sees windows or patches, 4 rows an image"
ROWS = "it has not one row for each image"
OTHERS = "an image's row depends on the other images of its batch"
ORDER = "its rows are not in the order of the images"
PLACE = "an image's row depends on its place in the batch"
STILL = "it does not depend on the image"
TIME = "its first axis is not the images, the second is"


class Step(nn.Module):
    """A module from a function."""

    def __init__(self, does: str) -> None:
        super().__init__()
        self.does = does

    def forward(self, x: Tensor) -> object:
        if self.does == "windows":
            return x.reshape(-1, 3, 4, 4)
        if self.does == "patches":
            return x.flatten(2).transpose(1, 2).reshape(-1, 3)
        if self.does == "time first":
            return x.flatten(2).permute(2, 0, 1)
        if self.does == "constant":
            return torch.ones(len(x), 5)
        if self.does == "constant of one":
            return torch.ones(1, 5)
        if self.does == "whole numbers":
            return x.flatten(1).argmax(1, keepdim=True)
        if self.does == "flipped":
            return x.flip(0)
        if self.does == "rolled":
            return x.roll(1, 0)
        if self.does == "a little of the next":
            return x + 1e-9 * torch.cat([x[1:], x[:1]])
        if self.does == "minus the mean of the batch":
            return x - x.mean(0)
        if self.does == "plus its place":
            return x + torch.arange(1, len(x) + 1).view(-1, 1, 1, 1)
        if self.does == "all in one":
            return x.sum()
        if self.does == "squeezed":
            return x.mean((2, 3)).squeeze()
        if self.does == "signs":  # swallows NaN, and is the image's own
            return (x.flatten(1) > 0).float()
        return x.flatten(1)


class Each(nn.Module):
    """Runs every step on the image and returns it."""

    def __init__(self, *steps: str) -> None:
        super().__init__()
        self.steps = nn.ModuleDict({step.replace(" ", "_"): Step(step) for step in steps})

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps.values():
            step(x)
        return x


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("windows", WINDOWS),
        ("patches", "it sees windows or patches, 64 rows an image"),
        ("time first", TIME),
        ("constant", STILL),
        ("constant of one", STILL),
        ("whole numbers", "it returns int64, not features"),
        ("flipped", ORDER),
        ("rolled", ORDER),
        ("a little of the next", OTHERS),
        ("minus the mean of the batch", OTHERS),
        ("plus its place", PLACE),
        ("all in one", ROWS),
        ("squeezed", ROWS),
        ("signs", None),
        ("flat", None),
    ],
)
def test_what_breaks_the_law_is_told_and_what_keeps_it_is_not(does: str, why: str | None) -> None:
    found = foreign_rows(Each(does), (3, 8, 8)).refused
    assert found.get(f"steps.{does.replace(' ', '_')}") == why


def test_a_step_in_training_mode_or_one_that_mixes_after_it_is_told_too() -> None:
    """The law is of the network as extraction runs it: in evaluation mode a batch norm mixes nothing."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    assert foreign_rows(model, (3, 8, 8)).refused == {}
    assert model.training
    mixed = nn.Sequential(Step("minus the mean of the batch"), nn.Flatten())
    assert foreign_rows(mixed, (3, 8, 8)).refused == {"0": OTHERS, "1": OTHERS}
    attention = nn.Sequential(Step("patches in order"), nn.Unflatten(1, (64, 3)))
    tokens = nn.TransformerEncoderLayer(3, 1, 8)  # takes the images for the places of a sequence
    assert foreign_rows(nn.Sequential(attention, tokens), (3, 8, 8)).refused["1"] == OTHERS
    right = nn.TransformerEncoderLayer(3, 1, 8, batch_first=True)
    assert "1" not in foreign_rows(nn.Sequential(attention, right), (3, 8, 8)).refused


class Threads(nn.Module):
    """Notes the threads of each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(torch.get_num_threads())
        return x.flatten(1)


@pytest.mark.parametrize(("long", "later"), [(60.0, 1), (0.0, 3)])
def test_one_thread_shows_the_law_and_all_where_a_pass_is_long(
    long: float, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.cards.row_law.cores", lambda: 3)
    monkeypatch.setattr("features.cards.row_law._LONG", long)
    before = torch.get_num_threads()
    net = Threads()
    assert foreign_rows(nn.Sequential(net), (3, 8, 8)).refused == {}
    assert net.seen == [1, later]
    assert torch.get_num_threads() == before


def offered(architecture: Architecture) -> list[str]:
    """Every module, and part of what one returns, that may be asked for."""
    return [name for name in architecture.traced.tensors if name not in architecture.refused]


def rows_of(name: str, batch_sizes: tuple[int, ...], n: int) -> None:
    """See that every layer offered has each image's own rows, whatever its place and its batch."""
    backbone = load(name, "random")
    images = torch.randn(n, 3, *backbone.architecture.input.size)
    order = torch.randperm(n)
    layers = backbone.layers(tuple(offered(backbone.architecture)))
    assert len(layers) > 10
    with capture(
        backbone.model, layers, backbone.architecture.traced, lambda _, x: x[..., :64].clone()
    ) as run:
        found = [
            {
                key: torch.cat(parts)
                for key, parts in zip(
                    seen[0], zip(*(s.values() for s in seen), strict=True), strict=True
                )
            }
            for size in batch_sizes
            for seen in [[run(part) for part in images[order].split(size)]]
        ]
        wanted = run(images)
    for key, rows in wanted.items():
        near = 1e-3 * float(rows.abs().max()) + 1e-12
        for other in found:
            assert other[key].shape == rows.shape, key
            assert float((other[key] - rows[order]).abs().max()) <= near, key


@pytest.mark.parametrize("name", ["timm:mobilevit_xxs", "torchvision:squeezenet1_1"])
def test_rows_are_the_images_own_by_permutation_and_batch_size(name: str) -> None:
    rows_of(name, (1, 3), 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["timm:mobilevit_s", "torchvision:swin_v2_t", "torchvision:maxvit_t", "timm:levit_128s"],
)
def test_rows_are_the_images_own_in_networks_with_windows(name: str) -> None:
    rows_of(name, (1, 3, 16), 16)


@pytest.mark.parametrize("name", ["gilnet", "mobilefacenet", "sample-faces"])
def test_the_cards_of_the_package_keep_the_law(name: str) -> None:
    keeps_the_law(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_card_of_the_package_keeps_the_law(name: str) -> None:
    keeps_the_law(name)


def keeps_the_law(name: str) -> None:
    backbone = load(name, "random")
    refused = foreign_rows(backbone.model, backbone.architecture.input.shape).refused
    assert not {layer.module for layer in backbone.layers()} & set(refused)


NET = """
import torch
from torch import nn


class Windows(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 3, 4, 4)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, 1, 1)
        self.inside = Windows()

    def forward(self, x):
        x = self.conv(x)
        return self.inside(x).reshape(x.shape)


def build():
    return Net()
"""
CARD = 'name = "net"\ndomain = "toys"\nnetwork = "./net.py:build"\n[input]\nsize = [8, 8]\n'


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "net.toml").write_text(CARD)
    return tmp_path / "net.toml"


def test_windows_are_no_layer_and_the_reason_is_listed(net: Path) -> None:
    assert [layer.name for layer in describe(str(net)).layers] == ["conv"]
    shown = RUN.invoke(app, ["layers", str(net)])
    assert shown.exit_code == 0
    assert f"no layer: inside (1): {WINDOWS}" in shown.stderr
    with pytest.raises(
        InputError, match=f"^net: inside is no layer, {WINDOWS}; ask for another one"
    ):
        load(str(net), "random").layers(("inside",))
    net.write_text(CARD + '[layers]\nx = "inside"\n')
    with pytest.raises(
        InputError, match=rf"line 7: layer x reads .* which is no layer, {WINDOWS};"
    ):
        describe(str(net))


def test_a_module_that_breaks_the_law_after_it_was_traced_is_refused(
    net: Path, tmp_path: Path
) -> None:
    """Whatever a trace has missed: no row of a batch with other rows than images is written."""
    (net.parent / "net.py").write_text(
        NET.replace("x.reshape(-1, 3, 4, 4)", "x.reshape(-1, 3, 4, 4) if len(x) == 5 else x")
    )
    for i in range(5):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "m.csv").write_text(
        "path,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(5))
    )
    with pytest.raises(
        InputError, match=r"^layer inside: its module inside gave 20 rows for 5 images"
    ):
        extract(
            tmp_path / "study",
            str(net),
            data=str(tmp_path / "m.csv"),
            weights="random",
            batch_size=5,
        )
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("shape", [(8, 2), (3, 2), (4, 3), (4, 1), (4,), (4, 2, 1), (0, 2)])
def test_the_writer_refuses_any_other_array_before_it_touches_the_file(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """Written as it came, such an array would run over other rows, other layers or the headers."""
    path = partial_of(tmp_path / "x.h5")
    about = {"layer": "fc", "module": "fc", "pool": "none", "shape": [2], "depth": 1.0, "dim": 2}
    other = {**about, "key": "other", "layer": "other"}
    root = dict.fromkeys(("backbone", "domain", "images", "contract"), "x")
    root |= {"card": "{}", "weights": "{}", "made_with": "{}", "preprocessing": ""}
    create(path, 4, np.arange(4), [{**about, "key": "fc"}, other], "float32", root)
    before = path.read_bytes()
    rows, right = np.arange(4), np.ones((4, 2), np.float32)
    with Writer(path) as writer:
        with pytest.raises(InputError, match="a row for each image; nothing of this batch"):
            writer.write(rows, {"fc": right, "other": np.ones(shape, np.float32)})
        with pytest.raises(InputError, match=r"holds other layers than were computed \(other\)"):
            writer.write(rows, {"fc": right})
        assert path.read_bytes() == before
        writer.write(rows, {"fc": right, "other": right})
    with h5py.File(path) as file:
        assert file["status"][:].tolist() == [1] * 4
