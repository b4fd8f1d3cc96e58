"""A results.csv that is damaged or edited: one sentence about it, and every command has a way out."""

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import studies
from typer.testing import CliRunner

import probe.reporting.report as reporting
from cli.app import app
from features.errors import InputError
from probe.fitting.fit import fit
from probe.results import rows as results
from probe.results.csv_records import columns

pytestmark = pytest.mark.usefixtures("svg_alone")

Edit = Callable[[list[list[str]]], object]
NEEDED = (
    "backbone", "domain", "layer", "method", "task", "fold", "accuracy", "balanced_accuracy",
    "macro_f1", "n_test", "n_train", "protocol",
)  # fmt: skip
READERS = {
    "status": ["status"],
    "compare": ["compare", "net/best/ridge", "far/best/ridge"],
    "report": ["report"],
    "rank": ["rank"],
}
FIT = ["fit", "--probe", "ridge", "--C", "1", "--folds", "2"]


def cell(column: str, value: str, line: int = 1) -> Edit:
    return lambda table: table[line].__setitem__(table[0].index(column), value)


def without(column: str) -> Edit:
    def edit(table: list[list[str]]) -> None:
        place = table[0].index(column)
        for line in table:
            del line[place]

    return edit


WIDTH = len(columns(results.Row))
DAMAGE: dict[str, tuple[Edit, str]] = {
    "a short line": (lambda t: t[1].pop(), f"line 2: {WIDTH - 1} cells under {WIDTH} columns"),
    "a column twice": (cell("auc", "C", 0), "the column 'C' occurs twice"),
    "a word": (cell("accuracy", "much"), "line 2: 'much' in the column accuracy is no number"),
    "half a number": (cell("n_test", "2q"), "line 2: '2q' in the column n_test is no number"),
    "a number too many": (cell("n_test", "1e999"), "'1e999' in the column n_test is no number"),
    "a long cell": (cell("seed", "y" * 200), f"'{'y' * 40}...' in the column seed is no number"),
    "nothing": (cell("fold", ""), "line 2: a number is missing in the column fold"),
    "no accuracy": (cell("accuracy", ""), "a number is missing in a row of label"),
    "minus": (cell("accuracy", "-3"), "an accuracy of label is not between 0 and 1"),
    "nan": (cell("macro_f1", "nan"), "an accuracy of label is not between 0 and 1"),
    "a fold below 0": (cell("fold", "-3"), "a row of label has the fold -3"),
    **{f"no {name}": (without(name), f"the column {name} is missing") for name in NEEDED},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    study = studies.begin(folder, {"label": [i % 2 for i in range(40)]})
    for name, apart in (("net", 2.0), ("far", 0.5)):
        studies.add(study, name, {"fc": studies.signal(study.labels("label"), 4, apart)})
    assert run(FIT, folder)[0] == 0
    return folder


@pytest.fixture
def study(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(reporting, "_figures", lambda *_: {})
    return Path(shutil.copytree(whole, tmp_path / "study"))


def run(line: list[str], study: Path) -> tuple[int, str]:
    """The exit code and the last line on stderr."""
    ended = CliRunner().invoke(app, [*line, "--study", str(study)])
    if ended.exit_code == 1:
        raise AssertionError(ended.output) from ended.exception
    return ended.exit_code, (ended.stderr.splitlines() or [""])[-1]


def edited(study: Path, edit: Edit) -> Path:
    file = study / "results.csv"
    table = list(csv.reader(io.StringIO(file.read_text())))
    edit(table)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    file.write_text(text.getvalue())
    return file


@pytest.mark.parametrize("damage", DAMAGE)
def test_it_is_refused_in_a_sentence(study: Path, damage: str) -> None:
    edit, wrong = DAMAGE[damage]
    file = edited(study, edit)
    with pytest.raises(InputError) as caught:
        results.read(file)
    said = str(caught.value)
    assert said.startswith(str(file))
    assert wrong in said
    assert said.endswith(results.REMEDY)


@pytest.mark.parametrize("damage", ["a short line", "a word", "no macro_f1"])
def test_every_command_says_what_is_wrong_with_it_and_deleting_it_is_a_way_out(
    study: Path, damage: str
) -> None:
    rows = results.read(study / "results.csv")
    edit, wrong = DAMAGE[damage]
    file = edited(study, edit)
    damaged = file.read_bytes()
    for line in (FIT, ["remove", "net"], ["export"], *READERS.values()):
        code, said = run(line, study)
        assert code == 3, (line, said)
        assert said.startswith(f"error: {file}")
        assert wrong in said
        assert said.endswith(results.REMEDY)
        assert file.read_bytes() == damaged
    file.unlink()
    assert run(FIT, study)[0] == 0
    assert results.read(file) == rows
    edited(study, edit)
    file.unlink()
    assert run(["remove", "net"], study)[0] == 0


def test_a_file_of_other_bytes_is_refused_in_words_of_its_own(study: Path) -> None:
    file = study / "results.csv"
    whole = file.read_bytes()
    for damaged, wrong in (
        (b"", "empty"),
        (b"junk, [and\n= more\n", "line 2: 1 cells under 2 columns"),
        (whole + b"\0\n", "not a text file"),
        (whole.decode().encode("utf-16"), "not a text file"),
        (whole.replace(b",", b";"), "the column backbone is missing"),
    ):
        file.write_bytes(damaged)
        for line in (FIT, ["remove", "net"], ["status"]):
            code, said = run(line, study)
            assert code == 3
            assert wrong in said
            assert "manifest" not in said
            assert said.endswith(results.REMEDY)


def test_a_column_of_another_version_is_not_lost(study: Path) -> None:
    def more(table: list[list[str]]) -> None:
        for number, line in enumerate(table):
            line.append(str(number) if number else "mine")

    file = edited(study, more)
    written = file.read_bytes()
    for name in ("status", "compare"):
        assert run(READERS[name], study)[0] == 0
    for line in (FIT, ["remove", "net"]):
        code, said = run(line, study)
        assert code == 3
        assert said.startswith(f"error: {file}: the column 'mine' is not one of this version's")
        assert file.read_bytes() == written


@pytest.mark.parametrize("column", ["pool", "log_loss"])
def test_a_column_that_a_file_of_before_lacks_is_made_again(study: Path, column: str) -> None:
    file = study / "results.csv"
    rows = results.read(file)
    edited(study, without(column))
    assert all(run(line, study)[0] == 0 for line in (*READERS.values(), FIT))
    fit(study, probes=("ridge",), c=(1.0,), folds=2, redo=True)
    assert sorted(results.read(file), key=repr) == sorted(rows, key=repr)


@pytest.mark.parametrize("fold", ["7", "9" * 40])
def test_a_row_of_a_fold_that_is_none_is_made_again(study: Path, fold: str) -> None:
    file = study / "results.csv"
    rows = results.read(file)
    edited(study, cell("fold", fold))
    assert run(FIT, study)[0] == 0
    assert sorted(results.read(file), key=repr) == sorted(rows, key=repr)
