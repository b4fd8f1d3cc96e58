"""Preprocessing without a card is the network's own: what the library's transform makes of a photo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from test_defaults import ARCHITECTURES
from torchvision.models import get_model_weights

from features.cards.published import published_input
from features.cards.reading import find
from features.images import preprocess

_NAMES = """
    timm:tf_efficientnet_b0.ns_jft_in1k timm:tf_mobilenetv3_small_075 timm:beit_large_patch16_384
    timm:convnext_tiny.in12k_ft_in1k_384 timm:swin_base_patch4_window12_384 timm:nasnetalarge
    timm:eva_giant_patch14_224.clip_ft_in1k timm:vit_base_patch16_siglip_512 timm:resnetv2_50x1_bit
    timm:vit_small_patch14_dinov2.lvd142m timm:maxvit_large_tf_512 timm:regnety_160.swag_ft_in1k
    torchvision:regnet_y_16gf torchvision:vit_l_16 torchvision:vit_h_14 torchvision:inception_v3
    torchvision:convnext_tiny torchvision:efficientnet_v2_s torchvision:efficientnet_b7
    torchvision:mobilenet_v3_large torchvision:mnasnet1_3 torchvision:wide_resnet50_2
"""
EVERY = [*ARCHITECTURES, *_NAMES.split()]
SAMPLE = EVERY[::17]


def photo(height: int, width: int) -> Image.Image:
    """Smooth colours with noise over them, so that every filter leaves its mark."""
    chance = np.random.default_rng(height)
    y, x = np.mgrid[:height, :width] / 40
    colours = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], 2) * 80 + 128
    return Image.fromarray(
        (colours + chance.normal(0, 30, colours.shape)).clip(0, 255).astype("u1")
    )


def library(network: str, image: Image.Image) -> Any:
    kind, _, name = network.partition(":")
    if kind == "torchvision":
        return get_model_weights(name).DEFAULT.transforms()(image)
    with torch.device("meta"):
        model = timm.create_model(name)
    config = timm.data.resolve_model_data_config(model)
    return timm.data.create_transform(**config, is_training=False)(image)


@pytest.mark.parametrize(
    "network", [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.slow) for n in EVERY]
)
def test_an_image_is_prepared_as_the_library_prepares_it(network: str) -> None:
    card = find(network)
    kind, _, name = network.partition(":")
    with torch.device("meta"):
        model: Any = timm.create_model(name) if kind == "timm" else None
    wanted = published_input(card, model)
    for image in (photo(300, 420), photo(700, 333)):
        pixels = torch.from_numpy(preprocess.to_pixels(image, wanted).copy())[None]
        ours = preprocess.normalise(pixels, wanted)[0]
        torch.testing.assert_close(ours, library(network, image), rtol=1e-4, atol=1e-4)
