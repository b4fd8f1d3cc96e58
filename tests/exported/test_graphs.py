"""Graphs from pixels to probabilities: without the toolkit they come to what the features come to."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from exported.conftest import photo

from features.errors import InputError
from features.study.study import Study
from probe.exported.export import export
from probe.exported.exported_probe import load_probe
from probe.exported.graph import _averaged

CASES = [("pt2", "tiny/pool/svm"), ("onnx", "tiny/fc/logistic")]


def about_of(file: Path) -> dict[str, object]:
    if file.suffix == ".pt2":
        extra = {"probe.json": ""}
        torch.export.load(file, extra_files=extra)
        return dict(json.loads(extra["probe.json"]))
    import onnx

    (entry,) = onnx.load(str(file)).metadata_props
    return dict(json.loads(entry.value))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("kind", "result"), CASES, ids=["pt2", "onnx"])
def test_the_few_lines_in_the_metadata_come_to_the_same(
    made: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, result: str
) -> None:
    card = str(made.folder.parent / "cards" / "tiny.toml")
    monkeypatch.chdir(tmp_path)
    export(made.folder, result, out=f"tone.{kind}", format=kind, backbone=card)
    export(made.folder, result, out="tone.probe", backbone=card)
    about = about_of(Path(f"tone.{kind}"))
    assert about["input"] == "pixels, uint8 (n, 3, 8, 8), RGB"
    lines = str(about["example"])
    assert len(lines.splitlines()) <= 11
    assert "probe" not in lines.replace("probe.json", "")
    assert "features" not in lines
    shown = photo(77).resize((13, 9))
    shown.save("photo.jpg")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(lines, "example", "exec"), {})
    wanted = load_probe("tone.probe").predict("photo.jpg").probabilities[0]
    ours = eval(said.getvalue())
    assert list(ours) == about["classes"]
    np.testing.assert_allclose(list(ours.values()), wanted, atol=1e-4)


def test_an_adaptive_average_is_two_products() -> None:
    x = torch.randn(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    for grid in (1, 2, 3, 4, 5):
        theirs = torch.nn.functional.adaptive_avg_pool2d(x, grid).flatten(1)
        torch.testing.assert_close(_averaged(x, (7, 5), grid), theirs)


def test_a_graph_that_differs_is_not_written(
    made: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = str(made.folder.parent / "cards" / "tiny.toml")
    monkeypatch.setattr("probe.exported.graph_files._ALIKE", -1.0)
    file = tmp_path / "x.pt2"
    with pytest.raises(InputError, match="so it is not written"):
        export(made.folder, "tiny/fc/svm", out=file, format="pt2", backbone=card)
    assert not list(tmp_path.iterdir())
    shutil.rmtree(tmp_path)


def test_a_format_that_is_none_is_refused(made: Study) -> None:
    with pytest.raises(InputError, match="not a format; did you mean onnx"):
        export(made.folder, format="onxx")
