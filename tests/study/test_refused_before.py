"""What cannot be done is refused before any file of the study has changed."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import studies

from features.errors import InputError
from features.extraction.imported import import_features
from features.store.opening import Damaged
from features.store.writer import Writer
from features.study.study import Study
from probe.fitting.fit import fit
from probe.reporting.as_file import file_of
from probe.results import predictions
from probe.results.predictions import file_of as scores_of


def begun(folder: Path) -> Study:
    y = np.arange(40) % 2
    study = studies.begin(folder, {"label": y.tolist()}, None, "faces")
    studies.add(study, "net", {"fc": studies.signal(y, 4, 1.0, 3)}, domain="faces")
    return study


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"
    }


@pytest.mark.parametrize(
    "key",
    [
        ("label", "net", "best", "ridge"),
        ("label", "control:majority", "majority", "majority"),
        ("label", "net", "fc", "ridge"),
    ],
)
def test_a_folder_in_the_place_of_scores(tmp_path: Path, key: predictions.Key) -> None:
    study = begun(tmp_path / "s")
    fit(study.folder, probes=("knn",))
    place = scores_of(study.folder / predictions.STORE, key)
    place.unlink(missing_ok=True)
    place.mkdir(parents=True)
    before = contents(study.folder)
    with pytest.raises(InputError, match="a folder where a file belongs"):
        fit(study.folder, probes=("ridge",))
    assert contents(study.folder) == before


def test_an_import_into_a_file_of_other_images(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    np.savez(tmp_path / "f.npz", x=np.ones((40, 3), np.float32))
    import_features(study.folder, tmp_path / "f.npz", name="mine", layer="a", domain="faces")
    file = study.folder / "images.csv"
    first = file.read_text().splitlines()[1]
    file.write_text(file.read_text().replace(first, "other" + first, 1))
    before = contents(study.folder)
    with pytest.raises(InputError, match="its rows belong to another images"):
        import_features(study.folder, tmp_path / "f.npz", name="mine", layer="b", domain="faces")
    assert contents(study.folder) == before


def test_a_file_without_a_part_that_is_written_to_and_one_that_leads_nowhere(
    tmp_path: Path,
) -> None:
    study = begun(tmp_path / "s")
    path = study.feature_path("net")
    with h5py.File(path, "r+") as file:
        del file["reasons"]
    with pytest.raises(Damaged, match="has no /reasons, so no row can be added"):
        Writer(path)
    path.unlink()
    path.symlink_to(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"net\.h5"):
        file_of(study.folder)
