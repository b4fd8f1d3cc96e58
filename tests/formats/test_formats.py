from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from published import (
    AUTOMATIC,
    WRITERS,
    Lua,
    Weights,
    activations,
    bgr,
    cell,
    keras,
    mean_image,
    npz,
    npz_tensorflow,
    simplenn,
    torch7,
    weights,
    write_card,
)
from safetensors.torch import save_file
from scipy.io import savemat
from torch import Tensor, nn

from features.backbone import Backbone, load
from features.cards.card import Card, Input, WeightsEntry
from features.cards.trace import trace
from features.errors import InputError
from features.extraction.capture import capture
from features.formats import FORMATS
from features.formats import recognise as recognise_module
from features.formats import torch7 as lua_files
from features.formats.blobs import Blobs, of
from features.formats.meanimage import read as read_mean
from features.formats.recognise import read, recognise
from features.images.preprocess import describe, mean_of, normalise, to_pixels
from features.weights.assign import Target, assign

PIXELS = np.random.default_rng(3).integers(0, 256, (16, 12, 3), dtype=np.uint8)


def seen(backbone: Backbone, pixels: Any = PIXELS) -> dict[str, Tensor]:
    """The activations of every layer for one image, through the toolkit's own preprocessing."""
    wanted = backbone.architecture.input
    fed = torch.from_numpy(np.stack([to_pixels(Image.fromarray(pixels), wanted)]))
    layers = backbone.layers()
    with capture(backbone.model, layers, backbone.architecture.traced) as run:
        return run(normalise(fed, wanted))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for layer, tensor in expected.items():
        assert float(tensor.abs().max()) > 0.1
        assert float((found[layer] - tensor).norm() / tensor.norm()) < 1e-5, layer


def differ(found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    return [n for n, t in expected.items() if float((found[n] - t).norm()) > 1e-3 * float(t.norm())]


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_activations_of_its_tensors(kind: str, tmp_path: Path) -> None:
    file, w = tmp_path / "given", weights()
    WRITERS[kind](file, w)
    assert recognise(file) == kind.split()[0]
    assert_same(seen(load(str(write_card(tmp_path)), str(file))), activations(w, PIXELS))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_bgr_file_gives_the_features_of_the_rgb_file(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path / "bgr", bgr(weights()))
    expected = activations(weights(), PIXELS)
    card = write_card(tmp_path, 'path = "bgr"\nchannel_order = "bgr"')
    assert_same(seen(load(str(card))), expected)
    untold = seen(load(str(write_card(tmp_path, 'path = "bgr"'))))
    assert "conv1" in differ(untold, expected)


def test_a_card_that_wants_bgr_reads_rgb_files_too(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "rgb")
    card = write_card(tmp_path, 'path = "rgb"\nchannel_order = "rgb"')
    text = card.read_text().replace('channel_order = "rgb"\nscale', 'channel_order = "bgr"\nscale')
    card.write_text(text.replace("[100.0, 110.0, 125.0]", "[125.0, 110.0, 100.0]"))
    assert_same(seen(load(str(card))), activations(weights(), PIXELS))


@pytest.mark.parametrize(
    ("writer", "own"),
    [(keras, "hwc"), (npz_tensorflow, "hwc"), (npz, "chw"), (simplenn, None), (torch7, "chw")],
)
def test_the_order_of_flattening_is_the_formats_unless_the_card_says_otherwise(
    writer: Callable[[Path, Weights], None], own: str | None, tmp_path: Path
) -> None:
    writer(tmp_path / "given", weights())
    expected = activations(weights(), PIXELS)
    for order in ("chw", "hwc"):
        card = write_card(tmp_path, f'path = "given"\nflatten = "{order}"')
        wrong = differ(seen(load(str(card))), expected)
        # filters have their axes and need no telling
        assert wrong == ([] if order == own or own is None else ["fc3", "fc4"])


def test_keras_files_of_channels_first_models_say_so(tmp_path: Path) -> None:
    keras(tmp_path / "given", weights(), chw=True)
    card = write_card(tmp_path, 'path = "given"\nformat = "keras"\nflatten = "chw"')
    assert_same(seen(load(str(card))), activations(weights(), PIXELS))


def test_a_file_with_its_own_mean_brings_it_along(tmp_path: Path) -> None:
    save_file(bgr(weights()), tmp_path / "other")
    card = write_card(
        tmp_path, 'path = "other"\nchannel_order = "bgr"\nmean = [127.0, 111.0, 90.0]'
    )
    backbone = load(str(card))
    wanted = backbone.architecture.input
    assert (wanted.channel_order, wanted.mean) == ("rgb", (90.0, 111.0, 127.0))
    assert "minus [90.0, 111.0, 127.0]" in describe(wanted)
    shifted = PIXELS.astype(np.float32) + np.array([10.0, -1.0, -2.0])
    assert_same(seen(backbone), activations(weights(), shifted))
    same = write_card(
        tmp_path, 'path = "other"\nchannel_order = "bgr"\nmean = [125.0, 110.0, 100.0]'
    )
    assert "minus [100.0, 110.0, 125.0]" in describe(load(str(same)).architecture.input)


def test_the_card_says_one_format_and_the_bytes_another(tmp_path: Path) -> None:
    keras(tmp_path / "given", weights())
    card = write_card(tmp_path, 'path = "given"\nformat = "caffe"')
    with pytest.raises(InputError, match="the card says caffe and the bytes say keras; correct"):
        load(str(card))


def test_a_network_that_does_not_begin_with_a_convolution_has_no_channels_to_turn(
    tmp_path: Path,
) -> None:
    (tmp_path / "flat.py").write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))\n"
    )
    save_file({"1.weight": torch.ones(2, 12), "1.bias": torch.ones(2)}, tmp_path / "w")
    card = tmp_path / "flat.toml"
    card.write_text(
        'name = "flat"\ndomain = "toys"\nnetwork = "./flat.py:build"\n[input]\nsize = [2, 2]\n'
        '[[weights]]\npath = "w"\nchannel_order = "bgr"\n'
    )
    with pytest.raises(InputError, match="does not begin with a convolution of 3 channels"):
        load(str(card))


class Normed(nn.Module):
    """Batch norms, of which MatConvNet and old Torch7 keep the root of the variance."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv(self.bn0(x)))  # type: ignore[no-any-return]


def normed(order: str = "rgb") -> tuple[Target, dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(1)
    model = Normed().eval()
    state = {
        name: torch.rand(tensor.shape, generator=rng) + 0.5
        for name, tensor in model.state_dict().items()
        if tensor.dim()
    }
    card = Card("normed", "toys", "none", input=Input((4, 4)))
    return Target(card, model, trace(model, (3, 4, 4)), Input((4, 4), channel_order=order)), state


def test_batch_norms_of_matconvnet_and_torch7(tmp_path: Path) -> None:
    target, state = normed()
    roots = {n: (state[f"{n}.running_var"] + e).sqrt() for n, e in (("bn0", 1e-5), ("bn1", 1e-3))}
    layers = [
        {
            "type": "bnorm",
            "name": name,
            "weights": cell(
                [
                    state[f"{name}.weight"].numpy()[:, None],
                    state[f"{name}.bias"].numpy()[:, None],
                    torch.stack([state[f"{name}.running_mean"], root], 1).numpy(),
                ]
            ),
        }
        for name, root in roots.items()
    ]
    filters = state["conv.weight"].permute(2, 3, 1, 0).numpy()
    layers.insert(1, {"type": "conv", "name": "conv", "weights": cell([filters, np.zeros((0, 0))])})
    savemat(tmp_path / "net.mat", {"layers": cell(layers)})
    lua = Lua()
    modules = [
        (
            "nn.SpatialBatchNormalization",
            {
                **{p: state[f"{name}.{p}"] for p in ("weight", "bias", "running_mean")},
                "running_std": 1 / root,
            },
        )
        for name, root in roots.items()
    ]
    modules.insert(1, ("nn.SpatialConvolution", {"weight": state["conv.weight"]}))
    lua.put(("nn.Sequential", {"modules": modules}))
    (tmp_path / "net.t7").write_bytes(lua.bytes)
    for file in (tmp_path / "net.mat", tmp_path / "net.t7"):
        found = assign(target, read(file), WeightsEntry(), file)
        assert not found.missing + found.mismatched + found.unused
        for name, tensor in state.items():
            torch.testing.assert_close(found.state[name].float(), tensor, rtol=1e-5, atol=1e-6)


def test_a_norm_of_the_image_is_turned_with_the_channels(tmp_path: Path) -> None:
    target, state = normed()
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    target.model.load_state_dict(state, strict=False)
    expected = target.model(x)
    found = assign(target, Blobs("npz", state), WeightsEntry(channel_order="bgr"), tmp_path)
    target.model.load_state_dict(found.state, strict=False)
    torch.testing.assert_close(target.model(x.flip(1)), expected)


def test_layers_are_taken_in_order_only_where_every_shape_agrees(tmp_path: Path) -> None:
    w = weights()
    keras(tmp_path / "given", w, names=AUTOMATIC)
    target_card = write_card(tmp_path)
    assert_same(seen(load(str(target_card), str(tmp_path / "given"))), activations(w, PIXELS))
    fewer = {"conv1": "a", "conv2": "b", "fc3": "c", "fc4": "fc4"}
    keras(tmp_path / "some", w, names=fewer)
    with pytest.raises(InputError, match="6 of 8 tensors are missing"):
        load(str(target_card), str(tmp_path / "some"))


def test_layers_are_not_taken_in_order_where_one_is_left_out_or_paths_part(tmp_path: Path) -> None:
    keras(tmp_path / "given", weights(), names=AUTOMATIC)
    with h5py.File(tmp_path / "given", "r+") as file:
        file.attrs["layer_names"] = file.attrs["layer_names"][:3]
    with pytest.raises(InputError, match=r"8 of 8 tensors are missing \(features.0.weight, "):
        load(str(write_card(tmp_path)), str(tmp_path / "given"))
    target = Target(
        Card("forked", "toys", "none"), Forked(), trace(Forked(), (3, 4, 4)), Input((4, 4))
    )
    blobs = Blobs("torch7", {f"{n}.weight": torch.ones(3, 3, 1, 1) for n in "123"}, by_order=True)
    assert len(assign(target, blobs, WeightsEntry(), tmp_path).missing) == 3


class Forked(nn.Module):
    """Two of its convolutions could be taken for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 1, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.c(self.b(x))  # type: ignore[no-any-return]


def test_a_file_of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    w = weights()
    w["fc4.weight"] = torch.ones(7, 5)
    del w["conv2.bias"]
    simplenn(tmp_path / "given.mat", {**w, "conv2.bias": torch.zeros(0), "fc4.bias": torch.ones(7)})
    with pytest.raises(InputError) as caught:
        load(str(write_card(tmp_path)), str(tmp_path / "given.mat"))
    said = str(caught.value)
    assert "1 of 8 tensors are missing (features.3.bias)" in said
    assert "2 have another shape (classifier.3.weight is (7, 5, 1, 1) in the file" in said


@pytest.mark.parametrize("kind", ["binaryproto", "npy", "mat"])
def test_a_mean_image_is_subtracted_where_the_crop_lies(kind: str, tmp_path: Path) -> None:
    image = np.random.default_rng(1).uniform(80, 150, (3, 21, 17)).astype(np.float32)
    mean_image(kind, tmp_path / "mean", image)
    card = write_card(tmp_path)
    text = card.read_text().replace("mean = [100.0, 110.0, 125.0]", 'mean = "mean"')
    card.write_text(text.replace("size = [16, 12]", "size = [16, 12]\nresize = [21, 17]"))
    save_file(weights(), tmp_path / "w")
    wanted = load(str(card), str(tmp_path / "w")).architecture.input
    photo = Image.fromarray(np.random.default_rng(2).integers(0, 256, (21, 17, 3), dtype=np.uint8))
    fed = normalise(torch.from_numpy(np.stack([to_pixels(photo, wanted)])), wanted)[0].numpy()
    # Caffe: the offset is (21 - 16) / 2 and (17 - 12) / 2, rounded down, of image and mean alike
    whole = np.asarray(photo).transpose(2, 0, 1) - image
    np.testing.assert_allclose(fed, whole[:, 2:18, 2:14], rtol=0, atol=1e-4)
    assert "minus the mean image mean (sha256 " in describe(wanted)
    assert str(tmp_path) not in describe(wanted)


def test_a_mean_image_of_the_crops_own_size(tmp_path: Path) -> None:
    image = np.random.default_rng(1).uniform(80, 150, (3, 4, 6)).astype(np.float32)
    np.save(tmp_path / "mean.npy", image)
    found = mean_of(Input((4, 6), 9, mean=str(tmp_path / "mean.npy")))
    np.testing.assert_array_equal(found[0].numpy(), image)


def test_mean_images_that_cannot_be_used(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.zeros((3, 5, 5), np.float32))
    with pytest.raises(InputError, match=r"is 5 x 5, and neither the resized image nor its crop"):
        mean_of(Input((4, 4), (8, 8), mean=str(tmp_path / "mean.npy")))
    with pytest.raises(InputError, match="there is no such mean image"):
        mean_of(Input((4, 4), mean=str(tmp_path / "gone")))
    np.save(tmp_path / "flat.npy", np.zeros((5, 5), np.float32))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, said in (("flat", "not one image of shape"), ("objects", "a damaged .npy file")):
        with pytest.raises(InputError, match=said):
            read_mean(tmp_path / f"{name}.npy")
    declared = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        declared, {"descr": "<f4", "fortran_order": False, "shape": (3, 10**9, 10**9)}
    )
    (tmp_path / "huge.npy").write_bytes(declared.getvalue() + bytes(100))
    with pytest.raises(InputError, match=r"a damaged \.npy file"):
        read_mean(tmp_path / "huge.npy")


def test_a_mean_image_of_a_file_has_the_order_of_the_input(tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", np.full((3, 16, 12), 7.0, np.float32))
    save_file(weights(), tmp_path / "w")
    card = write_card(tmp_path, 'path = "w"\nmean = "own.npy"')
    assert float(mean_of(load(str(card)).architecture.input).unique()) == 7.0
    turned = write_card(tmp_path, 'path = "w"\nmean = "own.npy"\nchannel_order = "bgr"')
    with pytest.raises(InputError, match=r"line \d+: a mean image has the channel order of \[inp"):
        load(str(turned))


def test_torch7_reads_what_lua_writes(tmp_path: Path) -> None:
    lua = Lua()
    lua.put({"a": 1.5, "b": True, "c": "text", 3: {"deep": [1, 2]}})
    (tmp_path / "x.t7").write_bytes(lua.bytes)
    found = lua_files.parse(tmp_path / "x.t7")
    assert found == {"a": 1.5, "b": True, "c": "text", 3: {"deep": {1: 1.0, 2: 2.0}}}


def test_torch7_skips_functions_and_follows_references(tmp_path: Path) -> None:
    function = struct.pack("<iii", 8, 2, 4) + b"\x1bLua" + struct.pack("<iii", 3, 3, 0)
    again = struct.pack("<ii", 3, 1)  # the table itself
    key = struct.pack("<ii", 2, 1)
    data = struct.pack("<iii", 3, 1, 2) + key + b"f" + function + key + b"g" + again
    (tmp_path / "x.t7").write_bytes(data)
    found = lua_files.parse(tmp_path / "x.t7")
    assert found["f"] is None
    assert found["g"] is found
    with pytest.raises(InputError, match="holds no tensors"):
        read(tmp_path / "x.t7")


def test_torch7_of_before_versions_and_strided_tensors(tmp_path: Path) -> None:
    lua = Lua()
    lua.put({"w": torch.arange(6.0).view(2, 3).t()})
    (tmp_path / "x.t7").write_bytes(lua.bytes.replace(struct.pack("<i", 3) + b"V 1", b""))
    found = read(tmp_path / "x.t7").tensors["w"]
    assert torch.equal(found, torch.arange(6.0).view(2, 3).t())


class Planted:
    """A pickle of it writes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_no_file_runs_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    planted = np.array([Planted(mark)], dtype=object)
    np.savez(tmp_path / "a.npz", w=planted)
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Planted(mark), protocol=2))
    torch.save({"w": torch.ones(2), "x": Planted(mark)}, tmp_path / "c.pth")
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("w.npy", pickle.dumps(Planted(mark)))
    for file in sorted(tmp_path.glob("*.*")):
        with pytest.raises(InputError):
            read(file)
    assert not mark.exists()
    np.load(tmp_path / "a.npz", allow_pickle=True)["w"]
    assert mark.exists()  # it would have been


def test_pytorch_files_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    huge = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
    (tmp_path / "a.pth").write_bytes(huge)
    with zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
        archive.writestr("x/data/0", bytes(1 << 24))
    with zipfile.ZipFile(tmp_path / "c.pth", "w") as archive:
        archive.writestr("x/data.pkl", huge, zipfile.ZIP_DEFLATED)  # its words are hidden
        archive.writestr("x/padding", bytes(1 << 10))
    with zipfile.ZipFile(tmp_path / "d.pth", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
        archive.writestr("x/data/0", bytes(1000))
        (_, record) = archive.infolist()
        archive.filelist += [record] * 9  # the directory lists the same bytes ten times
    for name in ("b.pth", "c.pth", "d.pth"):
        with pytest.raises(InputError, match="its records are compressed or overlap"):
            read(tmp_path / name)
    with pytest.raises(InputError, match="asks for a byte array"):
        read(tmp_path / "a.pth")


def test_an_npz_bomb_and_a_header_that_lies(tmp_path: Path) -> None:
    for name, count, written in (("a.npz", 1 << 25, 128), ("b.npz", 1 << 40, 0)):
        with (
            zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("w.npy", "w") as member,
        ):
            header = {"descr": "<f4", "fortran_order": False, "shape": (count,)}
            np.lib.format.write_array_header_1_0(member, header)
            for _ in range(written):
                member.write(bytes(1 << 20))
    for name, said in (
        ("a.npz", "would unpack to"),
        ("b.npz", r"shape \(1099511627776,\) is decl"),
    ):
        with pytest.raises(InputError, match=said):
            read(tmp_path / name)


def hostile(kind: str, path: Path) -> None:
    secret = path.with_name("secret.h5")
    with h5py.File(secret, "w") as file:
        file["fc3/fc3/kernel:0"] = np.full((72, 5), 42.0, np.float32)
        file["fc3/fc3/bias:0"] = np.ones(5, np.float32)
    keras(path, weights())
    with h5py.File(path, "r+") as file:
        del file["fc3/fc3/kernel:0"]
        where = file["fc3/fc3"]
        if kind == "external link":
            where["kernel:0"] = h5py.ExternalLink(secret, "fc3/fc3/kernel:0")
        elif kind == "external storage":
            where.create_dataset(
                "kernel:0", (72, 5), "f4", external=[(bytes(secret), 0, h5py.h5f.UNLIMITED)]
            )
        elif kind == "virtual":
            layout = h5py.VirtualLayout((72, 5), "f4")
            layout[:] = h5py.VirtualSource(secret, "fc3/fc3/kernel:0", (72, 5))
            where.create_virtual_dataset("kernel:0", layout)
        elif kind == "bomb":
            where.create_dataset("kernel:0", (10**6, 10**5), "f4", chunks=(10**3, 10**3))
        else:
            where["kernel:0"] = np.array([b"text"] * 3)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("external link", "fc3/kernel:0 is missing in it"),
        ("external storage", "refers to another file"),
        ("virtual", "refers to another file"),
        ("bomb", "more than the file can hold"),
        ("text", "is not an array of numbers"),
    ],
)
def test_hdf5_reads_nothing_outside_itself(kind: str, said: str, tmp_path: Path) -> None:
    hostile(kind, tmp_path / "given.h5")
    with pytest.raises(InputError, match=said):
        read(tmp_path / "given.h5")


def test_a_child_that_crashes_or_hangs_is_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from features.formats import sandbox

    keras(tmp_path / "given.h5", weights())
    boot = sandbox._BOOT
    for code, said in (
        ("import os; os.abort()", "parsing it crashed"),
        ("import time; time.sleep(60)", "took too long"),
        (
            boot.replace("main()", "limit(1 << 20, 1); main()").replace(
                "import main", "import limit, main"
            ),
            "damaged",
        ),
    ):
        monkeypatch.setattr(sandbox, "_BOOT", code)
        monkeypatch.setattr(sandbox, "_PATIENCE", 0.05 if "sleep" in code else 4)
        with pytest.raises(InputError, match=said):
            read(tmp_path / "given.h5")


def test_the_child_imports_nothing_from_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("h5py", "numpy", "json", "features"):
        (tmp_path / f"{name}.py").write_text("open('mark', 'w').close()\nraise SystemExit\n")
    keras(tmp_path / "given.h5", weights())
    monkeypatch.chdir(tmp_path)
    assert read(Path("given.h5")).format == "keras"
    assert not (tmp_path / "mark").exists()


def test_every_format_is_written() -> None:
    assert {kind.split()[0] for kind in WRITERS} == set(FORMATS)


def test_a_format_is_one_module_and_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("features.formats.plain")
    module.recognise = lambda _path, head, _size: head.startswith(b"weights ")  # type: ignore[attr-defined]
    module.read = lambda path: of("plain", path, {"w": torch.ones(3)})  # type: ignore[attr-defined]
    (tmp_path / "w").write_bytes(b"weights 1 1 1")
    with pytest.raises(InputError, match="not a file of weights in any format"):
        read(tmp_path / "w")
    monkeypatch.setitem(sys.modules, "features.formats.plain", module)
    monkeypatch.setattr(recognise_module, "FORMATS", (*FORMATS[:-1], "plain", FORMATS[-1]))
    assert recognise(tmp_path / "w") == "plain"
    assert read(tmp_path / "w").tensors["w"].tolist() == [1, 1, 1]


def test_a_safetensors_header_that_lies(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
    data = struct.pack("<Q", len(header)) + header.encode() + bytes(64)
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(InputError, match="a damaged safetensors file"):
        read(tmp_path / "w")
