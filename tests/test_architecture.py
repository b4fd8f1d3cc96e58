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


# Every wing may import those before it, and nothing else.
WINGS = [
    "features.errors",
    "features.arrays",
    "features.keywords",
    "features.machine",
    "features.networks",
    "features.caffe",
    "features.sample",
    "features.store",
    "features.formats",
    "features.cards",
    "features.data",
    "features.study",
    "features.images",
    "features.weights",
    "features.backbone",
    "features.doctor",
    "features.extraction",
    "probe.counts",
    "probe.glossary",
    "probe.html_table",
    "probe.folds",
    "probe.probes",
    "probe.checking",
    "probe.results",
    "probe.analysis",
    "probe.fitting",
    "probe.scoring",
    "probe.training",
    "probe.finetuning",
    "probe.exported",
    "probe.sklearn",
    "probe.reporting.charts",
    "probe.reporting.tables",
    "probe.reporting.page",
    "probe.reporting",
    "probe.notebook",
    "probe.demo",
]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def wing_of(module: str) -> str:
    """The folder of a module, or a file that stands beside the folders."""
    return module if module in WINGS else module.rpartition(".")[0]


def modules_imported(path: Path) -> set[str]:
    """Our own modules that a file imports anywhere, inside functions too."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in MAY_IMPORT:
            for alias in node.names:
                inner = ROOT / f"{node.module}.{alias.name}".replace(".", "/")
                is_module = inner.is_dir() or inner.with_suffix(".py").exists()
                modules.add(f"{node.module}.{alias.name}" if is_module else str(node.module))
        elif isinstance(node, ast.Import):
            modules |= {a.name for a in node.names if a.name.split(".")[0] in MAY_IMPORT}
    return modules


def sources() -> list[Path]:
    """The files of the library, but the package's front, which names what is deeper inside."""
    found = [path for package in ("features", "probe") for path in (ROOT / package).rglob("*.py")]
    return [path for path in found if path != ROOT / "probe" / "__init__.py"]


def test_a_wing_imports_only_those_before_it() -> None:
    for path in sources():
        own = wing_of(module_of(path))
        if own == "features":
            continue
        for module in modules_imported(path):
            assert WINGS.index(wing_of(module)) <= WINGS.index(own), f"{path}: {module}"


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {module_of(path): modules_imported(path) for path in sources()}
    while True:
        free = [name for name, needs in graph.items() if not needs & set(graph) - {name}]
        if not free:
            break
        for name in free:
            del graph[name]
    assert not graph


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
        if package in MAY_IMPORT and not name.endswith((".py", "README.md")):
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
