"""Pictures with more than eight bits, and networks of one and four channels."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from features.backbone import describe
from features.cards.card import Input
from features.cards.reading import read_file
from features.errors import InputError
from features.extraction.extract import extract
from features.images import preprocess
from features.images.decode import Reading, Unreadable, decode
from features.images.views import inputs
from features.store.featurefile import FeatureFile
from features.study.study import open_study
from probe.training.image_cache import ImageCache

RAMP = np.arange(64, dtype=np.int64).reshape(8, 8)

NETWORK = """
from torch import nn




class Net(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.dirac_(self.conv.weight)

    def forward(self, x):
        return self.conv(x).flatten(1)


build = Net
"""


def saved(array: npt.NDArray[Any], kind: str = "TIFF", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def twelve_bits(values: npt.NDArray[Any]) -> bytes:
    """A TIFF of 12 bits a value, which Pillow reads and does not write."""
    digits = "".join(f"{int(v):03x}" for v in values.flatten())
    data = bytes.fromhex(digits)
    rows, columns = values.shape
    tags = [
        (256, 4, columns), (257, 4, rows), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8),
        (277, 3, 1), (278, 4, rows), (279, 4, len(data)),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return (
        struct.pack("<2sHI", b"II", 42, 8 + len(data))
        + data
        + struct.pack("<H", len(tags))
        + table
        + bytes(4)
    )


def grey(data: bytes, bounds: tuple[float, float] | None = None) -> npt.NDArray[Any]:
    return np.asarray(decode(data, Reading("grey", bounds)))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_by_the_range_and_else_by_all_of_theirs(kind: str) -> None:
    deep = (RAMP * 65).astype(np.uint16)  # twelve bits in sixteen
    np.testing.assert_allclose(grey(saved(deep, kind), (0, 4095)), deep * (255 / 4095), rtol=1e-6)
    assert grey(saved(deep, kind)).tolist() == (deep >> 8).tolist()
    window = grey(saved(deep, kind), (1000, 2000))
    np.testing.assert_allclose(window, np.clip((deep - 1000.0) * 0.255, 0, 255), atol=1e-4)


def test_twelve_bits_are_scaled_by_all_of_theirs_whatever_range_is_given() -> None:
    data = twelve_bits(RAMP * 65)
    for bounds in (None, (0.0, 65535.0)):
        np.testing.assert_allclose(grey(data, bounds), RAMP * 65 * (255 / 4095), rtol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_what_does_not_tell_its_white_is_scaled_by_a_range_and_else_refused(kind: Any) -> None:
    data = saved((RAMP / 4).astype(kind))
    np.testing.assert_allclose(grey(data, (0, 16)), (RAMP / 4).astype(kind) / 16 * 255, rtol=1e-5)
    kind_words = "floating-point" if kind is np.float32 else "32-bit or signed"
    with pytest.raises(Unreadable, match=rf"^{kind_words} values of 0 to 15(\.75)?, and which are"):
        decode(data)


def test_a_picture_in_which_0_is_white_is_turned() -> None:
    deep = (RAMP * 1000).astype(np.uint16)
    data = saved(deep, tiffinfo={262: 0})
    assert grey(data).tolist() == (255 - (deep >> 8)).tolist()
    np.testing.assert_allclose(grey(data, (0, 63000)), 255 - RAMP * 255 / 63, atol=1e-3)


def test_numbers_that_are_none_and_ranges_of_colour_are_refused() -> None:
    values = RAMP.astype(np.float32)
    values[3, 3] = np.nan
    with pytest.raises(Unreadable, match="NaN or infinite"):
        grey(saved(values), (0, 64))
    header = bytearray(saved(np.zeros((8, 8, 3), np.uint8), "PNG"))
    deep = io.BytesIO()
    pixels = np.repeat((RAMP * 65).astype(">u2")[:, :, None], 3, 2)
    _write_deep_colour(deep, pixels)
    assert np.asarray(decode(deep.getvalue()))[:, :, 0].tolist() == (RAMP * 65 >> 8).tolist()
    with pytest.raises(Unreadable, match="from 0 to 65535, not in another range"):
        decode(deep.getvalue(), Reading("rgb", (0, 4095)))
    assert header[24] == 8  # and eight bits do not care
    decode(bytes(header), Reading("rgb", (0, 4095)))


def _write_deep_colour(file: io.BytesIO, pixels: npt.NDArray[Any]) -> None:
    """A PNG of 16 bits a channel in colour, which Pillow does not write."""
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows, columns, _ = pixels.shape
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    file.write(b"\x89PNG\r\n\x1a\n")
    file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 16, 2, 0, 0, 0)))
    file.write(chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def test_colours_under_transparency_reach_a_network_of_four_channels() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 12, 4), dtype=np.uint8)
    pixels[:6, :, 3] = 0
    image = decode(saved(pixels, "PNG"), Reading("rgba"))
    assert np.asarray(image).tolist() == pixels.tolist()
    wanted = Input((6, 6), channel_order="bgra")
    made = preprocess.to_pixels(image, wanted)
    bands = [
        Image.fromarray(pixels[:, :, i]).resize((6, 6), Image.Resampling.BILINEAR) for i in range(4)
    ]
    assert made.tolist() == [np.asarray(band).tolist() for band in bands]
    turned = preprocess.normalise(torch.from_numpy(made.copy())[None], wanted)[0]
    np.testing.assert_allclose(turned.numpy(), made[[2, 1, 0, 3]] / np.float32(255), rtol=1e-6)
    # without transparency it is opaque; a deep picture is grey
    opaque = decode(saved(pixels[:, :, :3], "PNG"), Reading("rgba"))
    assert (np.asarray(opaque)[:, :, 3] == 255).all()
    deep = decode(saved(RAMP.astype(np.float32)), Reading("rgba", (0, 63)))
    made = preprocess.to_pixels(deep, Input((8, 8), channel_order="rgba", range=(0, 63)))
    assert (made[:3] == made[0]).all()
    assert (made[3] == 255).all()
    assert made[0].max() == pytest.approx(255)


def test_views_of_float_pixels_leave_them_as_they_are() -> None:
    pixels = torch.rand(2, 8, 8, 1).permute(0, 3, 1, 2) * 255
    before, wanted = pixels.clone(), Input((6, 6), (8, 8), channel_order="grey", mean=(0.5,))
    first = [crop.clone() for crop in inputs(pixels, "10crop", wanted)]
    assert torch.equal(pixels, before)
    torch.testing.assert_close(first[0], before[:, :, :6, :6] / 255 - 0.5)


@pytest.mark.parametrize(
    ("order", "channels", "lines"),
    [("grey", 1, ""), ("gray", 1, "mean = [10.0]\nstd = [2.0]\n"), ("bgra", 4, "")],
)
def test_networks_of_one_and_four_channels_are_extracted(
    tmp_path: Path, order: str, channels: int, lines: str
) -> None:
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (6, 8, 8, 4), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        folder = tmp_path / "images" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{i}.png")
    (tmp_path / "net.py").write_text(NETWORK)
    card = tmp_path / "net.toml"
    card.write_text(
        f'name = "net"\ndomain = "toys"\nnetwork = "./net.py:build"\noptions = {{ channels = {channels} }}'
        "\n"
        f'[input]\nsize = [8, 8]\nscale = 255.0\nchannel_order = "{order}"\n{lines}'
        '[layers]\nconv = "conv"\n'
    )
    extract(
        tmp_path / "study",
        str(card),
        weights="random",
        data=str(tmp_path / "images"),
        pool=["none"],
    )
    study = open_study(tmp_path / "study")
    wanted = describe(str(card)).input
    with FeatureFile(study.feature_path("net@random")) as file:
        stored = file.read("conv")
    for row, path in enumerate(study.paths):
        picture = pictures[int(Path(path).stem)]
        if channels == 4:
            expected = picture[:, :, [2, 1, 0, 3]].transpose(2, 0, 1).astype(float)
        else:
            on_white = Image.alpha_composite(
                Image.new("RGBA", (8, 8), "white"), Image.fromarray(picture)
            )
            expected = np.asarray(on_white.convert("RGB").convert("L"), dtype=float)
        expected = (expected - wanted.mean[0]) / wanted.std[0]
        np.testing.assert_allclose(stored[row], expected.flatten(), atol=1e-3)


def test_deep_pictures_reach_extraction_and_training_alike(tmp_path: Path) -> None:
    deep = [np.roll(RAMP, i, 1).astype(np.float32) / 63 for i in range(6)]
    for i, picture in enumerate(deep):
        folder = tmp_path / "images" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{i}.tif")
    (tmp_path / "net.py").write_text(NETWORK)
    card = tmp_path / "net.toml"
    card.write_text(
        'name = "net"\ndomain = "toys"\nnetwork = "./net.py:build"\noptions = { channels = 3 }\n'
        '[input]\nsize = [8, 8]\nscale = 100.0\nrange = [0, 1]\n[layers]\nconv = "conv"\n'
    )
    extract(
        tmp_path / "study",
        str(card),
        weights="random",
        data=str(tmp_path / "images"),
        pool=["none"],
    )
    study = open_study(tmp_path / "study")
    with FeatureFile(study.feature_path("net@random")) as file:
        stored = file.read("conv")
        assert ", values 0..1 of deep pictures as 0..255, " in str(file.attributes["preprocessing"])
    cached = ImageCache(study, read_file(card).input or Input((8, 8)))[np.arange(6)]
    for row, path in enumerate(study.paths):
        expected = np.stack([deep[int(Path(path).stem)] * 100] * 3)
        np.testing.assert_allclose(stored[row], expected.flatten(), atol=1e-4)
        np.testing.assert_allclose(cached[row].numpy(), expected * 2.55, atol=1e-3)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('channel_order = "la"', "rgb or bgr, or grey, rgba or bgra"),
        ('channel_order = "grey"\nstd = [1.0, 2.0]', "std is one number in brackets above 0"),
        ('channel_order = "rgba"\nmean = [1.0, 2.0, 3.0]', "mean is four numbers, one per channel"),
        ("range = [5, 5]", r"range is \[BLACK, WHITE\]"),
        ("range = [0]", "range = .0,. is not"),
    ],
)
def test_cards_that_cannot_be_are_refused(tmp_path: Path, line: str, why: str) -> None:
    card = tmp_path / "net.toml"
    card.write_text(
        f'name = "net"\ndomain = "toys"\nnetwork = "./n.py:b"\n[input]\nsize = [8, 8]\n{line}\n'
    )
    with pytest.raises(InputError, match=why):
        read_file(card)


def test_a_network_of_other_channels_than_its_card_ends_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    card = tmp_path / "net.toml"
    card.write_text(
        'name = "net"\ndomain = "toys"\nnetwork = "./net.py:build"\noptions = { channels = 1 }\n'
        "[input]\nsize = [8, 8]\n"
    )
    with pytest.raises(
        InputError, match=r"with channels rgb; correct size or channel_order \(grey"
    ):
        describe(str(card))
