"""Exports that say other than they may, with a checksum that is right: a sentence, whatever it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported.conftest import write_photos
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from cli.app import app
from features.errors import InputError
from features.study.study import Study
from probe.exported import file as files
from probe.exported.export import export
from probe.exported.exported_probe import load_probe

WRONG = (
    None,
    5,
    -1.5,
    1e40,
    "x",
    "",
    [],
    [1, 2],
    ["a", "a"],
    {},
    {"a": {"b": [1]}},
    True,
    float("nan"),
)


@pytest.fixture(scope="module")
def whole(made: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("hostile") / "whole.probe"
    card = str(made.folder.parent / "cards" / "tiny.toml")
    export(made.folder, "tiny/fc/svm", out=file, backbone=card, with_weights=True)
    return file


def rewritten(
    whole: Path,
    to: Path,
    about: Callable[[dict[str, Any]], object] = lambda _: None,
    tensors: Mapping[str, torch.Tensor | None] | None = None,
) -> Path:
    """The export with something changed and its checksum made right, as who means harm would."""
    with safe_open(whole, "pt") as opened:
        metadata = opened.metadata()
        held = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    said = json.loads(metadata["about"])
    about(said)
    held = {n: t for n, t in {**held, **(tensors or {})}.items() if t is not None}
    save_file(held, to, {**metadata, "about": json.dumps(said), "sha256": "0" * 64})
    digest, place, _ = files._digest(to)
    with to.open("r+b") as file:
        file.seek(place)
        file.write(digest.encode())
    return to


def put(values: dict[str, Any], key: str, value: object) -> None:
    *above, last = key.split(".")
    for name in above:
        values = values[name]
    values[last] = value


def keys_of(values: Mapping[str, Any], above: str = "") -> list[str]:
    keys = []
    for key, value in values.items():
        keys.append(f"{above}{key}")
        if isinstance(value, dict):
            keys += keys_of(value, f"{above}{key}.")
    return keys


def test_it_is_what_it_was_where_nothing_is_changed(whole: Path, tmp_path: Path) -> None:
    assert rewritten(whole, tmp_path / "a.probe").read_bytes()[-1000:] == whole.read_bytes()[-1000:]
    x = np.zeros((2, 5), dtype=np.float32)
    assert load_probe(tmp_path / "a.probe").predict(x).probabilities.shape == (2, 2)


def test_no_value_of_what_it_says_ends_in_anything_but_a_sentence(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path / "photos", range(2)).parent
    monkeypatch.chdir(tmp_path)
    with safe_open(whole, "pt") as opened:
        keys = keys_of(json.loads(opened.metadata()["about"]))
    for key in keys:
        refused: list[str] = []
        for value in WRONG if "." not in key else WRONG[::4]:
            file = rewritten(whole, tmp_path / "a.probe", lambda a, k=key, v=value: put(a, k, v))
            try:
                probe = load_probe(file, device="cpu")
                repr(probe), probe._repr_html_(), str(probe.about.accuracy.interval)
                probe.predict([photos / "000.png"])
                probe.about.accuracy.predicted([1, 2, 2])
            except InputError as error:
                refused.append(str(error))
        assert all(len(said.splitlines()) == 1 for said in refused), refused
        top = key.partition(".")[0]
        if top not in (
            "decisive",
            "preprocessing",
            "notes",
            "trained_on",
            "card",
            "weights",
            "input",
        ):
            assert refused, key


def test_tensors_that_are_none_are_refused(whole: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.probe"
    for name in (
        "features.mean",
        "probe.weight",
        "distance.axes",
        "distance.quantiles",
        "probe.bias",
    ):
        for tensor in (
            None, torch.zeros(0), torch.zeros(3, 3, 3), torch.full((2, 5), torch.nan),
            torch.zeros(2, 5, dtype=torch.bfloat16), torch.zeros(2, 5, dtype=torch.int64),
        ):  # fmt: skip
            with pytest.raises(InputError, match="says less than an export has to"):
                load_probe(rewritten(whole, file, tensors={name: tensor}))


def test_code_that_it_names_is_asked_about(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_TRUST", "")
    photos = write_photos(tmp_path / "photos", range(2)).parent
    ran = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    evil = f"{tmp_path / 'evil.py'}:build"
    for network in (evil, "os:system", "shutil:rmtree", "probe.demo:demo"):
        file = rewritten(
            whole, tmp_path / "a.probe", lambda a, n=network: put(a, "card.network", n)
        )
        ended = CliRunner().invoke(app, ["predict", str(file), str(photos), "--device", "cpu"])
        assert ended.exit_code == 3, ended.output
        assert ended.stderr.splitlines()[-1].startswith("error: ")
        assert not ran.exists()
