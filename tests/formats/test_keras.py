"""Keras files: the order of layers, kernels of every kind, and nothing dropped without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from features.cards.card import Card, Input, WeightsEntry
from features.cards.trace import trace
from features.errors import InputError
from features.formats.keras import arranged, named, split
from features.formats.numbered_names import against_numbers, numbers_in
from features.formats.recognise import read
from features.formats.sandbox import LayerArray
from features.weights.assign import Assignment, Target, assign

Arrays = Mapping[str, Mapping[str, npt.NDArray[Any]]]
CHANCE = np.random.default_rng(8)


def drawn(*sides: int) -> npt.NDArray[Any]:
    return CHANCE.standard_normal(sides).astype("f4")


def write_numbered(path: Path, layers: Mapping[str, list[npt.NDArray[Any]]]) -> None:
    with h5py.File(path, "w") as file:
        for layer, arrays in layers.items():
            for number, array in enumerate(arrays):
                file[f"layers/{layer}/vars/{number}"] = array


def write_named(path: Path, layers: Arrays) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, arrays in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{part}:0".encode() for part in arrays]
            for part, array in arrays.items():
                group[f"{layer}/{part}:0"] = array


def fitted(model: nn.Module, path: Path, size: tuple[int, int] = (9, 9)) -> Assignment:
    model.eval()
    target = Target(Card("n", "toys", "none"), model, trace(model, (3, *size)), Input(size))
    found = assign(target, read(path), WeightsEntry(), path)
    model.load_state_dict(found.state, strict=False)
    return found


def twelve() -> nn.Sequential:
    first = nn.Conv2d(3, 4, 3, padding=1)
    return nn.Sequential(first, *(nn.Conv2d(4, 4, 3, padding=1) for _ in range(11)))


@pytest.mark.parametrize("listed", [None, list, sorted])
@pytest.mark.parametrize("prefix", ["conv2d", "my_conv_0"])
def test_twelve_alike_convolutions_are_in_the_order_of_their_numbers(
    prefix: str, listed: Callable[[Iterable[str]], list[str]] | None, tmp_path: Path
) -> None:
    kernels = [drawn(3, 3, 3 if i == 0 else 4, 4) for i in range(12)]
    names = [f"{prefix}_{i}" if i or prefix != "conv2d" else prefix for i in range(12)]
    layers = dict(zip(names, kernels, strict=True))
    if listed is None:
        write_numbered(tmp_path / "w.h5", {n: [k, k[0, 0, 0]] for n, k in layers.items()})
    else:  # as the model has them, or in the order of the alphabet
        order = listed(layers)
        own = {n: {"kernel": layers[n], "bias": layers[n][0, 0, 0]} for n in order}
        write_named(tmp_path / "w.h5", own)
    model = twelve()
    found = fitted(model, tmp_path / "w.h5")
    assert not found.missing + found.mismatched
    for module, kernel in zip(model, kernels, strict=True):
        assert torch.equal(module.weight, torch.from_numpy(kernel.transpose(3, 2, 0, 1)))  # type: ignore[arg-type]
        assert torch.equal(module.bias, torch.from_numpy(kernel[0, 0, 0]))  # type: ignore[arg-type]


def test_an_order_that_names_do_not_tell_is_refused(tmp_path: Path) -> None:
    names = ["stem", *(f"conv2d_{i}" for i in range(11))]
    layers = {n: [drawn(3, 3, 3 if i == 0 else 4, 4), drawn(4)] for i, n in enumerate(names)}
    write_numbered(tmp_path / "w.h5", layers)
    with pytest.raises(InputError) as caught:
        fitted(twelve(), tmp_path / "w.h5")
    said = str(caught.value)
    assert "which does not say whether conv2d_" in said
    assert " or stem comes first; name the module of each layer by rename = {" in said
    # a list that was sorted tells no more
    named = {n: {"kernel": k, "bias": b} for n, (k, b) in layers.items()}
    write_named(tmp_path / "sorted.h5", dict(sorted(named.items())))
    with pytest.raises(InputError, match="have no order but that of their names"):
        fitted(twelve(), tmp_path / "sorted.h5")
    # where the file tells the order, names may be any
    write_named(tmp_path / "told.h5", named)
    model = twelve()
    fitted(model, tmp_path / "told.h5")
    kernel = torch.from_numpy(layers["conv2d_10"][0].transpose(3, 2, 0, 1))
    assert torch.equal(model[11].weight, kernel)  # type: ignore[arg-type]


def test_numbers_in_names() -> None:
    names = ["conv2d", "conv2d_1", "conv2d_2", "conv2d_10"]
    assert [*map(numbers_in, names)] == [("conv#d_#", (2, i)) for i in (0, 1, 2, 10)]
    assert numbers_in("block2_conv10") == ("block#_conv#", (2, 10))
    assert not against_numbers(names)
    assert against_numbers(sorted(names))
    assert not against_numbers(["conv2d_3", "conv2d_1", "conv2d_2"])  # a model's own order
    assert not against_numbers([f"block{b}_conv{c}" for b in range(1, 6) for c in range(1, 4)])


class Separable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.depthwise = nn.Conv2d(4, 8, 3, groups=4, bias=False)
        self.pointwise = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(self.conv(x)))  # type: ignore[no-any-return]


def separable_by_hand(x: Tensor, layers: Arrays) -> npt.NDArray[Any]:
    """Convolutions as sums over windows, from Keras' definition."""

    def windows(y: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.lib.stride_tricks.sliding_window_view(y, (3, 3), (1, 2))  # (c, y, x, i, j)

    own = layers["separable_conv2d"]
    y = np.einsum("cyxij,ijco->oyx", windows(x[0].numpy()), layers["conv2d"]["kernel"])
    y = y + layers["conv2d"]["bias"][:, None, None]
    y = np.einsum("cyxij,ijcm->cmyx", windows(y), own["depthwise_kernel"]).reshape(8, 5, 5)
    y = np.einsum("cyx,abco->oyx", y, own["pointwise_kernel"]) + own["bias"][:, None, None]
    return np.asarray(y)


@pytest.mark.parametrize("numbered", [False, True])
def test_a_separable_convolution_keeps_both_kernels(numbered: bool, tmp_path: Path) -> None:
    own = {
        "depthwise_kernel": drawn(3, 3, 4, 2),
        "pointwise_kernel": drawn(1, 1, 8, 5),
        "bias": drawn(5),
    }
    layers = {"conv2d": {"kernel": drawn(3, 3, 3, 4), "bias": drawn(4)}, "separable_conv2d": own}
    if numbered:
        write_numbered(
            tmp_path / "w.h5", {name: list(arrays.values()) for name, arrays in layers.items()}
        )
    else:
        write_named(tmp_path / "w.h5", layers)
    tensors = read(tmp_path / "w.h5").tensors
    assert set(tensors) == {
        "conv2d.weight", "conv2d.bias", "separable_conv2d.depthwise.weight",
        "separable_conv2d.pointwise.weight", "separable_conv2d.pointwise.bias",
    }  # fmt: skip
    if numbered:  # a pointwise kernel and an ordinary one: which comes first the names do not tell
        with pytest.raises(InputError, match="order but that of their names"):
            fitted(Separable(), tmp_path / "w.h5")
        return
    model = Separable()
    assert not fitted(model, tmp_path / "w.h5").unused
    x = torch.rand(1, 3, 9, 9)
    np.testing.assert_allclose(
        model(x)[0].detach().numpy(), separable_by_hand(x, layers), rtol=1e-4, atol=1e-4
    )


def test_what_is_not_known_is_named(tmp_path: Path) -> None:
    layers = {
        "conv2d": {"kernel": drawn(3, 3, 3, 4), "bias": drawn(4)},
        "gru": {"kernel": drawn(4, 6), "recurrent_kernel": drawn(2, 6), "bias": drawn(2, 6)},
    }
    write_named(tmp_path / "w.h5", layers)
    blobs = read(tmp_path / "w.h5")
    assert {"gru.weight", "gru.recurrent_kernel", "gru.bias"} < set(blobs.tensors)
    model = nn.Sequential()
    model.add_module("conv2d", nn.Conv2d(3, 4, 3))
    assert set(fitted(model, tmp_path / "w.h5").unused) == {
        "gru.weight", "gru.recurrent_kernel", "gru.bias"
    }  # fmt: skip
    write_numbered(tmp_path / "n.h5", {"conv2d": [drawn(3, 3, 3, 4)], "odd": [drawn(2)] * 5})
    assert {f"odd.{i}" for i in range(5)} < set(read(tmp_path / "n.h5").tensors)


def test_layers_of_one_name_in_models_inside_models(tmp_path: Path) -> None:
    write_numbered(
        tmp_path / "w.h5",
        {
            "conv2d": [drawn(3, 3, 3, 4)],
            "functional/layers/conv2d": [drawn(3, 3, 4, 4)],
            "functional/layers/dense": [drawn(4, 2), drawn(2)],
        },
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in read(tmp_path / "w.h5").tensors.items()}
    assert shapes == {
        "conv2d.weight": (4, 3, 3, 3),
        "functional/conv2d.weight": (4, 4, 3, 3),
        "dense.weight": (2, 4),
        "dense.bias": (2,),
    }
    again = named([LayerArray("a", "bias", np.zeros(1)), LayerArray("a", "bias", np.ones(1))])
    assert set(again) == {"a.bias", "a~2.bias"}


def test_a_batch_norm_without_gain_or_shift() -> None:
    moments = [
        LayerArray("n", "moving_mean", drawn(4)),
        LayerArray("n", "moving_variance", drawn(4)),
    ]
    found = named([LayerArray("n", "beta", drawn(4)), *moments])
    assert np.array_equal(found["n.weight"], np.ones(4))
    assert set(found) == {"n.weight", "n.bias", "n.running_mean", "n.running_var"}
    assert np.array_equal(named(moments)["n.bias"], np.zeros(4))


@pytest.mark.parametrize(
    ("part", "sides", "expected"),
    [
        ("kernel", (5, 2, 3), (3, 2, 5)),
        ("kernel", (7, 5, 2, 3), (3, 2, 7, 5)),
        ("kernel", (6, 7, 5, 2, 3), (3, 2, 6, 7, 5)),
        ("kernel", (2, 3), (3, 2)),
        ("pointwise_kernel", (1, 1, 2, 3), (3, 2, 1, 1)),
        ("depthwise_kernel", (7, 5, 2, 3), (6, 1, 7, 5)),
        ("depthwise_kernel", (5, 2, 3), (6, 1, 5)),
        ("recurrent_kernel", (2, 6), (2, 6)),
        ("alpha", (1, 1, 4), (1, 1, 4)),
    ],
)
def test_layouts(part: str, sides: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert arranged(part, drawn(*sides))[1].shape == expected


def test_names() -> None:
    assert split("a/b/kernel:0") == ("a/b", "kernel")
    assert split("s/pointwise_kernel:0") == ("s", "pointwise_kernel")
    assert split("s/recurrent_kernel:0") is None
