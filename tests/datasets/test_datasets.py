"""Data sets with readers of their own: counts and labels as published, paths as the sets lay them out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from features.data import read_data
from features.data.adience import AGES, POLICIES
from features.data.manifest import Manifest
from features.errors import InputError
from features.extraction.extract import extract
from features.study.drafting import draft
from features.study.study import open_study

ADIENCE = Path(__file__).parents[3] / "shared" / "adience"
LFW = ADIENCE.parent / "real" / "lfw"
HEADER = (
    "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\t"
    "fiducial_yaw_angle\tfiducial_score\n"
)


def refused(spec: object) -> str:
    with pytest.raises(InputError) as caught:
        read_data(str(spec))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def adience(folder: Path, faces: list[tuple[str, str]]) -> Path:
    """A folder laid out as Adience's: one face of each age and gender, in folds by turns."""
    for fold in range(5):
        lines = [
            f"u{i % 10}@N0{fold}\tim{i}.jpg\t{i}\t{age}\t{gender}\t1\t2\t3\t4\t0\t0\t50\n"
            for i, (age, gender) in enumerate(faces)
            if i % 5 == fold
        ]
        (folder / f"fold_{fold}_data.txt").write_text(HEADER + "".join(lines))
    (folder / "aligned").mkdir(exist_ok=True)
    (folder / "faces").mkdir(exist_ok=True)
    return folder


# What becomes of every spelling that the fold files have, policy by policy; "" is no label.
SPELLED = {
    **{age: (age,) * 4 for age in AGES},
    "(25, 23)": ("", "(25, 32)", "(25, 32)", "(25, 32)"),
    "(27, 32)": ("", "", "(25, 32)", "(25, 32)"),
    "(38, 42)": ("", "", "(38, 43)", "(38, 43)"),
    "(38, 48)": ("", "", "(38, 43)", "(38, 43)"),
    "(8, 23)": ("", "", "", "(8, 12)"),
    **dict.fromkeys(("2", "3"), ("", "", "", "(0, 2)")),
    "13": ("", "", "", "(8, 12)"),
    "22": ("", "", "", "(15, 20)"),
    **dict.fromkeys(("23", "29", "32", "34", "35"), ("", "", "", "(25, 32)")),
    **dict.fromkeys(("36", "42", "45"), ("", "", "", "(38, 43)")),
    **dict.fromkeys(("46", "55", "56"), ("", "", "", "(48, 53)")),
    **dict.fromkeys(("57", "58"), ("", "", "", "(60, 100)")),
    "None": ("",) * 4,
}  # fmt: skip


def test_every_spelling_of_an_age_under_every_policy(tmp_path: Path) -> None:
    faces = [(age, ("m", "f", "u", "")[i % 4]) for i, age in enumerate(SPELLED)]
    folder = adience(tmp_path, faces)
    by_path = {f"im{i}.jpg": (i, *face) for i, face in enumerate(faces)}
    for number, policy in enumerate(("published", "corrected", "ranges", "mivolo")):
        found = read_data(f"adience:{folder}?labels={policy}")
        assert len(found) == len(faces)
        for path, age, gender, subject, fold in zip(
            *(found.columns[n] for n in ("path", "age", "gender", "subject", "fold")), strict=True
        ):
            i, spelled, sex = by_path[path.split(".", 2)[2]]
            assert path == f"aligned/u{i % 10}@N0{i % 5}/landmark_aligned_face.{i}.im{i}.jpg"
            assert age == SPELLED[spelled][number]
            assert gender == (sex if sex in "mf" else "")
            assert (subject, fold) == (f"u{i % 10}@N0{i % 5}", str(i % 5))
    assert found.tasks["age"].classes == AGES
    assert found.tasks["age"].ordered
    assert found.closest == "faces"


def test_coarse_faces_lie_in_another_folder(tmp_path: Path) -> None:
    folder = adience(tmp_path, [("(0, 2)", "m"), ("(4, 6)", "f")])
    found = read_data(f"adience:{folder}?faces=coarse")
    assert found.columns["path"][1] == "faces/u1@N01/coarse_tilt_aligned_face.1.im1.jpg"
    assert found.source == f"adience:{folder}?faces=coarse"
    usual = read_data(f"adience:{folder}?faces=aligned&labels=published")
    assert usual.source == f"adience:{folder}"


def test_repeated_rows_are_kept_as_rows(tmp_path: Path) -> None:
    folder = adience(tmp_path, [("(0, 2)", "m")] * 5)
    file = folder / "fold_2_data.txt"
    file.write_text(file.read_text() + file.read_text().splitlines()[1] + "\n")
    paths = read_data(f"adience:{folder}").columns["path"]
    assert len(paths) == 6
    assert len(set(paths)) == 5


def test_adience_that_is_not_whole(tmp_path: Path) -> None:
    assert "there is no such folder" in refused(f"adience:{tmp_path / 'gone'}")
    folder = adience(tmp_path, [("(0, 2)", "m")] * 5)
    assert "--labels right: Adience has published" in refused(f"adience:{folder}?labels=right")
    assert "--faces wild: Adience has aligned, coarse" in refused(f"adience:{folder}?faces=wild")
    assert "--size: adience takes faces, labels" in refused(f"adience:{folder}?size=3")
    (folder / "aligned").rmdir()
    assert "or use --faces coarse" in refused(f"adience:{folder}")
    (folder / "fold_3_data.txt").write_text("user_id\tage\nme\t3\n")
    assert "fold_3_data.txt: no column original_image" in refused(f"adience:{folder}")
    (folder / "fold_3_data.txt").unlink()
    assert "fold_3_data.txt: there is no such file" in refused(f"adience:{folder}")


# Images with a label: all, and fold by fold; by class (rows) and fold for the published eight.
AGES_OF_FOLDS = {
    "published": (4316, 3101, 3339, 2975, 3693),
    "corrected": (4388, 3101, 3339, 2975, 3693),
    "ranges": (4389, 3123, 3339, 3080, 3698),
    "mivolo": (4444, 3708, 3398, 3412, 3772),
}
CLASSES_OF_FOLDS = (
    (960, 495, 213, 155, 1580, 555, 219, 139),
    (84, 483, 601, 525, 635, 469, 146, 158),
    (840, 373, 475, 274, 777, 277, 120, 203),
    (151, 238, 499, 473, 898, 494, 104, 118),
    (484, 574, 344, 228, 1060, 505, 241, 257),
)
GENDERS_OF_FOLDS = ((2049, 1958), (1607, 2017), (1410, 1781), (1505, 1813), (1621, 1842))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The published fold files, where they lie beside the project; no images."""
    if not ADIENCE.is_dir():
        pytest.skip("Adience's fold files are not here")
    for fold in range(5):
        name = f"fold_{fold}_data.txt"
        (tmp_path / name).symlink_to(ADIENCE / name)
    (tmp_path / "aligned").mkdir()
    (tmp_path / "faces").mkdir()
    return tmp_path


def counts(found: Manifest, task: str) -> tuple[tuple[int, ...], ...]:
    pairs = Counter(zip(found.columns["fold"], found.columns[task], strict=True))
    return tuple(
        tuple(pairs[str(fold), name] for name in found.tasks[task].classes) for fold in range(5)
    )


def test_adiences_own_counts(published: Path) -> None:
    for faces in ("aligned", "coarse"):
        for policy, ages in AGES_OF_FOLDS.items():
            found = read_data(f"adience:{published}?faces={faces}&labels={policy}")
            assert len(found) == 19_487
            assert len(set(found.columns["path"])) == 19_370
            assert len(set(found.columns["subject"])) == 168
            assert tuple(map(sum, counts(found, "age"))) == ages
            assert counts(found, "gender") == GENDERS_OF_FOLDS
            if policy == "published":
                assert counts(found, "age") == CLASSES_OF_FOLDS
    assert sum(AGES_OF_FOLDS["published"]) == 17_424
    assert sum(map(sum, GENDERS_OF_FOLDS)) == 17_603
    assert set(POLICIES) == set(AGES_OF_FOLDS)


def test_adience_from_images_to_features(published: Path, tmp_path: Path) -> None:
    """Small drawn images under the names of every 400th face: each lands in its own row."""
    manifest = read_data(f"adience:{published}")
    drawn = dict.fromkeys(manifest.columns["path"][::400])
    for i, path in enumerate(drawn):
        (published / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (i, 2 * i, 255 - i)).save(published / path, "png")
    study = tmp_path / "study"
    done = extract(study, "control:pixels", data=f"adience:{published}", layers=["pixels"])
    assert len(set(manifest.columns["path"]) - set(done.unreadable)) == len(drawn)
    opened = open_study(study)
    with opened.features("control:pixels") as file:
        x = file.read("pixels")
    for i, path in enumerate(drawn):
        same = [row for row, one in enumerate(opened.paths) if one == path]
        assert same
        for row in same:
            np.testing.assert_allclose(np.unique(x[row]), np.unique([i, 2 * i, 255 - i]) / 255)


def test_fairface(tmp_path: Path) -> None:
    file = tmp_path / "fairface_label_val.csv"
    file.write_text(
        "file,age,gender,race,service_test\nval/1.jpg,3-9,Male,East Asian,True\n"
        "val/2.jpg,more than 70,Female,Black,False\nval/3.jpg,50-59,Female,White,True\n"
    )
    found = read_data(f"fairface:{file}")
    assert dict(found.columns) == {
        "path": ["val/1.jpg", "val/2.jpg", "val/3.jpg"],
        "age": ["3-9", "more than 70", "50-59"],
        "gender": ["Male", "Female", "Female"],
        "race": ["East Asian", "Black", "White"],
    }
    assert found.root == tmp_path
    assert found.tasks["age"].classes[-1] == "more than 70"
    file.write_text(file.read_text().replace("3-9", "03.Sep"))
    assert "'03.Sep' is none of FairFace's ages" in refused(f"fairface:{file}")
    file.write_text("path,age\na,3-9\n")
    assert "no column file" in refused(f"fairface:{file}")
    assert "there is no such file" in refused(f"fairface:{tmp_path / 'gone.csv'}")


@pytest.fixture
def people(tmp_path: Path) -> Path:
    for name in ("Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0002.jpg", "Bo/Bo_0001.jpg"):
        (tmp_path / "lfw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lfw" / name).touch()
    return tmp_path


def test_lfw_with_labels_by_image(people: Path) -> None:
    (people / "lfw.csv").write_text(
        "path,gender,smile\nwhere/ever/Ann_Lee_0002.jpg,female,no\nBo_0001.jpg,male,yes\n"
    )
    found = read_data(f"lfw:{people / 'lfw'}")
    assert dict(found.columns) == {
        "gender": ["", "female", "male"],
        "smile": ["", "no", "yes"],
        "path": ["Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0002.jpg", "Bo/Bo_0001.jpg"],
        "subject": ["Ann_Lee", "Ann_Lee", "Bo"],
    }


def test_lfw_with_labels_by_person(people: Path) -> None:
    assert "give a CSV file of labels with --labels" in refused(f"lfw:{people / 'lfw'}")
    labels = people / "mine.csv"
    labels.write_text("name,gender\nAnn_Lee,female\nBo,male\nCy,male\n")
    found = read_data(f"lfw:{people / 'lfw'}?labels={labels}")
    assert found.columns["gender"] == ["female", "female", "male"]
    assert str(labels) in found.source
    labels.write_text("who,gender\nAnn_Lee,female\n")
    assert "no column path, subject, name or person" in refused(
        f"lfw:{people / 'lfw'}?labels={labels}"
    )
    labels.write_text("name,gender\nCy,male\n")
    assert "names none of the 3 images" in refused(f"lfw:{people / 'lfw'}?labels={labels}")


@pytest.mark.skipif(not LFW.is_dir(), reason="the real faces are not here")
def test_lfw_itself() -> None:
    found = read_data(f"lfw:{LFW}")
    assert len(found) == 614
    assert len(set(found.columns["subject"])) == 200
    table = read_data(f"{LFW}.csv")
    genders = dict(zip(table.columns["path"], table.columns["gender"], strict=True))
    assert [genders[f"lfw/{path}"] for path in found.columns["path"]] == found.columns["gender"]


def test_a_parquet_manifest(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "data.parquet"
    columns = {"path": ["a.jpg", "b.jpg"], "age": [3, None], "box": [[1, 2], [3, 4]]}
    parquet.write_table(pyarrow.table(columns), file)
    found = read_data(str(file))
    assert dict(found.columns) == {"path": ["a.jpg", "b.jpg"], "age": ["3", ""]}
    assert (found.root, found.source) == (tmp_path, str(file))
    parquet.write_table(pyarrow.table({"path": ["a.jpg", ""], "age": [1, 2]}), file)
    assert "row 1: the path is empty" in refused(file)
    parquet.write_table(pyarrow.table({"image": ["a.jpg"], "age": [1]}), file)
    assert "no column path" in refused(file)
    file.write_bytes(b"PAR1 and then nothing")
    assert "not a Parquet file" in refused(file)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 1), (7, 5, 3)])
def test_images_in_an_array(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    drawn = np.random.default_rng(0)
    images = drawn.integers(0, 256, (6, *shape), dtype=np.uint8)
    file = tmp_path / f"data{suffix}"
    arrays = {
        "images": images,
        "digit": np.arange(6)[:, None] % 3,
        "subject": np.array([b"me"] * 6),
    }
    if suffix == ".npz":
        np.savez(file, **arrays)
    else:
        with h5py.File(file, "w") as opened:
            for name, array in arrays.items():
                opened[name] = array
    found = read_data(str(file))
    assert found.columns["digit"] == ["0", "1", "2"] * 2
    assert found.columns["subject"] == ["me"] * 6
    for path, image in zip(found.columns["path"], images, strict=True):
        with Image.open(found.root / path) as stored:
            np.testing.assert_array_equal(np.asarray(stored).reshape(shape), image)
    assert read_data(str(file)).root == found.root


def test_several_labels_in_an_array_are_a_task_of_them(tmp_path: Path) -> None:
    """As ChestMNIST has them; beside other labels they are no column."""
    labels = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 1], [0, 1, 0]])
    arrays = {f"{part}_images": np.zeros((2, 4, 4), np.uint8) for part in ("train", "test")}
    arrays |= {"train_labels": labels[:2], "test_labels": labels[2:]}
    np.savez(tmp_path / "chest.npz", **arrays)
    found = read_data(str(tmp_path / "chest.npz"))
    task = found.tasks["label"]
    assert (task.kind, task.columns) == ("labels", ("label_0", "label_1", "label_2"))
    np.testing.assert_array_equal(task.targets(found.columns), labels)
    assert "label has 3 labels of every image" in found.notes[0]
    study = draft(tmp_path / "s", found)
    assert list(study.default_tasks) == ["label"]
    images = np.zeros((4, 4, 4), np.uint8)
    np.savez(tmp_path / "x.npz", images=images, label=np.arange(4) % 2, more=labels)
    assert list(read_data(str(tmp_path / "x.npz")).columns) == ["path", "label"]


def test_images_in_three_arrays_have_a_split(tmp_path: Path) -> None:
    """As MedMNIST's files lay them out."""
    file = tmp_path / "medmnist.npz"
    arrays = {}
    for i, (part, n) in enumerate((("test", 2), ("train", 3), ("val", 1))):
        arrays[f"{part}_images"] = np.full((n, 4, 4), 10 * i, dtype=np.uint8)
        arrays[f"{part}_labels"] = np.full((n, 1), i)
    np.savez(file, **arrays)
    found = read_data(str(file))
    assert found.columns["split"] == ["train"] * 3 + ["val"] + ["test"] * 2
    assert found.columns["label"] == ["1", "1", "1", "2", "0", "0"]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"image": np.zeros((2, 4, 4), np.uint8), "label": np.arange(2)}, "no array called images"),
        ({"images": np.full((2, 4, 4), 7.5), "label": np.arange(2)}, "save them as uint8"),
        ({"images": np.zeros((2, 9, 9, 9), np.uint8), "label": np.arange(2)}, "9 channels"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "label": np.arange(3)}, "has images but no labels"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_images(
    tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, **arrays)
    assert said in refused(file)
    file.write_bytes(b"not a zip")
    assert "cannot be read" in refused(file)


def test_a_study_of_an_array_whose_cache_was_emptied_is_written_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "data.npz"
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    np.savez(file, images=images, label=np.arange(8) % 2)
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "home"))
    extract(tmp_path / "study", "control:pixels", data=str(file), limit=4)
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "elsewhere"))
    read_data(str(file)).root.rename(tmp_path / "gone")
    (tmp_path / "home").rename(tmp_path / "lost")
    extract(tmp_path / "study", "control:pixels")
    with open_study(tmp_path / "study").features("control:pixels") as opened:
        assert (opened.status == 1).all()
