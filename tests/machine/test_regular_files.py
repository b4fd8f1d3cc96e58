from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
from published import write_card
from toys import write_images
from typer.testing import CliRunner

from cli.app import app
from features.errors import InputError
from features.machine.regular_files import NOT_A_FILE
from features.weights.converted import folder_of, kept
from probe.exported.file import read as read_export

ROOT = Path(__file__).parents[2]
PLAIN = re.compile(r"""\.open\("rb"\)|\bopen\([^)]*"rb"|\.read_bytes\(|\.read_text\(""")
OWN = ("features/sample/", "features/weights/fetch.py", "features/formats/sandbox.py",
       "probe/reporting/page/page.py", "probe/glossary.py")  # fmt: skip
"""Which read only what the toolkit itself has written just before, or what comes with it."""


def put(kind: str, path: Path) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        here = Path.cwd()
        os.chdir(path.parent)  # the address of a socket may have no more than 107 bytes
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
        os.chdir(here)
    return path


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_weights_and_exports_that_are_no_files_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "home"))
    card, path = write_card(tmp_path), put(kind, tmp_path / "weights")
    extract = [
        "extract",
        "--data",
        write_images(tmp_path / "images", 4),
        "--study",
        tmp_path / "s",
        "--backbone",
        card,
    ]
    for words in (["weights", "add", card, path], [*extract, "--weights", path]):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 3, (result.output, result.exception)
        assert f"error: {path}: {NOT_A_FILE}; give a file" in result.stderr
    assert not (tmp_path / "s").exists()
    with pytest.raises(InputError, match="not an export"):
        read_export(path)
    put(kind, folder_of("mini") / "x.safetensors")
    assert [weights.format for weights in kept("mini")] == ["damaged"]


def test_every_file_is_read_through_the_one_door() -> None:
    plain = [
        f"{file.relative_to(ROOT)}:{number}"
        for wing in ("features", "probe", "cli")
        for file in sorted((ROOT / wing).rglob("*.py"))
        if not str(file.relative_to(ROOT)).startswith(OWN)
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if PLAIN.search(line)
    ]
    assert not plain
