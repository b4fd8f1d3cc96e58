"""Predictions that are damaged, and what a kill left beside it: the next run makes it whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies

from features.errors import InputError
from features.study.study import open_study
from probe.fitting.fit import fit
from probe.results import predictions
from probe.results import rows as results
from probe.results.ledger import remove

KEY = ("label", "net", "fc", "ridge")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def junk(file: Path) -> None:
    file.write_bytes(b"junk")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def gone(file: Path) -> None:
    file.unlink()


def an_array_instead(file: Path) -> None:
    with file.open("wb") as opened:
        np.save(opened, np.arange(3))


def of_another_shape(file: Path) -> None:
    with np.load(file) as opened:
        arrays = dict(opened)
    np.savez(file, **(arrays | {"scores": np.arange(5)}))


def of_no_protocol(file: Path) -> None:
    with np.load(file) as opened:
        arrays = dict(opened)
    np.savez(file, **(arrays | {"protocol": np.array("{]")}))


def of_folds_below_none(file: Path) -> None:
    with np.load(file) as opened:
        arrays = dict(opened)
    np.savez(file, **(arrays | {"fold": arrays["fold"] - 9}))


def without_scores(file: Path) -> None:
    with np.load(file) as opened:
        arrays = dict(opened)
    del arrays["fold"]
    np.savez(file, **arrays)


DAMAGE = (
    truncated, junk, empty, gone, an_array_instead, of_another_shape, without_scores, of_no_protocol,
    of_folds_below_none,
)  # fmt: skip


def fitted(folder: Path) -> None:
    study = studies.begin(folder, {"label": [i % 2 for i in range(40)]})
    studies.add(study, "net", {"fc": studies.signal(study.labels("label"), 4, 2.0)})
    refit(folder)


def refit(folder: Path, redo: bool = False) -> int:
    return fit(folder, probes=("ridge",), c=(1.0,), folds=2, redo=redo).fitted


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_told_of_and_made_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    fitted(tmp_path)
    store = tmp_path / "predictions"
    file = predictions.file_of(store, KEY)
    whole = predictions.read(store, KEY)
    damage(file)
    with pytest.raises(InputError, match="missing or damaged"):
        predictions.read(store, KEY)
    refit(tmp_path, redo=True)
    np.testing.assert_array_equal(predictions.read(store, KEY).scores, whole.scores)
    damage(file)
    assert remove(tmp_path, "net") > 0
    assert not any(row.backbone == "net" for row in results.read(tmp_path / "results.csv"))


@pytest.mark.parametrize(
    "left",
    ["net.h5.merging", "net.h5.partial.new", "net.h5.grown", ".net.seconds.json.ab12cd34.json"],
)
def test_what_a_kill_left_of_a_backbone_goes_with_it(tmp_path: Path, left: str) -> None:
    fitted(tmp_path)
    (tmp_path / "features" / left).touch()
    remove(tmp_path, "net")
    assert not list((tmp_path / "features").iterdir())


@pytest.mark.parametrize("step", ["write", "discard"])
def test_a_removal_that_was_killed_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Killed after each of its steps but the last, which deletes the features."""
    fitted(tmp_path)
    place = {"write": results, "discard": predictions}[step]
    real = getattr(place, step)

    def killed(*given: object) -> None:
        real(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, step, killed)
        with pytest.raises(KeyboardInterrupt):
            remove(tmp_path, "net")
    assert not any(row.backbone == "net" for row in results.read(tmp_path / "results.csv"))
    assert open_study(tmp_path).backbones() == ["net"]
    remove(tmp_path, "net")
    assert not predictions.holds(tmp_path / "predictions", "net")
    assert not open_study(tmp_path).backbones()
    assert not any(row.backbone == "net" for row in results.read(tmp_path / "results.csv"))


def broken_within(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(b"\x93NUMPY") + 200] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [broken_within, truncated, gone])
def test_a_fit_that_cannot_choose_among_layers_refuses_before_it_writes(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    study = studies.begin(tmp_path, {"label": [i % 2 for i in range(40)]})
    x = studies.signal(study.labels("label"), 4, 2.0)
    studies.add(study, "net", {"low": x[:, :2] / 9, "fc": x, "high": x[:, 2:] / 9})
    given: dict[str, Any] = {"probes": ("ridge",), "c": (1.0,), "folds": 2}
    fit(tmp_path, layers=("low", "fc"), **given)
    whole = predictions.read(tmp_path / "predictions", KEY)
    damage(predictions.file_of(tmp_path / "predictions", KEY))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=r"net/fc/ridge.npz: missing or damaged.* fit --redo"):
        fit(tmp_path, layers=("high",), **given)
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert after == before
    done = fit(tmp_path, **given)  # which makes it again
    assert (done.fitted, done.kept) == (2, 1)
    np.testing.assert_array_equal(
        predictions.read(tmp_path / "predictions", KEY).scores, whole.scores
    )


def test_what_a_kill_left_is_swept(tmp_path: Path) -> None:
    fitted(tmp_path)
    left = [
        ".results.csv.ab_12xyz.csv",
        "predictions/label/net/fc/.ridge.npz.00000000.npz",
        ".training.csv.zzzzzzzz.csv",
    ]
    other = tmp_path / ".results.csv.mine"
    for file in (other, *(tmp_path / name for name in left)):
        file.write_bytes(b"half")
    refit(tmp_path)
    assert not any((tmp_path / name).exists() for name in left)
    assert other.exists()
