"""Which order a matrix reads a map in: networks of many kinds, held against a network that computes.

The reference needs no marks: a file's matrix for maps flattened channels last is turned by hand, or
its layer is fed the map flattened channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.cards.card import Card, Input, WeightsEntry
from features.cards.trace import trace
from features.errors import InputError
from features.formats.blobs import Blobs
from features.weights.assign import Assignment, Target, assign
from features.weights.flatten import readings

SIDES = (4, 5, 3)  # channels, height, width of the last map
WIDTH = 60


class Net(nn.Module):
    """A convolution that gives a map of SIDES, then `read`, which may use the layers below."""

    def __init__(self, read: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.local = nn.LocalResponseNorm(3)
        self.one = nn.Linear(WIDTH, 6)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self, self.conv(x))


def last(y: Tensor) -> Tensor:
    return y.permute(0, 2, 3, 1)


# How the network gets from the map to its matrix, and what of that the file's matrix has seen.
READS: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "flatten": lambda net, y: net.one(y.flatten(1)),
    "view after relu": lambda net, y: net.one(y.relu().view(-1, WIDTH)),
    "channels last": lambda net, y: net.one(last(y).flatten(1)),
    "channels last after relu": lambda net, y: net.one(last(y).relu().reshape(len(y), -1)),
    "clipped": lambda net, y: net.one(F.relu6(y).flatten(1)),
    "squashed": lambda net, y: net.one(F.silu(y * 3 + 1).flatten(1)),
    "local norm": lambda net, y: net.one(net.local(y).flatten(1)),
    "gated": lambda net, y: net.one((y * y.mean((2, 3), keepdim=True).sigmoid()).flatten(1)),
    "transposed": lambda net, y: net.one(y.transpose(2, 3).flatten(1)),
    "upside down": lambda net, y: net.one(y.flip(2).flatten(1)),
    "added": lambda net, y: net.one((y + y.tanh()).flatten(1)),
    "functional": lambda net, y: F.linear(y.flatten(1), net.one.weight, net.one.bias),
    "norm before": lambda net, y: net.one(net.norm(y.flatten(1))),
    "norm before, channels last": lambda net, y: net.one(net.norm(last(y).flatten(1))),
}


def state(seed: int) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    model = Net(READS["flatten"])
    return {
        name: torch.rand(tensor.shape, generator=chance) + 0.1
        for name, tensor in model.state_dict().items()
        if not name.endswith("tracked")
    }


def by_hand(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with matrix and norm from channels last to channels first."""
    channels, rows, columns = SIDES
    turned = {
        name: tensor.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2).reshape(tensor.shape)
        for name, tensor in tensors.items()
        if tensor.shape[-1:] == (WIDTH,)
    }
    return {**tensors, **turned}


def fitted(
    model: nn.Module, blobs: Mapping[str, Tensor], size: tuple[int, int], flatten: str
) -> Assignment:
    target = Target(Card("n", "toys", "none"), model, trace(model, (3, *size)), Input(size))
    entry = WeightsEntry(flatten=None if flatten == "format" else flatten)
    return assign(target, Blobs("keras", blobs, flatten="hwc"), entry, Path("w.h5"))


@pytest.mark.parametrize("kind", READS)
def test_a_file_that_flattens_channels_last_computes_the_same_in_every_network(kind: str) -> None:
    """The map's elements meet the same weights, whichever way the network walks through them."""
    model, blobs = Net(READS[kind]).eval(), state(1)
    found = fitted(model, blobs, (5, 3), "format")
    assert not found.missing + found.mismatched
    natural = Net(READS[kind.removesuffix(", channels last")]).eval()
    natural.load_state_dict(by_hand(blobs), strict=False)
    model.load_state_dict(found.state, strict=False)
    x = torch.rand(2, 3, 5, 3)
    if kind in (
        "transposed",
        "upside down",
    ):  # moved back before the matrix that was turned by hand
        expected = natural.one(natural.conv(x).flatten(1))
    elif kind.startswith("channels last"):
        y = natural.conv(x)
        expected = natural.one((y.relu() if "relu" in kind else y).flatten(1))
    else:
        expected = natural(x)
    torch.testing.assert_close(model(x), expected)


def test_a_card_that_says_channels_first_is_believed_and_checked_against_the_network() -> None:
    blobs = state(2)
    plain = fitted(Net(READS["flatten"]).eval(), blobs, (5, 3), "chw")
    assert torch.equal(plain.state["one.weight"], blobs["one.weight"])
    model = Net(READS["channels last"]).eval()
    model.load_state_dict(fitted(model, blobs, (5, 3), "chw").state, strict=False)
    natural = Net(READS["flatten"]).eval()
    natural.load_state_dict(blobs, strict=False)
    x = torch.rand(2, 3, 5, 3)
    torch.testing.assert_close(model(x), natural(x))


class Two(nn.Module):
    """Two maps flattened beside each other and a vector, read by one matrix; a second one after it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 4, 2, stride=2)
        self.first, self.second = nn.Linear(2 * 16 + 4 * 4 + 3, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.a(x).flatten(1), x.mean((2, 3)), self.b(x).relu().flatten(1)]
        return self.second(self.first(torch.cat(parts, 1)).relu())  # type: ignore[no-any-return]


def test_maps_beside_each_other_are_turned_each_for_itself() -> None:
    model = Two().eval()
    found = readings(model, (3, 4, 4))
    assert set(found) == {"first.weight"}  # the second reads no map, though one has as many numbers
    reading = found["first.weight"]
    assert reading is not None
    assert reading.charts == ((0, (2, 4, 4)), (35, (4, 2, 2)))
    row = torch.arange(51.0)
    expected = torch.cat(
        [
            row[:32].reshape(4, 4, 2).permute(2, 0, 1).flatten(),
            row[32:35],
            row[35:].reshape(2, 2, 4).permute(2, 0, 1).flatten(),
        ]
    )
    assert torch.equal(reading.turned(row, "hwc"), expected)
    assert torch.equal(reading.turned(row, "chw"), row)


@pytest.mark.parametrize(
    "read",
    [
        lambda net, y: net.one(y.flatten(1).cumsum(1)),
        lambda net, y: net.one(y.flatten(1) @ torch.eye(WIDTH) + y.flatten(1)[:, :1]),
        lambda net, y: net.one(torch.cat([y.flatten(1)[:, 30:], y.flatten(1)[:, :30]], 1)),
    ],
    ids=["mixed", "product", "in two parts"],
)
def test_an_order_that_cannot_be_shown_is_asked_for_or_right(
    read: Callable[[Net, Tensor], Tensor],
) -> None:
    model, blobs = Net(read).eval(), state(3)
    try:
        found = fitted(model, blobs, (5, 3), "format")
    except InputError as error:
        said = str(error)
        assert said.startswith(
            "w.h5: one.weight reads a map, and running none on marked values does"
        )
        assert 'write flatten = "chw"' in said
        kept = fitted(model, blobs, (5, 3), "chw")
        assert torch.equal(kept.state["one.weight"], blobs["one.weight"])
        return
    columns = found.state["one.weight"][0].sort().values
    assert torch.equal(columns, blobs["one.weight"][0].sort().values)


def test_tokens_and_averages_read_no_map() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc, self.head = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.fc(self.conv(x).flatten(2).transpose(1, 2))
            return self.head(y.mean(1))  # type: ignore[no-any-return]

    assert readings(Tokens().eval(), (3, 8, 8)) == {}
    assert readings(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), (3, 4, 4)) == {}
