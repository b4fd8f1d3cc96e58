"""The few layers of a first look, against networks whose stages are known."""

import pytest

from features.cards.architecture import describe
from features.cards.stages import stages


def chosen(name: str) -> list[str]:
    described = describe(name)
    layers = {layer.name: layer for layer in described.layers}
    default = [layers[name] for name in described.default]
    return [default[i].name for i in stages([layer.shape for layer in default])]


def test_of_sizes_each_last_layer() -> None:
    maps = [(8, s, s) for s in (32, 32, 16, 16, 16, 8, 4)]
    assert stages([*maps, (10,), (10,)]) == [1, 4, 5, 6, 8]


def test_without_sizes_at_even_distances() -> None:
    assert stages([(197, 64)] * 12 + [(64,)]) == [0, 2, 5, 7, 10, 12]
    assert stages([(64,)] * 3) == [0, 1, 2]
    assert stages([]) == []


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("vgg16", 6),
        ("alexnet", 5),
        ("mobilefacenet", 5),
    ],
)
def test_of_cards_about_six_and_the_last(name: str, layers: int) -> None:
    found = chosen(name)
    assert len(found) == layers
    assert found[-1] == describe(name).default[-1]
