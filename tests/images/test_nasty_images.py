"""A folder of nasty images in one extraction: each decodes as a viewer shows it, or has its reason."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms
from toys import write_card
from typer.testing import CliRunner

from cli.app import app
from features.extraction import pipeline
from features.extraction.extract import extract
from features.images import decode as images
from features.store.featurefile import FeatureFile

Pixels = npt.NDArray[np.uint8]
Kind = tuple[Callable[[Path], None], Pixels | str, int]
"""What writes the file, the pixels `(8, 8, 3)` or the reason's start, and how far pixels may be off."""

RNG = np.random.default_rng(0)
PICTURE: Pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
SOFT: Pixels = np.stack(np.broadcast_arrays(*np.ogrid[30:200:8j, 20:180:8j], 90), 2).astype(
    np.uint8
)
GREY: Pixels = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
ALPHA: Pixels = RNG.integers(0, 256, (8, 8), dtype=np.uint8)


def shown(grey: npt.NDArray[Any]) -> Pixels:
    return np.repeat(np.asarray(grey, np.uint8)[:, :, None], 3, 2)


def over_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    share = alpha[:, :, None] / 255
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)


def flat(*colour: int) -> Pixels:
    return np.full((8, 8, 3), colour, np.uint8)


def inks(*amounts: int) -> Image.Image:
    return Image.new("CMYK", (8, 8), amounts)


def saved(image: Image.Image, kind: str, **options: Any) -> Callable[[Path], None]:
    return lambda path: image.save(path, kind, **options)


def data_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bytes_of(data: bytes) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(data))


def void(_: object) -> None:
    """So that a lambda returns nothing."""


def turned(orientation: int) -> Pixels:
    """What a viewer shows of SOFT stored under an EXIF orientation."""
    turns, mirrored = {
        1: (0, 0),
        2: (0, 1),
        3: (2, 0),
        4: (2, 1),
        5: (1, 1),
        6: (3, 0),
        7: (3, 1),
        8: (1, 0),
    }[orientation]
    return np.ascontiguousarray(np.rot90(SOFT[:, ::-1] if mirrored else SOFT, turns))


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def cut(kind: str, keep: float) -> Callable[[Path], None]:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = data_of(noise, kind)
    return bytes_of(data[: int(keep * len(data))])


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def round_about(path: Path) -> None:
    other = path.with_name(path.name + ".other")
    other.symlink_to(path.name)
    path.symlink_to(other.name)


def linked(path: Path) -> None:
    other = path.with_name(path.name + ".target")
    colour.save(other, "PNG")
    path.symlink_to(other.name)


colour, soft = Image.fromarray(PICTURE), Image.fromarray(SOFT)
grey = Image.fromarray(GREY)
clear = Image.fromarray(np.dstack([PICTURE, ALPHA]))
grey_clear = Image.fromarray(np.dstack([GREY, ALPHA]))
deep = RNG.integers(0, 65536, (8, 8), dtype=np.uint16)
bits = GREY > 99
index = RNG.integers(0, 3, (8, 8), dtype=np.uint8)
table = np.array([[10, 20, 30], [200, 100, 50], [1, 2, 3]], np.uint8)
palette = Image.frombytes("P", (8, 8), index.tobytes())
palette.putpalette(table.ravel().tolist())
holes = table[index].copy()
holes[index == 1] = 255
red, lime, blue = (Image.new("RGB", (8, 8), name) for name in ("red", "lime", "blue"))
profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
frames: dict[str, Any] = {"save_all": True, "append_images": [lime, blue], "duration": 40}

KINDS: dict[str, Kind] = {
    # plain files of every format, grey, deep, with a palette, transparent
    "rgb.png": (saved(colour, "PNG"), PICTURE, 0),
    "rgb.bmp": (saved(colour, "BMP"), PICTURE, 0),
    "rgb.tif": (saved(colour, "TIFF"), PICTURE, 0),
    "lzw.tif": (saved(colour, "TIFF", compression="tiff_lzw"), PICTURE, 0),
    "rgb.ppm": (saved(colour, "PPM"), PICTURE, 0),
    "rgb.tga": (saved(colour, "TGA"), PICTURE, 0),
    "lossless.webp": (saved(colour, "WEBP", lossless=True), PICTURE, 0),
    "lossy.webp": (saved(soft, "WEBP", quality=95), SOFT, 14),
    "baseline.jpg": (saved(soft, "JPEG", quality=98, subsampling=0), SOFT, 6),
    "progressive.jpg": (saved(soft, "JPEG", quality=98, subsampling=0, progressive=True), SOFT, 6),
    "grey.jpg": (saved(soft.convert("L"), "JPEG", quality=98), shown(np.asarray(soft.convert("L"))), 6),
    "optimised.png": (saved(colour, "PNG", optimize=True), PICTURE, 0),
    "with profile.png": (saved(colour, "PNG", icc_profile=profile), PICTURE, 0),
    "with profile.jpg": (saved(soft, "JPEG", quality=98, subsampling=0, icc_profile=profile), SOFT, 6),
    "grey.png": (saved(grey, "PNG"), shown(GREY), 0),
    "grey.tif": (saved(grey, "TIFF"), shown(GREY), 0),
    "deep.png": (saved(Image.fromarray(deep), "PNG"), shown(deep >> 8), 0),
    "deep.tif": (saved(Image.fromarray(deep), "TIFF"), shown(deep >> 8), 0),
    "bits.png": (saved(Image.fromarray(bits), "PNG"), shown(255 * bits), 0),
    "bits.tif": (saved(Image.fromarray(bits), "TIFF", compression="group4"), shown(255 * bits), 0),
    "grey alpha.png": (saved(grey_clear, "PNG"), over_white(shown(GREY), ALPHA), 1),
    "alpha.png": (saved(clear, "PNG"), over_white(PICTURE, ALPHA), 1),
    "alpha.tif": (saved(clear, "TIFF"), over_white(PICTURE, ALPHA), 1),
    "alpha.webp": (saved(clear, "WEBP", lossless=True, exact=True), over_white(PICTURE, ALPHA), 1),
    "palette.png": (saved(palette, "PNG"), table[index], 0),
    "palette.gif": (saved(palette, "GIF"), table[index], 0),
    "palette.bmp": (saved(palette, "BMP"), table[index], 0),
    "palette hole.png": (saved(palette, "PNG", transparency=1), holes, 0),
    "palette hole.gif": (saved(palette, "GIF", transparency=1), holes, 0),
    "cmyk red.jpg": (saved(inks(0, 255, 255, 0), "JPEG", quality=98), flat(255, 0, 0), 12),
    "cmyk black.jpg": (saved(inks(0, 0, 0, 255), "JPEG", quality=98), flat(0, 0, 0), 12),
    "cmyk.tif": (saved(inks(255, 0, 0, 0), "TIFF"), flat(0, 255, 255), 12),
    "moving.gif": (saved(red, "GIF", **frames), flat(255, 0, 0), 0),
    "moving.webp": (saved(red, "WEBP", lossless=True, **frames), flat(255, 0, 0), 1),
    "moving.png": (saved(red, "PNG", **frames), flat(255, 0, 0), 0),
    "pages.tif": (saved(red, "TIFF", save_all=True, append_images=[lime]), flat(255, 0, 0), 0),
    # names and suffixes
    "a png.jpg": (saved(colour, "PNG"), PICTURE, 0),
    "a jpeg.png": (saved(soft, "JPEG", quality=98, subsampling=0), SOFT, 6),
    "no suffix": (saved(colour, "PNG"), PICTURE, 0),
    "  spaces  .png": (saved(colour, "PNG"), PICTURE, 0),
    "quotes \"'`.png": (saved(colour, "PNG"), PICTURE, 0),
    "comma, and;semicolon.png": (saved(colour, "PNG"), PICTURE, 0),
    "new\nline.png": (saved(colour, "PNG"), PICTURE, 0),
    "tab\tand\rreturn.png": (saved(colour, "PNG"), PICTURE, 0),
    "ümläut \u2603.png": (saved(colour, "PNG"), PICTURE, 0),
    os.fsdecode(b"latin \xe9\xff.png"): (saved(colour, "PNG"), PICTURE, 0),
    "-dash $HOME *.png": (saved(colour, "PNG"), PICTURE, 0),
    "back\\slash.png": (saved(colour, "PNG"), PICTURE, 0),
    "link.png": (linked, PICTURE, 0),
    # what is no image
    "empty.jpg": (bytes_of(b""), "an empty file", 0),
    "text.jpg": (bytes_of(b"this is not an image\n" * 9), "not an image", 0),
    "page.png": (bytes_of(b"<!doctype html><html>404</html>"), "not an image", 0),
    "zeros.png": (bytes_of(bytes(999)), "not an image", 0),
    "head.jpg": (bytes_of(data_of(soft, "JPEG")[:3]), "not an image", 0),
    "head.png": (bytes_of(data_of(soft, "PNG")[:12]), "not an image", 0),
    "cut 30.jpg": (cut("JPEG", 0.3), "image file is truncated", 0),
    "cut 99.jpg": (cut("JPEG", 0.99), "image file is truncated", 0),
    "cut.png": (cut("PNG", 0.5), "image file is truncated", 0),
    "cut.gif": (cut("GIF", 0.5), "image file is truncated", 0),
    "cut.bmp": (cut("BMP", 0.5), "image file is truncated", 0),
    "cut.tif": (cut("TIFF", 0.5), "image file is truncated", 0),
    "cut.webp": (cut("WEBP", 0.5), "could not create decoder object", 0),
    "bomb.png": (saved(Image.new("1", (2000, 2000)), "PNG"), "too many pixels to be a photo", 0),
    "folder.jpg": (lambda path: path.mkdir(), "is a directory", 0),
    "pipe.jpg": (lambda path: os.mkfifo(path), "a device or a pipe, not a file", 0),
    "loop.jpg": (loop, "too many levels of symbolic links", 0),
    "round about.jpg": (round_about, "too many levels of symbolic links", 0),
    "gone.jpg": (lambda path: None, "no such file", 0),
    "dangling.jpg": (lambda path: path.symlink_to("nowhere"), "no such file", 0),
    "secret.png": (saved(colour, "PNG"), "no permission to read it", 0),
    "vanishes.png": (saved(colour, "PNG"), "no such file", 0),
}  # fmt: skip
for number in range(1, 9):
    for kind, options, off in (
        ("PNG", {}, 0), ("JPEG", {"quality": 98, "subsampling": 0}, 6), ("WEBP", {"lossless": True}, 0)
    ):  # fmt: skip
        name = f"turned {number}.{kind.lower()}"
        KINDS[name] = (
            saved(soft, kind, exif=with_orientation(number), **options),
            turned(number),
            off,
        )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The images, with their manifest `data.csv`; what root may read, one of them vanishing meanwhile."""
    made = tmp_path / "images"
    made.mkdir()
    rows = ["path,label"]
    for i, (name, (write, _, _)) in enumerate(KINDS.items()):
        write(made / name)
        quoted = name.replace('"', '""')
        rows.append(f'"{quoted}",{"ab"[i % 2]}')
    data = "\n".join([*rows, ""]).encode("utf-8", "surrogateescape")
    (made / "data.csv").write_bytes(data)
    monkeypatch.setattr(images.Image, "MAX_IMAGE_PIXELS", 1_000_000)
    inner, opened = pipeline.read_bytes, os.open

    def read(path: Path) -> bytes:
        if path.name == "vanishes.png":
            path.unlink(missing_ok=True)
        return inner(path)

    def refuse(path: Any, *args: Any, **options: Any) -> int:
        if str(path).endswith("secret.png"):  # permissions do not bind root
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(pipeline, "read_bytes", read)
    monkeypatch.setattr(os, "open", refuse)
    return made


def test_every_nasty_image_has_its_pixels_or_its_reason(folder: Path, tmp_path: Path) -> None:
    assert len(KINDS) > 90
    card = write_card(tmp_path / "cards")
    result = extract(
        tmp_path / "study", str(card), data=str(folder / "data.csv"), layers=("pixels",),
        pool=("none",), device="cpu", batch_size=7,
    )  # fmt: skip
    reasons = {name: why for name, (_, why, _) in KINDS.items() if isinstance(why, str)}
    assert set(result.unreadable) == set(reasons)
    for name, why in reasons.items():
        assert result.unreadable[name].startswith(why), (name, result.unreadable[name])
        assert "\n" not in result.unreadable[name]
    with FeatureFile(result.file) as file:
        found = file.read("pixels")
    for row, (name, (_, pixels, off)) in enumerate(KINDS.items()):
        if not isinstance(pixels, str):
            seen = found[row].reshape(3, 8, 8).transpose(1, 2, 0)
            assert np.abs(seen - pixels).max() <= off, name


def test_the_command_lists_them_and_strict_stops(folder: Path, tmp_path: Path) -> None:
    card = write_card(tmp_path / "cards")
    words = f"extract --backbone {card} --data {folder / 'data.csv'} --study {tmp_path / 'study'}"
    strict = CliRunner().invoke(app, [*words.split(), "--strict"])
    assert strict.exit_code == 3
    assert "an empty file; correct or remove it, or leave --strict out." in strict.stderr
    ran = CliRunner().invoke(app, words.split())
    assert ran.exit_code == 0, ran.stderr
    assert "unreadable: text.jpg: not an image" in ran.stderr
    status = CliRunner().invoke(app, ["status", "--study", str(tmp_path / "study"), "--json"])
    bad = sum(isinstance(why, str) for _, why, _ in KINDS.values())
    assert f"{bad} unreadable" in ran.stderr
    assert status.stdout.count("symbolic links") == 2
