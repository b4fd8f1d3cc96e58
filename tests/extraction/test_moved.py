"""Pictures that moved: the study follows them by --root, once a sample of files is the same."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from features.errors import InputError
from features.extraction import moved
from features.extraction.moved import move
from features.study.drafting import open_or_draft
from features.study.saving import begin
from features.study.study import open_study


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words])
    return done.exit_code, done.stderr


def pictures(folder: Path, n: int = 12) -> Path:
    for number in range(n):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((24, 24), 40 + number).convert("RGB").save(path)
    return folder


def begun(tmp_path: Path) -> tuple[Path, Path]:
    old = pictures(tmp_path / "old")
    study = tmp_path / "study"
    drafted, _ = open_or_draft(study, str(old))
    begin(drafted)
    return study, old


def test_a_study_follows_its_pictures_through_the_commands(tmp_path: Path) -> None:
    study, old = begun(tmp_path)
    assert run("data", "check", "--study", str(study))[0] == 0
    new = old.rename(tmp_path / "new")
    code, said = run("extract", "-b", "control:tiny", "--study", str(study))
    assert code == 4
    assert "--root DIR" in said
    code, said = run("data", "check", "--study", str(study))
    assert code == 3
    assert "--root DIR" in said
    words = ("extract", "-b", "control:tiny", "--study", str(study), "--root", str(new))
    code, said = run(*words)
    assert code == 0, said
    assert "12 files compared, the same bytes" in said
    opened = open_study(study)
    assert opened.root == new.resolve()
    assert opened.source == str(new.resolve())
    assert run("data", "check", "--study", str(study), "--data", str(new))[0] == 0
    assert "already" in run(*words)[1]


def test_other_pictures_of_the_same_names_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    study, _ = begun(tmp_path)
    assert run("data", "check", "--study", str(study))[0] == 0
    other = pictures(tmp_path / "other")
    Image.effect_noise((24, 24), 90).convert("RGB").save(other / "a" / "4.png")
    before = (study / "study.toml").read_text()
    with pytest.raises(InputError, match="not the file that this study was made of"):
        move(study, str(other))
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="--root"):
            move(study, str(folder))
    assert (study / "study.toml").read_text() == before


def test_without_digests_the_old_files_or_else_pictures_are_asked_for(tmp_path: Path) -> None:
    study, old = begun(tmp_path)
    assert not (study / "copies.json").exists()
    text = tmp_path / "text" / "a"
    text.mkdir(parents=True)
    for path in open_study(study).paths:
        (tmp_path / "text" / path).parent.mkdir(exist_ok=True)
        (tmp_path / "text" / path).write_text("no picture")
    with pytest.raises(InputError, match="not the file"):
        move(study, str(tmp_path / "text"))
    new = old.rename(tmp_path / "new")
    with pytest.raises(InputError, match="name another --root"):
        move(study, str(tmp_path / "text"))
    assert "12 images read; nothing was kept" in move(study, str(new))


def test_a_table_that_stays_is_not_renamed_and_one_that_moved_is(tmp_path: Path) -> None:
    old = pictures(tmp_path / "old")
    names = [f"{'ab'[n % 2]}/{n}.png" for n in range(12)]
    table = old / "faces.csv"
    table.write_text("path,label\n" + "".join(f"{name},{name[0]}\n" for name in names))
    begin(open_or_draft(tmp_path / "study", str(table))[0])
    new = old.rename(tmp_path / "new")
    move(tmp_path / "study", str(new))
    assert open_study(tmp_path / "study").source == str((new / "faces.csv").resolve())


def test_damaged_digests_are_no_copies(tmp_path: Path) -> None:
    study, _ = begun(tmp_path)
    assert run("data", "check", "--study", str(study))[0] == 0
    file = study / "copies.json"
    values = json.loads(file.read_text())
    assert len(values["digests"]) == 12
    file.write_text(json.dumps(values | {"digests": {"99": "ff"}}))
    assert open_study(study).copies is None
    del values["digests"]  # as written before
    file.write_text(json.dumps(values))
    assert open_study(study).copies is not None


def test_an_old_file_that_may_not_be_read_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, old = begun(tmp_path)
    new = pictures(tmp_path / "new")
    inner = moved.read_bytes

    def forbidden(path: Path) -> bytes:
        if path.is_relative_to(old):
            raise moved.Unreadable("no permission to read it")
        return inner(path)

    monkeypatch.setattr(moved, "read_bytes", forbidden)
    assert run("data", "check", "--study", str(study), "--root", str(new))[0] == 0
