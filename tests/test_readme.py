"""The README is held to the program: help, examples, the Python example, the file tree.

`UPDATE=1 pytest tests/test_readme.py` writes the help and the file tree, and keeps the rest.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.app import app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PACKAGES = ("features", "probe", "cli")


def commands_of(group: typer.Typer, *before: str) -> list[str]:
    """Every command as a person types it, those of groups after the single ones."""
    names = [" ".join((*before, str(command.name))) for command in group.registered_commands]
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        names += commands_of(inner.typer_instance, *before, str(inner.name))
    return names


COMMANDS = commands_of(app)


def help_of(command: str) -> str:
    result = CliRunner().invoke(
        app, [*command.split(), "--help"], env={"COLUMNS": "90", "TERM": "dumb"}
    )
    assert result.exit_code == 0
    return result.output.replace("Usage: root", "Usage: probe").strip()


def rendered_help() -> str:
    return "\n\n".join(f"```text\n{help_of(command)}\n```" for command in COMMANDS)


def rendered_tree() -> str:
    """Every file with the first sentence of its docstring."""
    lines = ["```text"]
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            said = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").strip()
            assert said, f"{name}: say in its docstring what the file holds"
            if path.name == "__init__.py":
                name = name.removesuffix("__init__.py")
            lines.append(f"{name:<35} {' '.join(said.split(chr(10) * 2)[0].split())}")
    return "\n".join([*lines, "```"])


@pytest.mark.parametrize(("mark", "rendered"), [("help", rendered_help), ("tree", rendered_tree)])
def test_the_readme_is_the_programs(mark: str, rendered: Callable[[], str]) -> None:
    if mark == "help" and not typer.__version__.startswith("0.29."):
        pytest.skip("help is worded by typer 0.29; this is another version")
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(start)
    _, after = rest.split(end)
    wanted = f"{before}{start}\n\n{rendered()}\n\n{end}{after}"
    if os.environ.get("UPDATE"):
        README.write_text(wanted, encoding="utf-8")
    assert text == wanted or os.environ.get("UPDATE")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_that_parses(command: str) -> None:
    example = re.search(r"Example: probe (.*?)\n\n", help_of(command), re.DOTALL)
    assert example is not None
    words = shlex.split(" ".join(example[1].split()))
    assert " ".join(words).startswith(command)
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
    from features.cards.card import read_file

    (card,) = code_blocks("toml")
    path = tmp_path / "mine.toml"
    path.write_text(card)
    assert [layer.name for layer in architecture_of(read_file(path)).layers]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
