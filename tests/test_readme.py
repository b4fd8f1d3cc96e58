"""The README is held to the program: help, examples, the Python example, the file tree.

`UPDATE=1 pytest tests/test_readme.py` writes the help and keeps the rest.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.app import app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
START, END = "<!-- help -->", "<!-- /help -->"
COMMANDS = [str(command.name) for command in app.registered_commands]


def help_of(command: str) -> str:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "90", "TERM": "dumb"})
    assert result.exit_code == 0
    return result.output.replace("Usage: root", "Usage: probe").strip()


def rendered() -> str:
    blocks = [f"```text\n{help_of(command)}\n```" for command in COMMANDS]
    return "\n\n".join(blocks)


def test_help_in_the_readme_is_the_programs() -> None:
    if not typer.__version__.startswith("0.29."):
        pytest.skip("help is worded by typer 0.29; this is another version")
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    wanted = f"{before}{START}\n\n{rendered()}\n\n{END}{after}"
    if os.environ.get("UPDATE"):
        README.write_text(wanted, encoding="utf-8")
    assert text == wanted or os.environ.get("UPDATE")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_that_parses(command: str) -> None:
    example = re.search(r"Example: probe (.*?)\n\n", help_of(command), re.DOTALL)
    assert example is not None
    words = shlex.split(" ".join(example[1].split()))
    assert words[0] == command
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    from probe import extract

    extract("study", "sample-faces", data="sample", layers=["conv3", "fc6"], limit=150)
    (example,) = code_blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "depth.png").stat().st_size > 1000


def test_the_card_in_the_readme_is_valid(tmp_path: Path) -> None:
    from features.backbone import architecture_of
    from features.card import read_file

    (card,) = code_blocks("toml")
    path = tmp_path / "mine.toml"
    path.write_text(card)
    assert [layer.name for layer in architecture_of(read_file(path)).layers]


def test_the_file_tree_names_every_file_and_no_other() -> None:
    tree = README.read_text(encoding="utf-8").split("## Where things are")[1].split("\n## ")[0]
    named = set(re.findall(r"^    (\S+\.py)", tree, re.MULTILINE))
    there = {
        str(path.relative_to(ROOT))
        for package in ("features", "probe", "cli")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert named == there


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
