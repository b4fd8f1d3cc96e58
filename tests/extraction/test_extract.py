import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import torch
from forkserver import Script
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from toys import by_hand, draw, row_in, write_images

from features.backbone import Layer
from features.errors import InputError
from features.extraction import extract as extraction
from features.extraction import pool as pooling
from features.extraction.summary import Extraction, Plan
from features.machine.device import cores
from features.store.featurefile import DONE, PENDING, UNREADABLE, FeatureFile
from features.store.writer import Writer
from features.study.study import open_study

TinyCard = Callable[..., Path]
TESTS = Path(__file__).parents[1]
MAPS = ("pixels", "conv", "act", "pool")
ALL = {"pixels", "conv", "act", "pool", "fc", *(f"{name}:avg" for name in MAPS)}


def run(study: Path, card: Path, manifest: Path | None = None, **options: Any) -> Extraction:
    options = {"batch_size": 4, "lanes": 2, "device": "cpu", **options}
    return extraction.extract(
        study, str(card), data=None if manifest is None else str(manifest), **options
    )


def refused(study: Path, *args: Any, **options: Any) -> str:
    """The sentence with which a run is refused that leaves no study behind."""
    with pytest.raises(InputError) as caught:
        run(study, *args, **options)
    assert not study.exists()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def contents(path: Path) -> dict[str, Any]:
    """Every data set and attribute of a file, as bytes."""
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        found["/"] = {name: str(value) for name, value in file.attrs.items()}

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values = item[:]
                done = file["status"][:] == DONE
                if name.startswith(("layers/", "checksums/")):
                    values = values[done]  # rows that are not done hold nothing
                found[name] = (values.tobytes(), sorted(map(str, item.attrs.items())))

        file.visititems(visit)
    return found


def check_rows(path: Path, card: Path, n: int, source: dict[int, int] | None = None) -> list[int]:
    """See that every row that is done holds what its own image gives; returns those rows."""
    tensors = load_file(card.parent / "tiny.safetensors")
    with FeatureFile(path) as file:
        assert len(file) == n
        done = np.flatnonzero(file.status == DONE).tolist()
        found = {key: file.read(key) for key in file.keys}
    for row in done:
        image = (source or {}).get(row, row)
        if "pixels" in found:
            assert row_in(found["pixels"][row]) == image
        for key, expected in by_hand(tensors, image).items():
            if key in found:
                np.testing.assert_allclose(found[key][row], expected, rtol=1e-4, atol=1e-3)
    return done


def test_every_row_holds_the_features_of_its_own_image(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, bad, twice = tiny_card(), (0, 5, 11, 12, 13, 14, 15), {20: 3, 21: 11, 22: 2}
    manifest = write_images(tmp_path / "images", 300, bad, twice)
    (tmp_path / "images" / "0280.png").unlink()
    result = run(tmp_path / "study", card, manifest)
    path = tmp_path / "study" / "features" / "tiny.h5"
    assert (result.file, result.backbone, result.rows, set(result.layers)) == (
        path,
        "tiny",
        300,
        ALL,
    )
    assert result.computed == 300 - len(bad) - len(twice) - 1
    assert (result.pending, result.left_out, result.notes[0][:30]) == (
        0, {}, "weights tiny.safetensors are u"
    )  # fmt: skip
    unreadable = sorted([*bad, 21, 280])
    assert check_rows(path, card, 300, twice) == [r for r in range(300) if r not in unreadable]
    with FeatureFile(path) as file:
        assert set(file.keys) == ALL
        reasons = file.reasons()
    assert list(reasons) == unreadable
    assert reasons.pop(280) == "no such file"
    assert set(reasons.values()) == {"not an image"}
    assert result.unreadable["0005.png"] == "not an image"
    left = {path.name for path in path.parent.iterdir() if path.name[0] != "."}
    assert left == {"tiny.h5", "tiny.seconds.json"}


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (7, 3), (64, 2)])
def test_batches_and_workers_do_not_move_rows(
    tiny_card: TinyCard, tmp_path: Path, batch_size: int, workers: int
) -> None:
    card, bad = tiny_card(), (0, 5, 11)
    manifest = write_images(tmp_path / "images", 23, bad)
    result = run(tmp_path / "study", card, manifest, batch_size=batch_size, lanes=workers)
    assert len(check_rows(result.file, card, 23)) == 20


@pytest.mark.parametrize(("kept", "every"), [(3, 3), pytest.param(9, 1, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_finishes_to_the_same_bits(
    tiny_card: TinyCard, tmp_path: Path, kept: int, every: int
) -> None:
    card, bad, twice = tiny_card(), (5, 11), {20: 3, 21: 11, 22: 2}
    manifest = write_images(tmp_path / "images", 23, bad, twice)
    folder = tmp_path / "studies"
    folder.mkdir()
    words = (TESTS / "killed.py", card, manifest, folder, kept, every)
    code, told, errors = Script(words, tmp_path).end()
    assert code == 0, errors
    moments: dict[str, list[list[str]]] = {}
    for line in told.splitlines():
        scenario, *moment = line.split()
        moments.setdefault(scenario, []).append(moment)
    assert list(moments) == ["first", "layers", "limit", "views"]
    for scenario, of_scenario in moments.items():
        kinds = Counter(moment[-1] for moment in of_scenario)
        assert kinds["pwrite"] >= 1
        assert kinds["rename" if scenario in ("first", "limit") else "replace"] >= 2
        whole = folder / scenario / "whole"
        expected = contents(whole / "features" / "tiny.h5")
        assert {f"layers/{key}" for key in ALL} <= set(expected)
        for moment in of_scenario:
            study = folder / scenario / moment[0]
            path = study / "features" / "tiny.h5"
            assert contents(path) == expected, (scenario, moment)
            done = check_rows(path, card, 23, twice)
            assert done == [r for r in range(23) if r not in (5, 11, 21)], (scenario, moment)
            assert (study / "images.csv").read_bytes() == (whole / "images.csv").read_bytes()
            left = {p.name for p in path.parent.iterdir()}
            assert left <= {"tiny.h5", "tiny.seconds.json", ".tiny.h5.lock"}, (scenario, moment)


def test_running_again_computes_nothing(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 9, (4,))
    study = tmp_path / "study"
    first = run(study, card, manifest)
    before = first.file.read_bytes()
    again = run(study, card)
    assert (first.computed, again.computed) == (8, 0)
    assert again.unreadable == first.unreadable == {"0004.png": "not an image"}
    assert first.file.read_bytes() == before


def test_layers_and_poolings_added_later(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 11, (4,), {9: 1})
    at_once = run(tmp_path / "once", card, manifest, pool=("auto", "avg", "max"))
    study = tmp_path / "study"
    first = run(study, card, manifest, layers=("fc", "conv"), pool=("auto",))
    assert first.layers == ["conv", "fc"]
    before = contents(first.file)
    again = run(study, card, layers=("fc", "act"), pool=("avg", "max"))
    assert again.computed == 9
    with FeatureFile(first.file) as file:
        assert file.keys == ["conv", "act:avg", "act:max", "fc"]
    run(study, card, pool=("auto", "avg", "max"))
    found, expected = contents(first.file), contents(at_once.file)
    assert found.keys() == expected.keys()
    for name in found:
        if name.startswith("layers/"):
            assert found[name][0] == expected[name][0]
    assert found["layers/fc"] == before["layers/fc"]
    assert check_rows(first.file, card, 11, {9: 1}) == [r for r in range(11) if r != 4]


def test_an_image_that_vanished_before_a_layer_was_added_is_unreadable(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 7)
    study = tmp_path / "study"
    run(study, card, manifest, layers=("conv",))
    (tmp_path / "images" / "0003.png").unlink()
    result = run(study, card, layers=("conv", "fc"))
    assert result.unreadable == {"0003.png": "no such file"}
    assert check_rows(result.file, card, 7) == [0, 1, 2, 4, 5, 6]


def test_an_image_that_was_mended_before_a_layer_was_added_does_not_mix_in(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 7, (3,))
    study = tmp_path / "study"
    run(study, card, manifest, layers=("conv",))
    draw(3).save(tmp_path / "images" / "0003.png")
    result = run(study, card, layers=("conv", "fc"))
    assert 3 not in check_rows(result.file, card, 7)
    assert result.unreadable == {"0003.png": "not an image"}


def test_a_limit_is_spread_over_classes_and_filled_later(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 24)
    rows = manifest.read_text().splitlines()
    rows = [rows[0] + ",fold", *(f"{line},{i % 3}" for i, line in enumerate(rows[1:]))]
    manifest.write_text("\n".join(rows))
    study = tmp_path / "study"
    some = run(study, card, manifest, limit=12, seed=1)
    assert (some.computed, some.pending, some.rows) == (12, 12, 24)
    opened = open_study(study)
    assert len(opened) == 24
    with FeatureFile(some.file) as file:
        done = np.flatnonzero(file.status == DONE)
        assert np.isnan(file.read("fc")[file.status == PENDING]).all()
    groups = Counter((opened.columns["fold"][r], opened.columns["label"][r]) for r in done)
    assert groups == {(fold, label): 2 for fold in "012" for label in "ab"}
    check_rows(some.file, card, 24)
    same = run(tmp_path / "same", card, manifest, limit=12, seed=1)
    assert contents(same.file)["status"] == contents(some.file)["status"]
    other = run(tmp_path / "other", card, manifest, limit=12, seed=2)
    assert contents(other.file)["status"] == contents(some.file)["status"]  # for every seed
    more = run(study, card, layers=("conv",), limit=18, seed=1)
    assert (more.computed, more.pending) == (6, 6)
    whole = run(study, card)
    assert (whole.computed, whole.pending) == (6, 0)
    assert check_rows(whole.file, card, 24) == list(range(24))


def test_a_layer_added_to_a_limited_file_covers_its_rows(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 20, (1, 2), {19: 0, 18: 1})
    study = tmp_path / "study"
    run(study, card, manifest, limit=9, layers=("fc",))
    added = run(study, card, limit=9)
    with FeatureFile(added.file) as file:
        done = file.status == DONE
        assert 0 < done.sum() <= 9
        assert np.isfinite(file.read("conv")[done]).all()
    whole = run(study, card)
    assert check_rows(whole.file, card, 20, {19: 0}) == [0, *range(3, 18), 19]


def test_a_path_that_occurs_twice_is_decoded_once(
    tiny_card: TinyCard, tmp_path: Path, reads: Counter[str]
) -> None:
    twice = {6: 0, 7: 0, 3: 2, 8: 1, 9: 5}
    card, manifest = tiny_card(), write_images(tmp_path / "images", 10, (1, 2), twice)
    result = run(tmp_path / "study", card, manifest)
    assert reads == {f"{row:04}.png": 1 for row in (0, 1, 2, 4, 5)}
    assert check_rows(result.file, card, 10, twice) == [0, 4, 5, 6, 7, 9]
    with FeatureFile(result.file) as file:
        assert set(file.reasons()) == {1, 2, 3, 8}


SHAPES = st.tuples(st.integers(1, 2048), st.integers(1, 60), st.integers(1, 60))


@given(shape=SHAPES)
def test_auto_keeps_as_much_as_fits(shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    [found] = pooling.plan([Layer("x", "x", shape, 0.5)], ["auto"])
    assert (found.key, found.pool) == ("x", "auto")
    if channels * height * width <= 9216:
        assert (found.grid, found.dim) == (None, channels * height * width)
    else:
        sides = [k for k in range(1, min(height, width) + 1) if k * k * channels <= 9216]
        assert found.grid == max(sides)
        assert found.dim == found.grid**2 * channels


@pytest.mark.parametrize(
    ("shape", "pool", "dim"),
    [
        ((256, 6, 6), "auto", 9216),
        ((512, 7, 7), "auto", 512 * 16),
        ((512, 14, 14), "auto", 512 * 16),
        ((64, 224, 224), "auto", 64 * 144),
        ((9216, 2, 2), "auto", 9216),
        ((64, 55, 27), "avg", 64),
        ((64, 55, 27), "max", 64),
        ((64, 55, 27), "none", 64 * 55 * 27),
        ((64, 55, 27), "grid:3", 64 * 9),
        ((64, 2, 27), "grid:3", 64 * 4),
        ((4096,), "auto", 4096),
        ((40960,), "avg", 40960),
        ((197, 768), "auto", 197 * 768),  # two axes that nothing is said of: a vector
    ],
)
def test_widths(shape: tuple[int, ...], pool: str, dim: int) -> None:
    [found] = pooling.plan([Layer("x", "x", shape, 0.5)], [pool])
    assert found.dim == dim
    values = torch.randn(2, *shape)
    assert pooling.apply(values, found).shape == (2, dim)


def test_pooled_numbers() -> None:
    layer = Layer("x", "x", (5, 7, 6), 0.5)
    x = torch.randn(3, 5, 7, 6, generator=torch.Generator().manual_seed(0))
    expected = {
        "auto": x.flatten(1),
        "none": x.flatten(1),
        "avg": x.numpy().mean((2, 3)),
        "max": x.numpy().max((2, 3)),
        "grid:1": x.numpy().mean((2, 3)),
        # 7 rows in 3: 0-2, 2-4, 4-6; 6 columns in 3: two each
        "grid:3": np.stack(
            [
                [[x.numpy()[n, c, r : r + 3, k : k + 2].mean() for r in (0, 2, 4) for k in (0, 2, 4)]
                 for c in range(5)]
                for n in range(3)
            ]
        ).reshape(3, 45),
    }  # fmt: skip
    for pool, numbers in expected.items():
        one = pooling.pooled(layer, pool)
        np.testing.assert_allclose(pooling.apply(x, one), numbers, rtol=1e-5, atol=1e-6)
        assert one.key == ("x" if pool in ("auto", "none") else f"x:{pool}")


def test_pooling_never_aliases_what_it_pools() -> None:
    for pool in ("auto", "avg", "max", "grid:2", "grid:4"):
        x = torch.ones(2, 3, 4, 4)
        found = pooling.apply(x, pooling.pooled(Layer("x", "x", (3, 4, 4), 0), pool))
        x.zero_()
        assert (found == 1).all()
    x = torch.ones(2, 3)
    found = pooling.apply(x, pooling.pooled(Layer("x", "x", (3,), 0), "auto"))
    x.zero_()
    assert (found == 1).all()


def test_a_flat_layer_is_stored_once(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 3)
    result = run(tmp_path / "study", card, manifest, layers=("fc",), pool=("avg", "max", "grid:2"))
    assert result.layers == ["fc"]
    with FeatureFile(result.file) as file:
        assert file.about("fc") == {
            "layer": "fc", "module": "fc", "output": "vector", "pool": "none", "shape": (5,),
            "depth": 1.0, "dim": 5,
        }  # fmt: skip


@pytest.mark.parametrize("pool", ["bogus", "grid:0", "grid:", "grid:x", "AVG", "avg,max", ""])
@pytest.mark.parametrize("layer", ["conv", "fc"])
def test_an_unknown_pooling_is_refused(
    tiny_card: TinyCard, tmp_path: Path, pool: str, layer: str
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 3)
    message = refused(tmp_path / "study", card, manifest, layers=(layer,), pool=("avg", pool))
    assert message.startswith(f"--pool {pool}: not a pooling; use auto, none, avg, max or grid:K,")


def test_a_pooling_asked_for_twice_is_stored_once(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 3)
    result = run(tmp_path / "study", card, manifest, layers=("conv",), pool=("avg", "avg"))
    assert result.layers == ["conv:avg"]


def test_auto_and_none_of_one_layer_exclude_each_other(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 3)
    study = tmp_path / "study"
    assert "auto and none" in refused(study, card, manifest, pool=("auto", "none"))
    run(study, card, manifest, pool=("none",))
    with pytest.raises(InputError, match="with --pool none; `probe remove tiny` first"):
        run(study, card, pool=("auto",))


def test_float16_stores_the_rounded_numbers(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 6)
    single = run(tmp_path / "single", card, manifest)
    half = run(tmp_path / "half", card, manifest, dtype="float16")
    with h5py.File(single.file) as one, h5py.File(half.file) as other:
        for key in ALL:
            assert other["layers"][key].dtype == np.float16
            np.testing.assert_array_equal(
                other["layers"][key][:], one["layers"][key][:].astype(np.float16)
            )
    with FeatureFile(half.file) as file:
        assert file.read("fc").dtype == np.float32
    with pytest.raises(InputError, match="made with another dtype"):
        run(tmp_path / "half", card)


BROKEN = """
import torch
from torch import nn


class Break(nn.Module):
    def forward(self, x):
        return torch.where(x[:, :1, :1, :1] == 3, x * float("{value}"), x)


def build():
    net = nn.Sequential()
    net.add_module("pixels", nn.Identity())
    net.add_module("conv", Break())
    net.add_module("fc", nn.Sequential(nn.Flatten(), nn.Linear(192, 5)))
    return net
"""


def broken(tiny_card: TinyCard, value: str) -> Path:
    card = tiny_card('act = "relu"\npool = "pool"\n', "")
    (card.parent / "tiny.py").write_text(BROKEN.format(value=value))
    return card


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_feature_that_is_no_number_is_reported(
    tiny_card: TinyCard, tmp_path: Path, value: str
) -> None:
    card = broken(tiny_card, value)
    manifest = write_images(tmp_path / "images", 6)
    message = refused(tmp_path / "study", card, manifest, weights="random")
    assert message.startswith(
        "0003.png: its features at layer conv of tiny@random are NaN or infinite; check the weights"
    )


def test_a_number_too_large_for_float16_is_reported(tiny_card: TinyCard, tmp_path: Path) -> None:
    card = broken(tiny_card, "3e4")
    manifest = write_images(tmp_path / "images", 6)
    message = refused(tmp_path / "study", card, manifest, weights="random", dtype="float16")
    assert message.startswith(
        "0003.png: its features at layer conv of tiny@random are too large for"
    )
    assert message.endswith("use --dtype float32.")
    run(tmp_path / "study", card, manifest, weights="random")


def test_nothing_readable_is_an_error_and_leaves_no_study(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 9, tuple(range(9)))
    message = refused(tmp_path / "study", card, manifest)
    assert message == (
        f"{manifest}: none of its 9 images can be read (the first: not an image); check the paths."
    )


def test_changed_weights_or_card_under_the_same_name_are_refused(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    manifest, study = write_images(tmp_path / "images", 5), tmp_path / "study"
    path = run(study, tiny_card(), manifest).file
    before = path.read_bytes()
    changes: dict[str, dict[str, Any]] = {
        "weights": {"seed": 1},
        "preprocessing": {"changes": ("scale = 255.0", "scale = 1.0")},
        "layers": {"changes": ('act = "relu"', 'act = "conv"')},
    }
    for what, change in changes.items():
        card = tiny_card(*change.get("changes", ()), seed=change.get("seed", 0))
        with pytest.raises(InputError, match=f"made with another {what}") as caught:
            run(study, card, layers=("all",), pool=("auto", "avg", "max"))
        assert str(caught.value).startswith(f"{path}: ")
        assert "`probe remove tiny`" in str(caught.value)
        assert path.read_bytes() == before
    assert run(study, tiny_card()).computed == 0


def test_changed_weights_of_an_interrupted_run_are_refused(
    tiny_card: TinyCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, study = write_images(tmp_path / "images", 9), tmp_path / "study"
    interrupt(monkeypatch, tiny_card(), manifest, study, KeyboardInterrupt())
    partial = study / "features" / "tiny.h5.partial"
    assert partial.is_file()
    with pytest.raises(InputError, match=r"tiny\.h5\.partial: made with another weights; "):
        run(study, tiny_card(seed=1))
    result = run(study, tiny_card())
    assert check_rows(result.file, tiny_card(), 9) == list(range(9))


def interrupt(
    monkeypatch: pytest.MonkeyPatch, card: Path, manifest: Path, study: Path, error: BaseException
) -> None:
    """Begin an extraction in which the second batch is not written since `error` comes."""
    inner, calls = Writer.write, []

    def write(*args: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise error
        inner(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", write)
        with pytest.raises(type(error)):
            run(study, card, manifest)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_run_goes_on_with_the_batches_that_are_left(
    tiny_card: TinyCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 23, (2,))
    interrupt(monkeypatch, card, manifest, tmp_path / "study", error)
    result = run(tmp_path / "study", card, layers=("fc",))
    whole = run(tmp_path / "whole", card, manifest)
    assert (whole.computed, result.computed) == (22, 19)
    assert contents(result.file) == contents(whole.file)


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tiny_card: TinyCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 9)
    asked: list[Path] = []

    def usage(folder: Path) -> SimpleNamespace:
        asked.append(Path(folder))
        return SimpleNamespace(free=9 * 4 * 200)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    study = tmp_path / "deep" / "study"
    message = refused(study, card, manifest, layers=("conv", "fc"), pool=("none",))
    assert asked == [tmp_path]
    # 9 rows of 4 * 8 * 8 + 5 numbers of 4 bytes are 9,396; 4 * 6 * 6 + 5 would leave no tenth free
    assert message == (
        f"tiny: its features need 9.4 kB, and {tmp_path} has 7.2 kB free; --pool grid:6 or fewer "
        "layers would fit."
    )
    run(study, card, manifest, layers=("conv", "fc"), pool=("grid:6",))


def test_strict_stops_at_the_first_unreadable_image(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 9, (2,))
    message = refused(tmp_path / "study", card, manifest, strict=True)
    image = tmp_path / "images" / "0002.png"
    assert message == f"{image}: not an image; correct or remove it, or leave --strict out."
    draw(2).save(image)
    result = run(tmp_path / "study", card, manifest, strict=True)
    assert check_rows(result.file, card, 9) == list(range(9))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "float64"}, "--dtype float64: features are stored as float32 or float16."),
        ({"batch_size": 0}, "--batch-size 0: "),
        ({"limit": 0}, "--limit 0: "),
        (
            {"device": "tpu"},
            "--device tpu: not one device; use auto, cpu, cuda, cuda:0, mps or xpu.",
        ),
        ({"device": "cuda:99"}, "--device cuda:99: "),
        ({"layers": ("con",)}, "tiny has no layer con; did you mean conv"),
        ({"weights": "gone.pth"}, "gone.pth: there is no such weights file; "),
    ],
)
def test_what_cannot_be_used_is_refused_first(
    tiny_card: TinyCard, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 3)
    assert refused(tmp_path / "study", card, manifest, **options).startswith(said)


def test_a_study_of_other_data_is_refused(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 3)
    other = write_images(tmp_path / "others", 3)
    run(tmp_path / "study", card, manifest)
    with pytest.raises(InputError, match=r"this study is of .*images.*, not of .*others"):
        run(tmp_path / "study", card, other)
    run(tmp_path / "study", card, manifest)


def test_two_runs_at_once_on_one_backbone(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 9)
    study = tmp_path / "study"
    run(study, card, manifest, layers=("fc",))

    def meanwhile(_: Plan) -> None:
        with pytest.raises(
            InputError, match=r"tiny\.h5: another process is writing it; wait until"
        ):
            run(study, card)
        run(study, card, weights="random")  # another backbone is no obstacle

    result = run(study, card, planned=meanwhile)
    assert check_rows(result.file, card, 9) == list(range(9))


def test_two_runs_that_begin_one_study_at_once(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 9)
    study, inner = tmp_path / "study", []

    def meanwhile(_: Plan) -> None:
        inner.append(run(study, card, manifest))

    with pytest.raises(InputError, match="another process"):
        run(study, card, manifest, planned=meanwhile)
    assert inner[0].computed == 9
    path = study / "features" / "tiny.h5"
    assert check_rows(path, card, 9) == list(range(9))
    assert not path.with_name("tiny.h5.partial").exists()
    assert run(study, card).computed == 0


def test_progress_and_plan(tiny_card: TinyCard, tmp_path: Path) -> None:
    card = tiny_card('domain = "toys"', 'domain = "toys"\nlicence = "free"')
    manifest = write_images(tmp_path / "images", 11, (4,), {9: 1})
    steps: list[tuple[int, int]] = []
    plans: list[Plan] = []
    times: list[float] = []
    study = tmp_path / "study"

    def said(plan: Plan) -> None:
        assert not study.exists()
        assert not times  # nothing is computed yet
        plans.append(plan)

    def counted(done: int, n: int, _: str) -> None:
        steps.append((done, n))

    run(study, card, manifest, said=said, estimated=times.append, progress=counted)
    [plan] = plans
    dims = {"pixels": 192, "conv": 256, "act": 256, "pool": 64, "fc": 5}
    dims |= {"pixels:avg": 3, "conv:avg": 4, "act:avg": 4, "pool:avg": 4}
    assert (plan.backbone, plan.rows, set(plan.layers)) == ("tiny", 11, set(dims))
    assert plan.bytes == pytest.approx(plan.file.stat().st_size, rel=0.2)  # of so small a file
    assert plan.licence == "free"
    assert len(times) == 1
    assert times[0] > 0
    assert len(times) == 1
    assert times[0] > 0
    assert steps[0] == (0, 11)
    assert steps[-1] == (11, 11)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert {n for _, n in steps} == {11}


def test_the_file_says_what_it_takes_to_judge_a_number(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 5)
    path = run(tmp_path / "study", card, manifest).file
    with h5py.File(path, "r") as file:  # as anybody can
        attributes = dict(file.attrs)
        conv, avg = file["layers"]["conv"], file["layers"]["conv:avg"]
        assert (conv.shape, conv.attrs["shape"].tolist()) == ((5, 256), [4, 8, 8])
        assert (conv.attrs["module"], conv.attrs["pool"]) == ("conv", "auto")
        assert (avg.attrs["layer"], avg.attrs["pool"], avg.shape) == ("conv", "avg", (5, 4))
        depths = {key: float(data.attrs["depth"]) for key, data in file["layers"].items()}
    assert depths["pixels"] == 0
    assert depths["conv"] == depths["act"] == depths["pool"] == depths["pool:avg"] == 0.5
    assert depths["fc"] == 1
    assert (attributes["backbone"], attributes["domain"]) == ("tiny", "toys")
    assert "resized to 8 x 8" in attributes["preprocessing"]
    weights = json.loads(attributes["weights"])
    digest = hashlib.sha256((card.parent / "tiny.safetensors").read_bytes()).hexdigest()
    assert weights == {"file": "tiny.safetensors", "sha256": digest, "verified": False}
    assert json.loads(attributes["card"])["network"] == "./tiny.py:build"
    made_with = json.loads(attributes["made_with"])
    assert (made_with["torch"], made_with["device"]) == (torch.__version__, "cpu")
    assert (made_with["batch_size"], made_with["threads"]) == (4, max(1, cores() // 2))
    names = "\0".join(f"{row:04}.png" for row in range(5))
    assert attributes["images"] == hashlib.sha256(names.encode()).hexdigest()
    assert attributes["synthetic"] == False  # noqa: E712 - NumPy's
    assert attributes["parameters"] == 4 * 27 + 4 + 5 * 64 + 5


def test_several_random_draws_stand_side_by_side(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 5)
    study = tmp_path / "study"
    read: list[npt.NDArray[np.float32]] = []
    for seed in (0, 1):
        path = run(study, card, manifest, weights="random", seed=seed).file
        with FeatureFile(path) as file:
            assert file.domain == "none"
            read.append(file.read("fc"))
    assert not np.allclose(read[0], read[1])
    assert sorted(p.name for p in (study / "features").glob("*.h5")) == [
        "tiny@random-1.h5",
        "tiny@random.h5",
    ]
    assert sorted(open_study(study).backbones()) == ["tiny@random", "tiny@random-1"]


def test_a_name_with_odd_characters_is_kept_as_an_attribute(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card = tiny_card('name = "tiny"', 'name = "my net: é 2"')
    manifest = write_images(tmp_path / "images", 3)
    result = run(tmp_path / "study", card, manifest)
    assert result.file.name == "my_net____2.h5"
    with open_study(tmp_path / "study").features("my net: é 2") as file:
        assert file.backbone == "my net: é 2"


def test_the_built_in_sample_is_the_data_where_none_is_given(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    result = run(tmp_path / "study", tiny_card(), limit=10, layers=("fc",), batch_size=32)
    assert (result.rows, result.computed, result.pending) == (1200, 10, 1190)
    study = open_study(tmp_path / "study")
    assert (study.synthetic, study.closest, study.source) == (True, "faces", "sample")
    with FeatureFile(result.file) as file:
        assert file.attributes["synthetic"]


def test_features_of_another_manifest_are_refused(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 4)
    study = tmp_path / "study"
    run(study, card, manifest)
    images = study / "images.csv"
    lines = images.read_text().splitlines()
    images.write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]) + "\n")
    with pytest.raises(InputError, match=r"its rows belong to another images\.csv"):
        open_study(study).features("tiny")
    with pytest.raises(InputError, match="made with another images"):
        run(study, card)


def test_an_unreadable_row_keeps_its_reason_in_status_2(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 6)
    (tmp_path / "images" / "0001.png").write_bytes(b"")
    cut = (tmp_path / "images" / "0002.png").read_bytes()[:-60]
    (tmp_path / "images" / "0002.png").write_bytes(cut)
    (tmp_path / "images" / "0004.png").unlink()
    (tmp_path / "images" / "0004.png").mkdir()
    path = run(tmp_path / "study", card, manifest).file
    with h5py.File(path, "r") as file:
        assert file["status"][:].tolist() == [1, UNREADABLE, UNREADABLE, 1, UNREADABLE, 1]
        reasons = [bytes(reason) for reason in file["reasons"][:]]
    assert reasons[0] == reasons[3] == b""
    assert reasons[1] == b"an empty file"
    assert b"truncated" in reasons[2]
    assert b"irectory" in reasons[4]


def test_a_damaged_file_of_another_backbone_does_not_stop_a_run(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 6)
    study = tmp_path / "study"
    run(study, card, manifest, layers=("fc",))
    (study / "features" / "other.h5").write_bytes(b"no HDF5")
    assert run(study, card, layers=("conv",)).computed == 6


@pytest.mark.parametrize("partial", [False, True])
def test_a_further_view_is_of_what_the_file_holds(
    tiny_card: TinyCard, tmp_path: Path, partial: bool
) -> None:
    """Also where a pass that fills it up was killed, so that it lies there unfinished."""
    card, manifest = tiny_card(), write_images(tmp_path / "images", 6)
    study = tmp_path / "study"
    first = run(study, card, manifest, layers=("fc",), limit=4)
    if partial:
        first.file.rename(first.file.with_name(first.file.name + ".partial"))
    found = run(study, card, views=("flip",))
    with FeatureFile(found.file) as file:
        assert set(file.stored) == {"fc", "fc@flip"}
    assert found.pending == 0
