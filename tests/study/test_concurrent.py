"""Two commands at one study: one after the other makes the same, or one sentence says no."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies
from toys import write_images

import features.extraction.imported as importing
import probe.analysis.compare as comparing
import probe.checking.find_copies as copying
import probe.fitting.fit as fitting
import probe.reporting.report as reporting
from features.errors import InputError
from features.extraction.extract import extract
from features.extraction.imported import import_features
from features.extraction.update import updated
from features.study.saving import save_images
from features.study.study import open_study
from probe.fitting.fit import fit
from probe.results import rows as results
from probe.results.ledger import open_ledger, remove
from probe.results.one_state import of_one_state

pytestmark = pytest.mark.usefixtures("svg_alone")


def begun(folder: Path) -> Path:
    study = studies.begin(folder, {"label": [i % 2 for i in range(40)], "size": range(40)})
    for name in ("net", "far"):
        studies.add(study, name, {"fc": studies.signal(study.labels("label"), 4, 2.0)})
    return folder


def quick(folder: Path, task: str = "label") -> None:
    fit(folder, tasks=(task,), probes=("ridge",), c=(1.0,), folds=2)


def just_before(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, other: Callable[[], object]
) -> None:
    """Let another command run, once, just before this one takes a lock."""
    real, waiting = getattr(module, name), [other]

    @contextmanager
    def late(*given: Any, **more: Any) -> Iterator[Any]:
        if waiting:
            waiting.pop()()
        with real(*given, **more) as held:
            yield held

    monkeypatch.setattr(module, name, late)


def test_while_results_are_written_no_other_command_writes_them(tmp_path: Path) -> None:
    study = begun(tmp_path)
    quick(study)
    before = results.read(study / "results.csv")
    with open_ledger(study):
        for other in (quick, lambda folder: remove(folder, "net")):
            with pytest.raises(InputError, match=r"results.csv: another process is writing it"):
                other(study)
    assert results.read(study / "results.csv") == before
    assert open_study(study).backbones() == ["far", "net"]


def once(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, other: Callable[[], object]
) -> None:
    """Let another command run, once, just before this one calls a function of a module."""
    real, waiting = getattr(module, name), [other]

    def late(*given: Any, **more: Any) -> Any:
        if waiting:
            waiting.pop()()
        return real(*given, **more)

    monkeypatch.setattr(module, name, late)


def test_a_report_shows_a_study_before_or_after_a_removal_and_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begun(tmp_path)
    quick(study)
    once(monkeypatch, reporting, "contents_of", lambda: remove(study, "net"))
    monkeypatch.setattr(reporting, "_figures", lambda *_: {})
    made = reporting.report(study)
    assert {best.backbone for task in made.tasks for best in task.best} == {"far"}
    for table in (study / "report").glob("*.csv"):
        assert "net" not in re.split(r"[,\n]", table.read_text()), table


def test_a_comparison_with_what_is_replaced_meanwhile_is_of_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begun(tmp_path)
    quick(study)

    def other() -> None:
        fit(study, tasks=("label",), probes=("ridge",), c=(9.0,), folds=3, seed=5)

    once(monkeypatch, comparing, "outdated", other)
    (made,) = comparing.compare(study, "net/fc/ridge", "far/fc/ridge")
    assert made == comparing.compare(study, "net/fc/ridge", "far/fc/ridge")[0]
    once(monkeypatch, comparing, "outdated", lambda: remove(study, "net"))
    with pytest.raises(InputError, match="net/fc/ridge: no such result"):
        comparing.compare(study, "net/fc/ridge", "far/fc/ridge")


def test_rows_that_are_only_added_do_not_keep_a_reader_for_ever(tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text("header\n")

    def added() -> int:
        table.write_text(f"{table.read_text()}row {len(table.read_text())}\n")
        return table.read_text().count("row")

    def replaced() -> None:
        table.write_text(f"{float(table.read_text() or 0) + 1}")

    assert of_one_state(tmp_path, added) == 5
    table.write_text("1")
    with pytest.raises(InputError, match="another process kept replacing results while"):
        of_one_state(tmp_path, replaced)


def test_tasks_that_two_commands_name_are_both_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begun(tmp_path)
    just_before(monkeypatch, fitting, "open_ledger", lambda: quick(study, "size:number"))
    quick(study, "label:number")
    assert {name: task.is_number for name, task in open_study(study).tasks.items()} == {
        "label": True, "size": True,
    }  # fmt: skip


def test_a_backbone_that_goes_while_a_fit_begins_ends_it_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begun(tmp_path)
    quick(study)
    just_before(monkeypatch, fitting, "open_ledger", lambda: remove(study, "net"))
    with pytest.raises(InputError, match="no features of net"):
        fit(study, probes=("ridge",), c=(1.0,), folds=2, redo=True)
    quick(study)
    assert {row.backbone for row in results.read(study / "results.csv")} == {
        "far", "control:majority",
    }  # fmt: skip


def test_rows_that_come_while_a_fit_begins_end_it_in_a_sentence_that_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, study = write_images(tmp_path / "images", 16), tmp_path / "study"
    extract(study, "control:pixels", data=str(data), device="cpu")
    with data.open("a") as file:
        file.write("0000.png,a\n0001.png,b\n")

    def grow() -> None:
        extract(study, "control:pixels", update=True, device="cpu")

    just_before(monkeypatch, fitting, "open_ledger", grow)
    with pytest.raises(InputError, match=r"images.csv: has gained rows since this began; run the"):
        quick(study)
    quick(study)
    assert len(open_study(study)) == 18


def test_of_two_imports_of_one_layer_the_first_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begun(tmp_path / "study")
    for number in (1, 2):
        np.save(tmp_path / f"{number}.npy", np.full((40, 3), number, dtype=np.float32))

    def bring(number: int, layer: str = "fc", domain: str | None = None) -> None:
        file = tmp_path / f"{number}.npy"
        import_features(study, file, name="new", layer=layer, domain=domain)

    just_before(monkeypatch, importing, "locked", lambda: bring(1, domain="faces"))
    with pytest.raises(InputError, match="has layer fc of new already"):
        bring(2)
    just_before(monkeypatch, importing, "locked", lambda: bring(1, "fc8"))
    bring(2, "fc7")
    with open_study(study).features("new") as file:
        assert sorted(file.keys) == ["fc", "fc7", "fc8"]
        assert file.domain == "faces"
        assert file["fc"][0, 0] == file["fc8"][0, 0] == 1
        assert file["fc7"][0, 0] == 2


def test_what_changed_while_copies_were_looked_for_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_images(tmp_path / "images", 16, twice={9: 2})
    study = tmp_path / "study"
    extract(study, "control:pixels", data=str(data), device="cpu")
    images = study / "images.csv"

    def edit() -> None:
        images.write_text(images.read_text().replace("0003.png,b", "0003.png,a"))

    just_before(monkeypatch, copying, "locked", edit)
    with pytest.raises(InputError, match=r"images.csv: has changed in the meantime"):
        copying.examine(study, drop=True)
    assert "0003.png,a" in images.read_text()
    copying.examine(study, drop=True)
    assert open_study(study).used.sum() == 14
    assert "0003.png,a" in images.read_text()


def test_an_update_keeps_what_changed_since_it_began(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", 16)
    study = tmp_path / "study"
    extract(study, "control:pixels", data=str(data), device="cpu")
    opened = open_study(study)
    with data.open("a") as file:
        file.write("0001.png,b\n")
    save_images(replace(opened, columns={**opened.columns, "use": ["0"] + ["1"] * 15}))
    updated(opened, None)
    assert open_study(study).columns["use"] == ["0"] + ["1"] * 16
