"""JPEGs by torchcodec against the same JPEGs by Pillow: equal pixels, and equal reasons."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from features.images import jpeg
from features.images.decode import Unreadable, decode

SAVED: list[dict[str, object]] = [
    {"quality": 30},
    {"quality": 100, "subsampling": 0},
    {"subsampling": 1},
    {"progressive": True},
    {"restart_marker_blocks": 3},
    {"keep_rgb": True},
]


def drawn(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Smooth colours with noise on them, which a photo has too."""
    coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    noisy = smooth + rng.normal(0, 12, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **how)
    return file.getvalue()


def files(rng: np.random.Generator) -> Iterator[bytes]:
    """Ordinary JPEGs of every kind and odd size, and then the same with bytes cut off or changed."""
    sizes = [(1, 1), (8, 8), (17, 33), (97, 61)]
    whole = [saved(drawn(rng, size), **how) for size in sizes for how in SAVED]
    yield from whole
    for _ in range(400):
        data = bytearray(whole[rng.integers(len(whole))])
        if rng.random() < 0.25:
            del data[rng.integers(len(data)) :]
        for place in rng.integers(len(data) or 1, size=rng.integers(1, 8)):
            data[place : place + 1] = bytes([rng.integers(256)])
        yield bytes(data)


def seen(data: bytes) -> tuple[str, bytes]:
    try:
        image = decode(data)
    except Unreadable as reason:
        return str(reason), b""
    return f"{image.mode} {image.size}", image.tobytes()


def without_torchcodec(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jpeg, "_decoder", lambda: None)


@pytest.mark.skipif(jpeg.name() == "pillow", reason="torchcodec is not installed")
def test_torchcodec_and_pillow_see_the_same() -> None:
    met = Counter()
    for data in files(np.random.default_rng(0)):
        found = seen(data)
        with pytest.MonkeyPatch.context() as patch:
            without_torchcodec(patch)
            assert found == seen(data)
        with Image.open(io.BytesIO(data)) if found[1] else Image.new("L", (1, 1)) as opened:
            met[jpeg.decode_jpeg(opened, data) is not None] += 1
    assert met[True] > 100  # so that it is torchcodec that is tested here
    assert met[False] > 50


@pytest.mark.skipif(jpeg.name() == "pillow", reason="torchcodec is not installed")
@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_what_is_not_ordinary_is_left_to_pillow(mode: str) -> None:
    image = drawn(np.random.default_rng(1), (40, 30))
    data = saved(image.convert(mode))
    with Image.open(io.BytesIO(data)) as opened:
        assert jpeg.decode_jpeg(opened, data) is None
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(image, exif=exif)
    with Image.open(io.BytesIO(turned)) as opened:
        assert jpeg.decode_jpeg(opened, turned) is None
    assert decode(turned).size == (30, 40)


def test_a_torchcodec_that_does_not_load_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)  # an ImportError
    jpeg._decoder.cache_clear()
    try:
        assert jpeg.name() == "pillow"
        assert decode(saved(drawn(np.random.default_rng(2), (9, 9)))).size == (9, 9)
    finally:
        jpeg._decoder.cache_clear()
