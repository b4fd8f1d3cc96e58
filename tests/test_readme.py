"""The READMEs are held to the program: help, examples, the Python example, the map of the folders.

`UPDATE=1 pytest tests/test_readme.py` writes the help and the map, and keeps the rest.
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
FRONT, COMMANDS_PAGE, FEATURES_PAGE = (
    ROOT / name for name in ("README.md", "cli/README.md", "features/README.md")
)
PAGES = (
    FRONT,
    COMMANDS_PAGE,
    FEATURES_PAGE,
    ROOT / "probe/README.md",
    ROOT / "tests/bench/README.md",
)
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


def phrase_of(path: Path) -> str:
    """The first paragraph of a file's docstring."""
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").strip()
    assert text, f"{path.relative_to(ROOT)}: say in its docstring what the file holds"
    return " ".join(text.split("\n\n")[0].split())


def rendered_map() -> str:
    """Every folder and every file that stands beside the folders, with a phrase each."""
    lines = ["```text"]
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            phrase = phrase_of(path)
            name = path.relative_to(ROOT)
            if path.name == "__init__.py":
                lines.append(f"{f'{name.parent}/':<28} {phrase}")
            elif len(name.parts) == 2 and package != "cli":
                lines.append(f"{name!s:<28} {phrase}")
    return "\n".join([*lines, "```"])


@pytest.mark.parametrize(
    ("page", "mark", "rendered"),
    [(COMMANDS_PAGE, "help", rendered_help), (FRONT, "tree", rendered_map)],
    ids=["help", "map"],
)
def test_the_readmes_are_the_programs(page: Path, mark: str, rendered: Callable[[], str]) -> None:
    if mark == "help" and not typer.__version__.startswith("0.29."):
        pytest.skip("help is worded by typer 0.29; this is another version")
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(start)
    _, after = rest.split(end)
    wanted = f"{before}{start}\n\n{rendered()}\n\n{end}{after}"
    if os.environ.get("UPDATE"):
        page.write_text(wanted, encoding="utf-8")
    assert text == wanted or os.environ.get("UPDATE")


def test_the_front_page_is_short() -> None:
    assert len(FRONT.read_text(encoding="utf-8").splitlines()) <= 220


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_that_parses(command: str) -> None:
    example = re.search(r"Example: probe (.*?)\n\n", help_of(command), re.DOTALL)
    assert example is not None
    words = shlex.split(" ".join(example[1].split()))
    assert " ".join(words).startswith(command)
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    from probe import extract

    extract("study", "sample-faces", data="sample", layers=["conv3", "fc6"], limit=150)
    (example,) = code_blocks(FRONT, "python")
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "depth.png").stat().st_size > 1000


def test_the_card_in_the_readme_is_valid(tmp_path: Path) -> None:
    from features.backbone import architecture_of
    from features.cards.reading import read_file

    card = code_blocks(FEATURES_PAGE, "toml")[0]
    path = tmp_path / "mine.toml"
    path.write_text(card)
    assert [layer.name for layer in architecture_of(read_file(path)).layers]


def anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, section = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if section:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert section in [anchor(title) for title in titles], target


def test_paths_in_the_readmes_are_there() -> None:
    for page in PAGES:
        for name in re.findall(
            r"\b((?:probe|features|cli|tests)/[\w/]+\.py)\b", page.read_text("utf-8")
        ):
            assert (ROOT / name).is_file(), f"{page.name}: {name}"
