import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import AlexNet_Weights, EfficientNet_B0_Weights, SqueezeNet1_1_Weights
from torchvision.transforms import functional as F

from features.backbone import describe as architecture
from features.cards.card import Card, Input
from features.cards.published import published_input
from features.cards.reading import shipped
from features.errors import InputError
from features.images.preprocess import describe, normalise, to_pixels


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth shapes with some noise, so that filters and offsets both matter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a + c * y / b) for a, b, c in rng.uniform(3, 20, (3, 3))]
    pixels = 128 + 90 * np.stack(waves, 2) + rng.normal(0, 12, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def fed(image: Image.Image, wanted: Input) -> torch.Tensor:
    return normalise(torch.from_numpy(np.stack([to_pixels(image, wanted)])), wanted)[0]


@pytest.mark.parametrize(
    "size", [(640, 480), (300, 401), (256, 256), (90, 70), (224, 999), (17, 5)]
)
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("alexnet", AlexNet_Weights.DEFAULT),
        ("squeezenet1_1", SqueezeNet1_1_Weights.DEFAULT),
        ("torchvision:efficientnet_b0", EfficientNet_B0_Weights.IMAGENET1K_V1),
    ],
)
def test_equals_the_published_transform(
    name: str,
    weights: AlexNet_Weights | SqueezeNet1_1_Weights | EfficientNet_B0_Weights,
    size: tuple[int, int],
) -> None:
    image = picture(*size)
    found = fed(image, architecture(name).input)
    torch.testing.assert_close(found, weights.transforms()(image), rtol=0, atol=1e-5)
    assert found.std() > 0.3


def test_bicubic_is_not_bilinear() -> None:
    wanted = architecture("torchvision:efficientnet_b0").input
    assert wanted.interpolation == "bicubic"
    image = picture(640, 480)
    other = Input(wanted.size, wanted.resize, "bilinear", "rgb", 1.0, wanted.mean, wanted.std)
    assert float((fed(image, wanted) - fed(image, other)).abs().max()) > 0.02


def test_a_timm_network_brings_its_own_transform() -> None:
    timm = pytest.importorskip("timm")
    wanted = architecture("timm:resnet18").input
    model = timm.create_model("resnet18", pretrained=False)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    image = picture(500, 400)
    torch.testing.assert_close(fed(image, wanted), transform(image), rtol=0, atol=1e-5)


def test_every_transform_that_timm_publishes_is_repeated_or_refused() -> None:
    timm = pytest.importorskip("timm")
    image, model, tried, refused = picture(320, 250), torch.nn.Identity(), set(), []
    for name in timm.list_models():
        published = timm.get_pretrained_cfg(name)
        if published is None or max(published.input_size) > 400:
            continue
        model.pretrained_cfg = published.to_dict()  # type: ignore[assignment]
        config = timm.data.resolve_model_data_config(model)
        if str(config) in tried:
            continue
        tried.add(str(config))
        card = Card(name, "objects", f"timm:{name}")
        if config["crop_mode"] == "border":
            refused.append(name)
            with pytest.raises(InputError, match="cannot be repeated exactly; write a card with"):
                published_input(card, model)
            continue
        wanted = published_input(card, model)
        expected = timm.data.create_transform(**config)(image)
        torch.testing.assert_close(fed(image, wanted), expected, rtol=0, atol=1e-5, msg=name)
    assert len(tried) > 50
    assert len(refused) < 4


@pytest.mark.parametrize("order", ["rgb", "bgr", "gbr"])
def test_scale_mean_and_std_by_hand(order: str) -> None:
    image = Image.new("RGB", (2, 2))
    for place, colour in {(0, 0): (0, 10, 255), (1, 0): (51, 102, 204), (1, 1): (1, 2, 3)}.items():
        image.putpixel(place, colour)  # (x, y)
    wanted = Input(
        (2, 2), channel_order=order, scale=100.0, mean=(1.0, 20.0, 30.0), std=(2.0, 4.0, 5.0)
    )
    red = [[0, 20], [0, 100 / 255]]  # 51 / 255 * 100 = 20
    green = [[1000 / 255, 40], [0, 200 / 255]]
    blue = [[100, 80], [0, 300 / 255]]
    channels = {"r": red, "g": green, "b": blue}
    expected = torch.tensor([channels[c] for c in order])
    expected = (expected - torch.tensor([1.0, 20, 30]).view(3, 1, 1)) / torch.tensor(
        [2.0, 4, 5]
    ).view(3, 1, 1)
    torch.testing.assert_close(fed(image, wanted), expected)


def test_gilnet_subtracts_the_mean_of_each_bgr_channel_from_0_to_255() -> None:
    wanted = shipped()["gilnet"].input
    assert wanted is not None
    found = fed(Image.new("RGB", (300, 300), (200, 100, 50)), wanted)
    assert found.shape == (3, 227, 227)
    expected = (50 - 78.4263377603, 100 - 87.7689143744, 200 - 114.895847746)
    torch.testing.assert_close(found[:, 0, 0], torch.tensor(expected))
    assert torch.equal(found, found[:, :1, :1].expand_as(found))


@pytest.mark.parametrize(
    ("size", "resize", "left", "top"),
    [
        ((4, 4), (8, 10), 3, 2),
        ((5, 5), (8, 10), 2, 2),  # 2.5 and 1.5, rounded to even as torchvision does
        ((4, 4), (9, 11), 4, 2),  # 3.5 and 2.5
        ((8, 6), (8, 8), 1, 0),
        ((8, 8), (8, 8), 0, 0),
    ],
)
def test_the_crop_lies_in_the_centre(
    size: tuple[int, int], resize: tuple[int, int], left: int, top: int
) -> None:
    height, width = resize
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    image = Image.fromarray(np.stack([x, y, 0 * x], 2))
    found = to_pixels(image, Input(size, resize))
    assert (found.shape, found.dtype) == ((3, *size), np.uint8)
    assert (found[0, 0, 0], found[1, 0, 0]) == (left, top)
    np.testing.assert_array_equal(found[0], x[: size[0], left : left + size[1]])
    cropped = np.asarray(F.center_crop(image, list(size))).transpose(2, 0, 1)
    np.testing.assert_array_equal(found, cropped)


def test_mobilefacenet_is_fed_the_middle_of_a_112_square() -> None:
    wanted = shipped()["mobilefacenet"].input
    assert wanted is not None
    image = picture(112, 112)
    found = fed(image, wanted)
    expected = (np.asarray(image).transpose(2, 0, 1)[:, :, 8:104] - 127.5) / 128
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_square_resize_does_not_keep_the_aspect() -> None:
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (20, 0, 40, 20))
    found = to_pixels(image, Input((10, 10), (10, 10)))[0]
    assert (found[:, :4] == 0).all()
    assert (found[:, 6:] == 255).all()
    kept = to_pixels(image, Input((10, 10), 10))[0]  # 10 x 20, cropped in the middle
    assert (kept[:, :4] == 0).all()
    assert (kept[:, 6:] == 255).all()
    assert to_pixels(image, Input((20, 40))).shape == (3, 20, 40)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (13, 77, 200)])
def test_one_colour_stays_that_colour(colour: tuple[int, int, int]) -> None:
    for wanted in (Input((7, 9), 11), Input((7, 9), (30, 31), "bicubic"), Input((40, 40))):
        found = to_pixels(Image.new("RGB", (19, 23), colour), wanted)
        assert (found == np.array(colour).reshape(3, 1, 1)).all()


def test_describe_says_every_step() -> None:
    words = describe(
        Input((227, 224), 256, "bicubic", "bgr", 255.0, (1.5, 2.0, 3.0), (4.0, 5.0, 6.0))
    )
    assert words == (
        "EXIF orientation applied, RGB, resized to shorter side 256 (bicubic, antialiased), centre "
        "crop 227 x 224 (height x width), channels BGR, pixels 0..255, minus [1.5, 2.0, 3.0], "
        "divided by [4.0, 5.0, 6.0]"
    )
    assert "resized to 8 x 9 (bilinear" in describe(Input((8, 9)))
    assert "resized to 10 x 12 (bilinear" in describe(Input((8, 9), (10, 12)))


def test_what_changes_the_numbers_changes_the_words() -> None:
    base = Input((8, 8))
    others = [
        Input((8, 9)),
        Input((8, 8), 9),
        Input((8, 8), (9, 8)),
        Input((8, 8), interpolation="bicubic"),
        Input((8, 8), channel_order="bgr"),
        Input((8, 8), scale=255.0),
        Input((8, 8), scale=1.0000001),
        Input((8, 8), mean=(0.0, 0.0, 1e-9)),
        Input((8, 8), std=(1.0, 1.0, 2.0)),
    ]
    assert len({describe(wanted) for wanted in [base, *others]}) == 10
