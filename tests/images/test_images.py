import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from features.errors import OptionError
from features.images import decode as images
from features.images.decode import Unreadable, read_rgb

CORNERS = {(0, 0): (250, 10, 20), (1, 0): (20, 250, 30), (0, 1): (40, 30, 250), (1, 1): (99,) * 3}


def corners(cell: int = 8, columns: int = 3) -> Image.Image:
    """Red, green over blue, grey, in cells; `columns` cells wide, so that turning shows."""
    image = Image.new("RGB", (columns * cell, 2 * cell), (240, 240, 0))
    for (x, y), colour in CORNERS.items():
        image.paste(colour, (x * cell, y * cell, (x + 1) * cell, (y + 1) * cell))
    return image


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.int64)


def reason(path: Path) -> str:
    with pytest.raises(Unreadable) as caught:
        read_rgb(path)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    assert len(text) <= 100
    return text


@pytest.mark.parametrize(
    ("orientation", "turns", "mirrored"),
    # counterclockwise quarter turns after a mirroring, from the EXIF standard's own drawings
    [(1, 0, 0), (2, 0, 1), (3, 2, 0), (4, 2, 1), (5, 1, 1), (6, 3, 0), (7, 3, 1), (8, 1, 0)],
)
def test_exif_orientation(tmp_path: Path, orientation: int, turns: int, mirrored: int) -> None:
    image = corners()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    stored = pixels(image)
    expected = np.rot90(stored[:, ::-1] if mirrored else stored, turns)
    np.testing.assert_array_equal(pixels(read_rgb(path)), expected)
    image.save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    found = pixels(read_rgb(tmp_path / "turned.jpg"))
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 3


def test_orientation_6_by_hand(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored left column is the top row, seen from the right
    image = Image.fromarray(
        np.array([[[1] * 3, [2] * 3, [3] * 3], [[4] * 3, [5] * 3, [6] * 3]], "u1")
    )
    image.save(tmp_path / "six.png", exif=exif)
    assert pixels(read_rgb(tmp_path / "six.png"))[:, :, 0].tolist() == [[4, 1], [5, 2], [6, 3]]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    inks = {(255, 0, 0): (0, 255, 255, 0), (0, 0, 0): (0, 0, 0, 255), (255, 255, 255): (0, 0, 0, 0)}
    for colour, ink in inks.items():
        Image.new("CMYK", (16, 16), ink).save(path, quality=100)
        found = read_rgb(path)
        assert found.mode == "RGB"
        assert np.abs(pixels(found) - colour).max() < 12


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 255, 256, 0x1234], [0x7FFF, 0x8000, 65280, 65535]], np.uint16)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(values).save(path)
    found = pixels(read_rgb(path))
    for channel in range(3):
        np.testing.assert_array_equal(found[:, :, channel], values >> 8)


def test_grey_and_black_and_white(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        pixels(read_rgb(tmp_path / "grey.png")), np.repeat(values[:, :, None], 3, 2)
    )
    Image.fromarray(values > 99).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(
        pixels(read_rgb(tmp_path / "bits.png"))[:, :, 0], 255 * (values > 99)
    )


def over_white(value: int, alpha: int) -> float:
    return value * alpha / 255 + 255 * (1 - alpha / 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    bands = len(mode)
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (6, 5, bands), dtype=np.uint8)
    stored[0, 0, -1], stored[0, 1, -1] = 0, 255
    path = tmp_path / "clear.png"
    Image.fromarray(stored, None).save(path)
    found = pixels(read_rgb(path))
    for y, x, channel in np.ndindex(6, 5, 3):
        value = int(stored[y, x, channel if mode == "RGBA" else 0])
        assert found[y, x, channel] == pytest.approx(
            over_white(value, int(stored[y, x, -1])), abs=1
        )
    assert found[0, 0].tolist() == [255, 255, 255]


def test_a_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2], [2, 1, 0]], np.uint8), None).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50, 1, 2, 3])
    path = tmp_path / "palette.png"
    image.save(path, transparency=1)
    white, first, last = [255] * 3, [10, 20, 30], [1, 2, 3]
    assert pixels(read_rgb(path)).tolist() == [[first, white, last], [last, white, first]]
    image.save(tmp_path / "opaque.png")
    assert pixels(read_rgb(tmp_path / "opaque.png"))[0, 1].tolist() == [200, 100, 50]


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert (pixels(read_rgb(path)) == (255, 0, 0)).all()


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "webp"])
def test_lossless_formats_give_their_pixels(tmp_path: Path, suffix: str) -> None:
    if suffix == "webp" and not features.check("webp"):
        pytest.skip("this Pillow reads no WebP")
    path = tmp_path / f"image.{suffix}"
    image = corners()
    image.save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(pixels(read_rgb(path)), pixels(image))


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    corners().save(tmp_path / "image.png")
    (tmp_path / "image.png").rename(tmp_path / "image.jpg")
    np.testing.assert_array_equal(pixels(read_rgb(tmp_path / "image.jpg")), pixels(corners()))


@pytest.mark.parametrize("part", [0.3, 0.9, 0.99])
def test_a_truncated_jpeg_is_unreadable(tmp_path: Path, part: float) -> None:
    path = tmp_path / "cut.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    assert "truncated" in reason(path)


@pytest.mark.parametrize("suffix", ["png", "gif", "tif", "bmp"])
def test_other_truncated_files_are_unreadable(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:900])
    reason(path)


def test_what_is_no_image(tmp_path: Path) -> None:
    text, empty, folder = (tmp_path / name for name in ("text.jpg", "empty.jpg", "folder.jpg"))
    text.write_text("this is not an image\n" * 9)
    empty.write_bytes(b"")
    folder.mkdir()
    assert reason(text) == "not an image"
    assert reason(empty) == "an empty file"
    assert "directory" in reason(folder).lower()
    assert reason(tmp_path / "gone.jpg") == "no such file"
    assert reason(text / "below.jpg")
    reason(tmp_path / ("long" * 99))
    reason(Path("nul\0.jpg"))


def test_no_permission(tmp_path: Path, not_root: None) -> None:
    path = tmp_path / "secret.png"
    corners().save(path)
    path.chmod(0)
    assert reason(path) == "no permission to read it"


def test_a_bomb_is_refused_before_it_goes_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    corners().save(path)
    monkeypatch.setattr(images.Image, "MAX_IMAGE_PIXELS", 100)
    why = "too many pixels to be a photo (384, above 200): give --max-pixels 384"
    assert reason(path) == why
    monkeypatch.setattr(images.Image, "MAX_IMAGE_PIXELS", 300)  # 384 pixels: Pillow only warns
    assert read_rgb(path).size == (24, 16)


def test_the_limit_of_pixels_is_moved_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.png"
    corners().save(path)
    monkeypatch.setattr(images.Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setenv("PROBE_MAX_PIXELS", "382")
    assert reason(path).startswith("too many pixels to be a photo (384, ")
    monkeypatch.setenv("PROBE_MAX_PIXELS", "384")
    assert read_rgb(path).size == (24, 16)
    for wrong in ("0", "-3", "many"):
        monkeypatch.setenv("PROBE_MAX_PIXELS", wrong)
        with pytest.raises(OptionError, match=wrong):
            read_rgb(path)


def seeds() -> dict[str, bytes]:
    """Small whole files of several formats, with EXIF and text where the format has them."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    made = {}
    for name, mode, options in (
        ("JPEG", "RGB", {"exif": exif}),
        ("PNG", "RGBA", {"exif": exif}),
        ("PNG", "P", {"transparency": 0}),
        ("GIF", "P", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("BMP", "RGB", {}),
    ):
        file = io.BytesIO()
        corners(4).convert(mode).save(file, name, **options)
        made[f"{name} {mode}"] = file.getvalue()
    return made


def outcome(path: Path) -> str:
    """`RGB`, or the reason why not."""
    try:
        return read_rgb(path).mode
    except Unreadable as error:
        return str(error)


@pytest.mark.parametrize("kind", list(seeds()))
def test_a_damaged_file_gives_an_image_or_a_reason(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    whole = seeds()[kind]
    path = tmp_path / "damaged"
    outcomes = set()
    for _ in range(250):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            data[place] = rng.integers(256)
        path.write_bytes(bytes(data)[: rng.integers(8, 3 * len(data))])
        outcomes.add(outcome(path) == "RGB")
    assert outcomes == {True, False}


def test_a_png_with_damaged_text_gives_an_image_or_a_reason(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    file = io.BytesIO()
    corners().save(file, "PNG")
    whole = file.getvalue()
    for inserted in (
        chunk(b"zTXt", b"key\0\0" + b"\xff" * 40),
        chunk(b"iTXt", b"key\0\1\0\0\0" + b"\xff" * 40),
        chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff"),
        chunk(b"eXIf", b"II*\0"),
        chunk(b"iCCP", b"\0\0" + b"\xff" * 9),
        chunk(b"tRNS", b"\0"),
        chunk(b"pHYs", b""),
    ):
        path = tmp_path / "text.png"
        path.write_bytes(whole[:33] + inserted + whole[33:])
        assert outcome(path)
