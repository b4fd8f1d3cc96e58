"""A study's result as a file, and images predicted with it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exported.conftest import N, photo, write_photos
from typer.testing import CliRunner

from cli.app import app
from cli.export import _summary
from features.errors import InputError
from features.study.study import Study
from probe.analysis.curves import curves
from probe.exported.choice import chosen_results
from probe.exported.export import Exported, export
from probe.exported.exported_probe import load_probe
from probe.exported.file import VERSION, read, write
from probe.exported.images import images_named
from probe.exported.judged import judged


def card_of(study: Study) -> str:
    return str(study.folder.parent / "cards" / "tiny.toml")


def exported(study: Study, out: Path, result: str = "tiny/best/logistic", **more: object) -> Path:
    export(study.folder, result, out=out, backbone=card_of(study), **more)  # type: ignore[arg-type]
    return out


def probe(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def test_the_highest_best_row_is_exported_with_its_promise(made: Study, tmp_path: Path) -> None:
    said: list[str] = []
    (one,) = export(made.folder, out=tmp_path / "tone.probe", announce=said.append)
    best = [b for b in curves(made)[0].best if b.domain == "toys" and b.method != "knn"]
    top = max(best, key=lambda b: b.accuracy.value)
    assert one.about.result == f"tiny/best/{top.method}"
    assert one.about.promise["accuracy"] == top.accuracy.value
    assert (one.about.promise["low"], one.about.promise["high"]) == (
        top.accuracy.low,
        top.accuracy.high,
    )
    assert one.about.trained_on["images"] == N
    assert one.about.classes == ("bright", "dark")
    assert any("no proven winner" in s or "beyond noise" in s for s in said)


@pytest.mark.parametrize("method", ["logistic", "svm"])
def test_images_come_to_what_their_stored_features_come_to(
    made: Study, tmp_path: Path, method: str
) -> None:
    file = exported(made, tmp_path / "x.probe", f"tiny/pool/{method}")
    about = read(file).about
    with made.features("tiny") as features:
        x = features["pool"]
    sd = x.std(0)
    z = np.where(sd > 0, (x - x.mean(0)) / np.where(sd > 0, sd, 1), 0)
    contents = read(file)
    scores = z @ contents.probe.weight.T + contents.probe.bias
    p = np.exp(scores * about.temperature)
    p /= p.sum(1, keepdims=True)
    loaded = load_probe(file)
    predictions = loaded.predict([made.root / path for path in made.paths])
    np.testing.assert_allclose(predictions.probabilities, p, atol=1e-4)
    np.testing.assert_allclose(loaded.predict(x).probabilities, p, atol=1e-4)
    in_memory = loaded.predict([photo(row) for row in range(5)])
    np.testing.assert_allclose(in_memory.probabilities, p[:5], atol=1e-4)
    assert predictions.labels == [about.classes[k] for k in scores.argmax(1)]
    assert (about.temperature == 1) == (method == "logistic")


def test_the_best_layer_is_chosen_over_all_folds(made: Study) -> None:
    (chosen,) = chosen_results(made, "tiny/best/logistic")
    losses = {}
    for layer in ("pool", "fc"):
        with np.load(made.folder / f"predictions/tone/tiny/{layer}/logistic.npz") as stored:
            s, y = stored["scores"].astype(np.float64), made.labels("tone")
        losses[layer] = float(np.mean(np.log(np.exp(s).sum(1)) - s[np.arange(N), y]))
    assert chosen.fitted[0].layer == min(losses, key=lambda layer: losses[layer])
    assert {row.layer for row in chosen.rows} == {"best"}


def test_csv_names_what_cannot_be_read_and_marks_what_is_far(made: Study, tmp_path: Path) -> None:
    file = exported(made, tmp_path / "x.probe")
    folder = tmp_path / "new"
    write_photos(folder, range(100, 110))
    (folder / "bad.png").write_text("not an image")
    from PIL import Image

    chess = np.indices((8, 8)).sum(0)[:, :, None] % 2 * 255
    Image.fromarray(np.repeat(chess, 3, 2).astype(np.uint8)).save(folder / "chess.png")
    code, out, err = probe("predict", file, folder)
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [Path(row["path"]).name for row in rows][-2:] == ["bad.png", "chess.png"]
    bad, chess_row = rows[-2:]
    assert (bad["class"], bad["unreadable"]) == ("", "not an image")
    assert chess_row["far"] == "1"
    assert float(chess_row["quantile"]) == 1
    for row in rows[:-2]:
        assert float(row["p_dark"]) + float(row["p_bright"]) == pytest.approx(1, abs=2e-6)
        assert row["class"] == max(("dark", "bright"), key=lambda name: float(row[f"p_{name}"]))
    assert "unreadable: " in err
    assert "far: 1 of 11 images lie" in err


def test_labels_are_held_against_the_promise(made: Study, tmp_path: Path) -> None:
    file = exported(made, tmp_path / "x.probe")
    data = write_photos(tmp_path / "new", range(200, 240))
    code, out, err = probe("predict", file, data, "--json")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    right = np.mean([("dark", "bright")[i % 2] == line["class"] for i, line in enumerate(lines)])
    assert f"tone: {100 * right:.1f} % of 40 labelled images right; promised" in err
    probed = load_probe(file)
    images = images_named([data], "tone")
    made_of = probed.predict(images.files)
    wrong = ["dark" if label == "bright" else "bright" for label in made_of.labels]
    told = judged("tone", made_of, wrong, images.subjects, probed.about.accuracy)
    assert told is not None
    assert not told.kept
    assert "less than was promised" in str(told)
    with pytest.raises(InputError, match="none of the labels is one of its classes"):
        judged("tone", made_of, ["grey"] * 40, [""] * 40, probed.about.accuracy)


def test_class_folders_tell_labels_and_others_do_not(made: Study, tmp_path: Path) -> None:
    file = exported(made, tmp_path / "x.probe")
    write_photos(tmp_path / "new", range(200, 212))
    photos = sorted((tmp_path / "new").rglob("*.png"))
    for i, one in enumerate(photos):
        for parent in (("dark", "bright")[i % 2], ("left", "right")[i % 2]):
            place = tmp_path / ("sorted" if parent in ("dark", "bright") else "other") / parent
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(one, place)
    found = images_named([tmp_path / "sorted"], "tone", classes=("dark", "bright", "grey"))
    assert found.labels == [Path(name).parent.name for name in found.names]
    code, _, err = probe("predict", file, tmp_path / "sorted")
    assert code == 0, err
    assert "of 12 labelled images right; promised" in err
    assert set(images_named([tmp_path / "other"], "tone", classes=("dark",)).labels) == {""}


def test_paths_come_from_standard_input_and_twice(made: Study, tmp_path: Path) -> None:
    file = exported(made, tmp_path / "x.probe")
    paths = [str(made.root / made.paths[i]) for i in (3, 1, 3, 2)]
    result = CliRunner().invoke(app, ["predict", str(file), "-"], input="\n".join(paths) + "\n")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["path"] for row in rows] == paths
    assert rows[0] == rows[2]
    code, out, _ = probe("predict", file, *paths, "--out", tmp_path / "out.csv")
    assert (code, out) == (0, "")
    assert (tmp_path / "out.csv").read_text() == result.stdout


def test_the_network_inside_does_without_the_study(made: Study, tmp_path: Path) -> None:
    plain = exported(made, tmp_path / "plain.probe")
    whole = exported(made, tmp_path / "whole.probe", with_weights=True)
    files = [made.root / path for path in made.paths[:7]]
    wanted = load_probe(plain).predict(files).probabilities
    (tmp_path / "cards").mkdir()
    here = Path(shutil.copy(Path(card_of(made)).with_name("tiny.py"), tmp_path / "cards"))
    shutil.copy(card_of(made), here.with_name("tiny.toml"))  # and no weights beside it
    alone = load_probe(whole, backbone=str(here.with_name("tiny.toml"))).predict(files)
    np.testing.assert_array_equal(alone.probabilities, wanted)
    with pytest.raises(InputError, match="the weights of tiny, which are not here"):
        load_probe(plain, backbone=str(here.with_name("tiny.toml"))).predict(files)


def test_a_changed_byte_is_noticed_wherever_it_is(made: Study, tmp_path: Path) -> None:
    file = exported(made, tmp_path / "x.probe")
    data = file.read_bytes()
    header = int.from_bytes(data[:8], "little")
    digest = data.index(b'"sha256":"') + 12
    drawn = np.random.default_rng(0)
    places = {0, 7, 8, 9, digest, 8 + header - 1, 8 + header, len(data) - 1}
    places |= set(drawn.integers(0, len(data), 40).tolist())
    places |= set(drawn.integers(8, 8 + header, 40).tolist())
    for place in sorted(places):
        changed = bytearray(data)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(InputError, match=r"has changed since it was written|not an export"):
            read(file)
    file.write_bytes(data[:-1])
    with pytest.raises(InputError, match="has changed since it was written"):
        read(file)
    file.write_bytes(data)
    assert read(file).about.task == "tone"


def test_what_cannot_be_used_is_said_in_a_sentence(
    made: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = exported(made, tmp_path / "x.probe")
    image = str(made.root / made.paths[0])

    def refused(*words: object) -> str:
        code, _, err = probe(*words)
        assert code == 3, err
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        return line

    study = ("--study", made.folder)
    assert "cannot be exported" in refused("export", "tiny/best/knn", *study)
    assert "no such result" in refused("export", "tiny/bets/svm", *study)
    assert "has no result" not in refused("export", "--task", "tine", *study)
    assert "no such file" in refused("predict", tmp_path / "none.probe", image)
    (tmp_path / "text.probe").write_text("path,tone\n")
    assert "not an export" in refused("predict", tmp_path / "text.probe", image)
    other = tmp_path / "other.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(Path(card_of(made)).with_name("tiny.safetensors"))
    save_file({name: tensor + 0.1 for name, tensor in tensors.items()}, other)
    assert "with other weights of tiny" in refused("predict", file, image, "--weights", other)
    assert "there is no such card file" in refused("predict", file, image, "-b", "gone.toml")
    assert "the only image cannot be read; check the path." in refused(
        "predict", file, tmp_path / "gone.png"
    )
    (tmp_path / "empty").mkdir()
    assert "there are no images" in refused("predict", file, tmp_path / "empty")
    assert "a folder" in refused("predict", file, image, "--out", tmp_path)
    later = tmp_path / "later.probe"
    monkeypatch.setattr("probe.exported.file._OF_CLASSES", VERSION + 1)
    write(later, read(file))
    monkeypatch.undo()
    assert "made by a later version" in refused("predict", later, image)
    contents = read(file)
    card = {**contents.about.card, "network": "./gone.py:build"}
    write(later, replace(contents, about=replace(contents.about, card=card)))
    assert "gone.py, which is not here; give its card" in refused("predict", later, image)
    write(later, replace(contents, about=replace(contents.about, toolkit="0.0.1")))
    code, _, err = probe("predict", later, image)
    assert code == 0, err
    assert "made with version 0.0.1" in err


def test_a_study_that_changed_since_is_not_exported(made: Study, tmp_path: Path) -> None:
    copy = tmp_path / "study"
    shutil.copytree(made.folder, copy)
    text = (copy / "images.csv").read_text()
    (copy / "images.csv").write_text(text.replace(",dark,", ",bright,", 1))
    with pytest.raises(InputError, match="changed after the scores of tiny/pool/svm were made"):
        export(copy, "tiny/pool/svm", out=tmp_path / "x.probe")


def test_a_backbone_that_saw_the_images_does_not_lead(
    made: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        "probe.exported.choice._backbones_that_saw", lambda _study: {"tiny": ["photos"]}
    )
    with pytest.raises(InputError, match="no linear probe on a trained backbone"):
        export(made.folder, out=tmp_path / "x.probe", announce=said.append)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_no_image_is_refused(made: Study, tmp_path: Path, size: int) -> None:
    loaded = load_probe(exported(made, tmp_path / "x.probe"))
    for images in ([photo(0)], [made.root / made.paths[0]]):
        with pytest.raises(InputError, match="a batch has at least one image; give 1 or more"):
            loaded.predict(images, batch_size=size)


def test_of_features_made_elsewhere_the_use_is_from_python(
    made: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, file = exported(made, tmp_path / "x.probe", "tiny/pool/svm"), tmp_path / "made.probe"
    contents = read(plain)
    write(file, replace(contents, about=replace(contents.about, imported=True)))
    _summary(Exported(file, read(file).about))
    words = capsys.readouterr().err
    assert "probe predict" not in words
    assert "by checksum" not in words
    assert f"load_probe({str(file)!r}).predict(array)" in " ".join(words.split())
    with made.features("tiny") as features:
        x = features["pool"]
    wanted = load_probe(plain).predict(x).probabilities
    np.testing.assert_array_equal(load_probe(file).predict(x).probabilities, wanted)


def test_the_weights_that_predict_needs_are_named_with_their_folder(
    made: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they were given; where only their name is known, it is said that a folder comes before it."""
    file = exported(made, tmp_path / "x.probe", "tiny/pool/svm")
    one = Exported(file, read(file).about, needs="net.pth")
    for given, said in (
        ("/far/away/net.pth", "--weights /far/away/net.pth`"),
        (None, "--weights FOLDER/net.pth`, FOLDER being where that file lies"),
    ):
        _summary(one, given)
        assert said in " ".join(capsys.readouterr().err.split())


def test_files_that_are_not_listed_are_counted(
    made: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = exported(made, tmp_path / "x.probe")
    folder = write_photos(tmp_path / "new", range(2)).parent
    for number in range(4):
        (folder / f"bad{number}.png").write_text("not an image")
        (folder / f"loop{number}").symlink_to(folder, target_is_directory=True)
    monkeypatch.setattr("cli.predict._LISTED", 1)
    code, _, err = probe("predict", file, folder)
    assert code == 0, err
    assert err.count("a link to a folder") == 1
    assert "left out: 3 more, which are not predicted" in err
    assert err.count("not an image") == 1
    assert "unreadable: 3 more, which have no class in the table" in err


def test_no_other_file_is_replaced(made: Study, tmp_path: Path) -> None:
    file, images = exported(made, tmp_path / "t.probe"), tmp_path / "images"
    table = write_photos(images, range(4))
    weights = ("--backbone", card_of(made))
    for out in (table, images / "000.png", made.folder / "images.csv", images):
        before = None if out.is_dir() else out.read_bytes()
        for line in (
            ("predict", file, images, "--out", out, *weights),
            ("export", "tiny/fc/svm", "--study", made.folder, "--out", out),
        ):
            code, _, err = probe(*line)
            assert code == 3, err
            assert f"error: --out {out}: " in err
            assert before is None or out.read_bytes() == before
    assert export(made.folder, "tiny/fc/svm", out=file, backbone=card_of(made))
    for words in ((), ("--json",)):
        out = tmp_path / f"new{len(words)}"
        for _ in range(2):
            code, _, err = probe("predict", file, images, "--out", out, *weights, *words)
            assert code == 0, err
