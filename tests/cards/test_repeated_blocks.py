"""Of alike blocks two run: the law of rows says the same as when all do, in a fraction of the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from features.cards import row_law
from features.cards.row_law import foreign_rows


class Windows(nn.Module):
    """Sees four windows of an image at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        return self.mix(x.reshape(n * 4, 4, 8)).reshape(n, 16, 8)


class Block(nn.Module):
    """A residual block; `shift` decides which rows of the batch it reads."""

    ran = 0

    def __init__(self, shift: int = 0, width: int = 8) -> None:
        super().__init__()
        self.inside = Windows()
        self.drop = nn.Dropout(0.1)
        self.shift = shift
        self.out = nn.Linear(8, width)

    def forward(self, x: Tensor) -> Tensor:
        type(self).ran += 1
        return self.drop(self.out(x.roll(self.shift, 0) + self.inside(x)))


class Net(nn.Module):
    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return x.mean(1)


def with_all(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> row_law.RowCheck:
    @contextmanager
    def none(_model: nn.Module) -> Iterator[dict[str, str]]:
        yield {}

    with monkeypatch.context() as patched:
        patched.setattr(row_law, "passing", none)
        return foreign_rows(model, (3, 16, 16))


def test_two_blocks_run_and_the_others_are_told_of_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Net([Block() for _ in range(7)]).eval()
    expected = with_all(model, monkeypatch)
    Block.ran = 0
    found = foreign_rows(model, (3, 16, 16))
    assert Block.ran == 4  # two blocks, each on an image alone and among others
    assert found == expected
    assert set(found.refused) == {f"blocks.{i}.inside.mix" for i in range(7)}
    assert not any("forward" in vars(block) for block in model.blocks)


@pytest.mark.parametrize("odd", [2, 3, 6])
def test_a_block_that_differs_is_run_and_found(odd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net([Block(shift=int(i == odd)) for i in range(7)]).eval()
    found = foreign_rows(model, (3, 16, 16))
    assert set(found.refused) == set(with_all(model, monkeypatch).refused)
    assert f"blocks.{odd}" in found.refused
    assert f"blocks.{odd - 1}" not in found.refused


def test_blocks_that_change_the_shape_or_bring_code_of_their_own_all_run() -> None:
    class Own(Block):
        def __init__(self) -> None:
            super().__init__()
            self.does = lambda x: x

    class Branches(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x).flatten(2).transpose(1, 2)
            return torch.stack([block(x) for block in self.blocks]).sum((0, 2))

    for blocks in ([Own() for _ in range(5)], [Halves() for _ in range(4)]):
        model = Branches(list(blocks)).eval()
        type(blocks[0]).ran = 0
        foreign_rows(model, (3, 16, 16))
        assert type(blocks[0]).ran == 2 * len(blocks)


class Halves(Block):
    """Returns half as many tokens as it read."""

    def forward(self, x: Tensor) -> Tensor:
        type(self).ran += 1
        return self.out(self.drop(torch.stack(x.chunk(2, 1)).mean(0)))
