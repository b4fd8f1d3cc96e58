"""Layers of a fit in shares: made in any order, collected to the bytes of one command."""

import errno
from pathlib import Path

import numpy as np
import pytest
import studies

from features.errors import InputError, OptionError
from features.study.status import fits_waiting
from features.study.study import open_study
from probe.fitting.fit import fit
from probe.results.ledger import remove

ASKED = {"probes": ("ridge", "logistic", "knn"), "c": (0.01, 1.0)}


def begun(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 60)
    study = studies.begin(folder, {"label": y.tolist(), "other": (y % 2).tolist()}, None, "faces")
    for name in ("near", "far"):
        layers = {
            layer: rng.normal(size=(60, dim)) + y[:, None] for layer, dim in (("a", 4), ("b", 9))
        }
        studies.add(study, name, layers, domain="faces" if name == "near" else "objects")
    return study.folder


def contents(study: Path) -> dict[str, bytes]:
    files = [study / "results.csv", *sorted((study / "predictions").rglob("*.npz"))]
    return {str(file.relative_to(study)): file.read_bytes() for file in files}


def test_shares_end_in_the_bytes_of_one_command(tmp_path: Path) -> None:
    """One twice, one not at all, and one part cut short: what is missing is fitted at the end."""
    whole, shared = begun(tmp_path / "whole"), begun(tmp_path / "shared")
    jobs = fit(whole, **ASKED).fitted  # type: ignore[arg-type]
    made = [fit(shared, share=share, **ASKED).fitted for share in ("2/4", "0/4", "2/4", "1/4")]  # type: ignore[arg-type]
    assert made == [jobs // 4, jobs // 4, 0, jobs // 4]
    assert not (shared / "results.csv").exists()
    parts = sorted((shared / "fitting").rglob("*.npz"))
    assert len(parts) == 3 * jobs // 4
    parts[0].write_bytes(parts[0].read_bytes()[:-40])
    first, other = parts[0], parts[1].with_name(f"{'0' * 16}-{'1' * 16}.npz")
    other.write_bytes(b"")  # of a result that this command does not make
    done = fit(shared, **ASKED)  # type: ignore[arg-type]
    assert done.fitted == jobs
    assert contents(shared) == contents(whole)
    assert list((shared / "fitting").rglob("*.npz")) == [other]
    assert fit(shared, share="0/1", **ASKED).kept == jobs  # type: ignore[arg-type]
    other.unlink()
    first.parent.mkdir(exist_ok=True)
    first.write_bytes(b"")  # made by a share that came late
    done = fit(shared, **ASKED)  # type: ignore[arg-type]
    assert done.notes == []
    assert not (shared / "fitting").exists()


def test_results_of_other_settings_go_when_the_study_has_those_of_these(tmp_path: Path) -> None:
    """Only where it has: another layer's stay. Those of an earlier toolkit go too, and those of a backbone
    that is removed."""
    study = begun(tmp_path / "study")
    fit(study, probes=["ridge"], seed=1, share="0/1")
    fit(study, probes=["knn"], share="0/1")
    (study / "fitting" / f"{'0' * 24}.npz").write_bytes(b"")
    opened = open_study(study)
    assert fits_waiting(opened) == 8 + 8 + 1
    done = fit(study, probes=["ridge"], layers=["a"])
    assert fits_waiting(opened) == 4 + 8
    assert done.notes == [
        "5 results that shares made under other settings or of other features are removed: the study has "
        "those of this command"
    ]
    remove(study, "near")
    assert fits_waiting(opened) == 2 + 4


def test_a_share_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="does not go with --redo"):
        fit(tmp_path, share="0/2", redo=True)


@pytest.mark.parametrize("share", [None, "0/2"])
def test_a_folder_where_a_share_keeps_a_result_is_refused_before_anything_is_fitted(
    tmp_path: Path, share: str | None
) -> None:
    study = begun(tmp_path / "study")
    fit(study, share="0/2", **ASKED)  # type: ignore[arg-type]
    place = max((study / "fitting").rglob("*.npz"))
    place.unlink()
    place.mkdir()
    before = sorted(study.rglob("*"))
    with pytest.raises(InputError, match=f"{place.name}: a folder where a file belongs"):
        fit(study, share=share, **ASKED)  # type: ignore[arg-type]
    assert sorted(study.rglob("*")) == before


def test_a_part_that_the_disk_does_not_give_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begun(tmp_path / "study")
    fit(study, share="0/1", **ASKED)  # type: ignore[arg-type]
    before = sorted((study / "fitting").rglob("*"))

    def unread(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("probe.results.predictions.open_regular", unread)
    with pytest.raises(OSError, match="Input/output error"):
        fit(study, **ASKED)  # type: ignore[arg-type]
    assert sorted((study / "fitting").rglob("*")) == before
