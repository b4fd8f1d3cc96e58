from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from features.cards.card import Input
from features.errors import InputError
from features.images import preprocess
from features.images.views import canvas_of, check_views, crops, cut_out, normalised
from probe.training.augment import augment
from probe.training.recipes import recipe

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("size", "resize", "canvas"),
    [
        ((227, 227), (256, 256), (256, 256)),  # GilNet
        ((224, 224), (224, 224), (224, 224)),  # resized to the input size: no room
        ((224, 224), None, (224, 224)),
        ((112, 96), (112, 112), (112, 112)),  # MobileFaceNet has room in one direction
        ((224, 224), 256, (256, 256)),  # torchvision: the middle of the shorter side
        ((224, 224), 224, (224, 224)),
    ],
)
def test_canvas(size: tuple[int, int], resize: object, canvas: tuple[int, int]) -> None:
    assert canvas_of(Input(size=size, resize=resize)).size == canvas  # type: ignore[arg-type]


def test_a_card_may_name_a_larger_canvas() -> None:
    whole = Input(size=(224, 224), resize=(224, 224), canvas=(256, 250))
    assert canvas_of(whole).size == (256, 250)
    assert canvas_of(Input(size=(224, 224), resize=(224, 224), canvas=240)).size == (240, 240)


def test_ten_crops_without_room_are_the_image_and_its_mirror_image() -> None:
    assert crops((224, 224), Input((224, 224)), "10crop") == [(0, 0, False), (0, 0, True)]
    assert len(crops((256, 256), Input((224, 224)), "10crop")) == 10
    assert (
        len(crops((112, 112), Input((112, 96)), "10crop")) == 10
    )  # as they were, some of them twice


def test_centre_is_the_one_of_extraction() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    for wanted in (Input((11, 8), (16, 13), mean=(1.0, 2.0, 3.0)), Input((9, 10), 14, "bicubic")):
        plain = torch.from_numpy(preprocess.to_pixels(image, wanted).copy())[None]
        canvas = torch.from_numpy(preprocess.to_pixels(image, canvas_of(wanted)).copy())[None]
        size = (canvas.shape[2], canvas.shape[3])
        ((top, left, mirrored),) = crops(size, wanted, "center")
        seen = cut_out(canvas, wanted, top, left, mirrored, CPU)
        torch.testing.assert_close(seen, preprocess.normalise(plain, wanted), rtol=0, atol=0)


def test_ten_crops_are_corners_centre_and_mirrors() -> None:
    """On a canvas whose pixel (y, x) is 10 y + x, every crop tells where it was cut."""
    wanted = Input(size=(3, 2), scale=255.0)
    canvas = torch.arange(6)[:, None] * 10 + torch.arange(5)
    pixels = canvas.to(torch.uint8).expand(1, 3, 6, 5)
    seen = [cut_out(pixels, wanted, *crop, CPU)[0, 0] for crop in crops((6, 5), wanted, "10crop")]
    assert [int(x[0, 0]) for x in seen] == [0, 3, 30, 33, 22, 1, 4, 31, 34, 23]
    assert [int(x[2, 1]) for x in seen] == [21, 24, 51, 54, 43, 20, 23, 50, 53, 42]
    flip = [cut_out(pixels, wanted, *crop, CPU)[0, 0] for crop in crops((6, 5), wanted, "flip")]
    assert torch.equal(flip[0].flip(1), flip[1])


def test_mean_image_is_subtracted_at_the_crops_own_place(tmp_path: Path) -> None:
    image = np.random.default_rng(1).uniform(0, 255, (3, 6, 5)).astype(np.float32)
    np.save(tmp_path / "mean.npy", image)
    wanted = Input(
        (3, 2), (6, 5), channel_order="bgr", scale=255.0, mean=str(tmp_path / "mean.npy")
    )
    pixels = torch.randint(0, 256, (2, 3, 3, 2), dtype=torch.uint8)
    seen = normalised(pixels, np.array([[0, 0], [3, 1]]), (6, 5), wanted)
    for row, (top, left) in enumerate([(0, 0), (3, 1)]):
        by_hand = pixels[row].float().numpy()[::-1] - image[:, top : top + 3, left : left + 2]
        np.testing.assert_allclose(seen[row].numpy(), by_hand, rtol=0, atol=1e-4)
    centre = normalised(pixels[:1], np.array([[1, 1]]), (6, 5), wanted)
    torch.testing.assert_close(centre, preprocess.normalise(pixels[:1], wanted))


def test_augmentation_repeats_by_its_seed_and_stays_inside_the_canvas() -> None:
    wanted = Input(size=(8, 8), resize=(12, 12), scale=255.0)
    pixels = torch.randint(0, 256, (64, 3, 12, 12), dtype=torch.uint8)
    modern = recipe("modern")
    views = [augment(pixels, wanted, modern, np.random.default_rng(s), CPU) for s in (0, 0, 1)]
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    still = recipe("modern", colour=0.0, mirror=False)
    seen = augment(pixels, wanted, still, np.random.default_rng(0), CPU)
    windows = pixels.unfold(2, 8, 1).unfold(3, 8, 1).float()  # (64, 3, 5, 5, 8, 8)
    found = (windows == seen[:, :, None, None]).all(dim=(1, 4, 5)).flatten(1)
    assert found.any(1).all()
    assert len({int(row.float().argmax()) for row in found}) > 15  # of 25 places


def test_no_augmentation_is_the_centre() -> None:
    wanted = Input(size=(8, 8), resize=(12, 12), mean=(0.5, 0.5, 0.5))
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    plain = recipe("modern", crop=False, mirror=False, colour=0.0)
    seen = augment(pixels, wanted, plain, np.random.default_rng(0), CPU)
    assert torch.equal(seen, preprocess.normalise(pixels, wanted))


def test_colour_keeps_the_range() -> None:
    wanted = Input(size=(8, 8), scale=255.0)
    pixels = torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8)
    wild = recipe("modern", colour=0.9, crop=False, mirror=False)
    seen = augment(pixels, wanted, wild, np.random.default_rng(0), CPU)
    assert 0 <= seen.min() < 20 < 235 < seen.max() <= 255
    grey = pixels[:, :1].expand(-1, 3, -1, -1)
    seen = augment(grey, wanted, wild, np.random.default_rng(0), CPU)
    torch.testing.assert_close(seen[:, 0], seen[:, 1])  # grey has no colour to saturate


def test_unknown_view() -> None:
    with pytest.raises(InputError, match="--view centre: not a view; did you mean center"):
        check_views(("centre",))
