"""The shell completes names of the study at hand, and never fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies import add, begin, signal
from typer.testing import CliRunner

from cli.app import app
from features.study.study import Study
from probe.fitting.fit import fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("completed") / "study"
    study = begin(
        folder, {"age": [i % 2 for i in range(40)], "hat": [i // 2 % 2 for i in range(40)]}
    )
    add(study, "near", {"low": signal(study.labels("age"), 3, 1.0)})
    add(study, "far", {"top": signal(study.labels("age"), 3, 1.0, 1)})
    fit(folder, tasks=["age"], probes=["ridge"], c=[1.0])
    return study


def completed(line: str) -> set[str]:
    words = line.split(" ")
    env = {
        "_PROBE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    result = CliRunner().invoke(app, [], prog_name="probe", env=env)
    assert result.exit_code == 0
    assert not result.stderr
    return set(result.stdout.split())


def test_names_of_the_study_are_completed(fitted: Study) -> None:
    study = f"--study {fitted.folder}"
    assert completed(f"probe fit {study} --task ") == {"age", "hat"}
    assert completed(f"probe fit {study} --backbone n") == {"near"}
    assert completed(f"probe fit {study} --layer ") == {"low", "top"}
    assert completed(f"probe fit {study} --backbone far --layer ") == {"top"}
    assert completed(f"probe export {study} near/") == {"near/low/ridge", "near/best/ridge"}
    assert completed(f"probe compare {study} far/best/ridge near/b") == {"near/best/ridge"}
    assert "mobilefacenet" in completed("probe extract --backbone mob")


def test_without_a_study_nothing_is_completed(tmp_path: Path) -> None:
    assert completed(f"probe fit --study {tmp_path} --task ") == set()
