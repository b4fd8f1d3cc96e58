"""Imports go one way, the top level holds what it should, and help needs no PyTorch."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "features": {"features"},
    "probe": {"probe", "features"},
    "cli": {"cli", "probe", "features"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        ours = {name.split(".")[0] for name in imports(path)} & set(MAY_IMPORT)
        assert ours <= MAY_IMPORT[package], path


def test_the_library_never_prints() -> None:
    for package in ("features", "probe"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name == "pretrain.py":  # a script, run by hand
                continue
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), (
                path
            )


def tracked_files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    if not any(listed):
        pytest.skip("not a git checkout")
    return listed


def test_whatever_is_no_code_goes_into_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packed = settings["tool"]["setuptools"]["package-data"]
    for name in tracked_files():
        package, _, inner = name.partition("/")
        if package in MAY_IMPORT and not name.endswith(".py"):
            assert any(Path(inner).match(pattern) for pattern in packed[package]), name


def test_top_level_holds_three_packages_and_tests() -> None:
    tracked = tracked_files()
    top = {name.split("/")[0] for name in tracked if name and not name.startswith(".")}
    assert top == {"probe", "cli", "features", "tests", "pyproject.toml", "README.md", "LICENSE"}


HEAVY = {"torch", "torchvision", "sklearn", "h5py", "numpy", "matplotlib", "faiss"}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['probe', '--help']\n"
        "from cli.app import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print(sorted(set(sys.modules) & {HEAVY!r}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "extract" in done.stdout
