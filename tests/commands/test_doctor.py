"""`probe doctor`: what it says of a machine and an install that are made up here."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from cli.app import app
from features import doctor
from features.doctor import Finding, examine

OURS = {"probe": ["transfer-probe"], "features": ["transfer-probe"], "cli": ["transfer-probe"]}


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Whose the top-level packages are, with nothing wrong; a test may change it."""
    owners = {**OURS, "faiss": ["faiss-cpu"]}
    monkeypatch.setattr(doctor, "packages_distributions", lambda: owners)
    monkeypatch.setattr(doctor, "version", lambda name: f"{name} 1.0")
    monkeypatch.setitem(sys.modules, "faiss", object())  # type: ignore[arg-type]
    monkeypatch.setattr(doctor, "accelerator", lambda: None)
    monkeypatch.delenv("PROBE_OFFLINE")
    return owners


def told(what: str) -> Finding:
    [finding] = [finding for finding in examine() if finding.what == what]
    return finding


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *words])


def lacking(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def version(name: str) -> str:
        if name == missing:
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)


def test_a_sound_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "home"))
    result = run()
    assert (result.exit_code, result.stderr) == (0, "")
    header, *lines = (line.split("\t") for line in result.stdout.splitlines())
    assert header == ["what", "state", ""]
    by_name = {line[0]: line[1:] for line in lines}
    assert by_name["cache"] == [str(tmp_path / "home"), ""]
    assert by_name["torch"] == ["torch 1.0", ""]
    assert by_name["gpu"] == ["none", "extraction runs on the processor"]
    assert by_name["faiss"] == ["faiss-cpu faiss-cpu 1.0, CPU", ""]
    assert not any(name.startswith("package") for name in by_name)
    assert int(by_name["cores"][0]) >= 1
    assert by_name["memory"][0].endswith("GB")
    assert by_name["disk here"][0].endswith(" free")


def test_as_json() -> None:
    result = run("--json")
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    assert {tuple(row) for row in rows} == {("what", "state", "advice", "wrong")}
    assert [row["what"] for row in rows if row["wrong"]] == []
    assert {"python", "torch", "h5py", "gpu", "faiss", "timm", "decoder"} <= {
        row["what"] for row in rows
    }


def test_a_missing_library_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "h5py")
    assert told("h5py") == Finding("h5py", "missing", "install transfer-probe again", wrong=True)
    assert run().exit_code == 3
    assert json.loads(run("--json").stdout)


def test_an_extra_that_is_missing_is_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "timm")
    assert told("timm").advice == "for timm:NAME: pip install 'transfer-probe[timm]'"
    assert run().exit_code == 0


def test_two_faiss_in_one_place(install: dict[str, list[str]]) -> None:
    install["faiss"] = ["faiss-gpu", "faiss-cpu"]
    finding = told("faiss")
    assert (finding.state, finding.wrong) == ("faiss-cpu and faiss-gpu", True)
    assert finding.advice.startswith("they overwrite each other: uninstall all, then install one")


def test_a_faiss_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)  # its import fails
    finding = told("faiss")
    assert finding.state.startswith("faiss-cpu fails: ")
    assert finding.wrong
    assert finding.advice == "install it again"


def test_faiss_on_a_gpu_and_none(
    install: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Faiss:
        StandardGpuResources = None

    monkeypatch.setitem(sys.modules, "faiss", Faiss())  # type: ignore[arg-type]
    assert told("faiss").state.endswith(", with GPU")
    del install["faiss"]
    assert told("faiss") == Finding(
        "faiss", "not installed", "knn uses torch, with the same neighbours"
    )


def test_another_package_of_our_name(install: dict[str, list[str]]) -> None:
    install["features"] = ["transfer-probe", "feature-farm"]
    finding = told("package features")
    assert (finding.state, finding.wrong) == ("also in feature-farm", True)
    assert "uninstall it" in finding.advice
    assert run().exit_code == 3


def test_gpus_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert told("gpu") == Finding("gpu", "card 0, card 1")


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_OFFLINE", "1")
    assert told("cache").advice == "PROBE_OFFLINE is set"


@pytest.mark.parametrize(
    ("decoder", "advised"), [("pillow", True), ("pillow, jpeg by torchcodec 0.17", False)]
)
def test_the_faster_decoder_is_advised(
    decoder: str, advised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.jpeg, "name", lambda: decoder)
    assert told("decoder").state == decoder
    assert ("transfer-probe[decode]" in told("decoder").advice) == advised
