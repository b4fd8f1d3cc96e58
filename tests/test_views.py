"""Features under a view are the mean over its crops, and stand beside those of the centre."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_extract import contents, run
from torchvision.transforms.v2 import functional as F
from toys import draw, write_images

from features import pool as pooling
from features.backbone import Layer
from features.card import read_file
from features.errors import InputError
from features.featurefile import FeatureFile
from features.network import build

LAYERS = ("pixels", "conv", "act", "pool", "fc")
ROOM = ("size = [8, 8]", "size = [8, 8]\nresize = [12, 10]\nmean = [90.0, 100.0, 110.0]")


def by_torchvision(card: Path, row: int, view: str) -> dict[str, Any]:
    """Every layer's mean over the crops that torchvision cuts."""
    image = draw(row).resize((10, 12), 2)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    if view == "flip":
        middle = F.center_crop(pixels, [8, 8])
        seen = [middle, F.horizontal_flip(middle)]
    else:
        seen = list(F.ten_crop(pixels, [8, 8]))
    x = torch.stack(seen).float() - torch.tensor([90.0, 100.0, 110.0]).view(3, 1, 1)
    net = build(read_file(card), seed=0)
    outputs = {"pixels": x}
    with torch.no_grad():
        outputs["conv"] = net.conv(x)  # type: ignore[operator]
        outputs["act"] = outputs["conv"].relu()
        outputs["pool"] = torch.nn.functional.max_pool2d(outputs["act"], 2)
        outputs["fc"] = net.fc(outputs["pool"].flatten(1))  # type: ignore[operator]
    found = {name: y.mean(0).flatten().numpy() for name, y in outputs.items()}
    return found | {
        f"{name}:avg": y.mean((0, 2, 3)).numpy() for name, y in outputs.items() if y.ndim == 4
    }


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_layer_under_every_view(
    tiny_card: Callable[..., Path], tmp_path: Path, dtype: str
) -> None:
    card, manifest = tiny_card(*ROOM), write_images(tmp_path / "images", 9, (4,), {8: 2})
    result = run(tmp_path / "s", card, manifest, views=("flip", "10crop"), dtype=dtype)
    plain = run(tmp_path / "plain", card, manifest, dtype=dtype)
    with FeatureFile(result.file) as file:
        with FeatureFile(plain.file) as other:
            assert file.keys == other.keys == other.stored
            for key in file.keys:
                np.testing.assert_array_equal(file.read(key), other.read(key))
        assert set(file.stored) == {
            f"{key}{at}" for key in file.keys for at in ("", "@flip", "@10crop")
        }
        assert not file.verify()
        for view in ("flip", "10crop"):
            for row in (0, 3, 7, 8):
                expected = by_torchvision(card, 2 if row == 8 else row, view)
                for key in file.keys:
                    np.testing.assert_allclose(
                        file.read(f"{key}@{view}")[row],
                        expected[key],
                        rtol=1e-4 if dtype == "float32" else 2e-3,
                        atol=1e-3 if dtype == "float32" else 0.1,
                    )
            assert np.isnan(file.read(f"fc@{view}")[4]).all()


def test_views_added_later_and_by_two_workers_are_the_same_bytes(
    tiny_card: Callable[..., Path], tmp_path: Path
) -> None:
    card, manifest = tiny_card(*ROOM), write_images(tmp_path / "images", 13, (4,), {8: 2})
    at_once = run(tmp_path / "once", card, manifest, lanes=1, views=("10crop",))
    run(tmp_path / "s", card, manifest, lanes=1)
    later = run(tmp_path / "s", card, lanes=1, views=("10crop",), workers=2)
    found, expected = contents(later.file), contents(at_once.file)
    assert found.keys() == expected.keys()
    for name in found:
        if name.startswith(("layers/", "checksums/")):
            assert found[name][0] == expected[name][0], name


def test_keys_of_a_plan_go_view_by_view() -> None:
    layers = [Layer("a", "a", (3, 4, 4), 0.5), Layer("b", "b", (7,), 1.0)]
    keys = [p.key for p in pooling.plan(layers, ["auto", "avg"], ["center", "flip"])]
    assert keys == ["a", "a:avg", "b", "a@flip", "a:avg@flip", "b@flip"]


def test_an_unknown_view_is_refused(tiny_card: Callable[..., Path], tmp_path: Path) -> None:
    manifest = write_images(tmp_path / "images", 3)
    with pytest.raises(InputError, match="--views 5crop: not a view; "):
        run(tmp_path / "s", tiny_card(), manifest, views=("5crop",))
    assert not (tmp_path / "s").exists()
