"""The notebook of ten cells: it runs, and every output is short, drawn or a small table.

`KEEP=FILE.html pytest tests/notebook/test_cells.py` writes the cells with their outputs, to be looked at.
"""

from __future__ import annotations

import ast
import os
import re
from html import escape
from pathlib import Path
from typing import Any

import pytest

CELLS = Path(__file__).parent / "cells.py"


def output_of(cell: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last expression."""
    tree = ast.parse(cell)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def shown(value: Any) -> str:
    """As a notebook shows it."""
    if hasattr(value, "_repr_html_"):
        made = value._repr_html_()
        if made is not None:
            return str(made)
    if hasattr(value, "savefig"):
        from probe.reporting.charts.figure_frame import render

        return render(value, "svg").decode()
    return f"<pre>{escape(repr(value))}</pre>"


def test_ten_cells_run_and_show_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = os.environ.get("KEEP")
    kept = Path(keep).absolute() if keep else None
    monkeypatch.chdir(tmp_path)
    cells = CELLS.read_text(encoding="utf-8").split("# %% ")[1:]
    assert len(cells) == 10
    names: dict[str, Any] = {}
    values, pages = [], []
    for cell in cells:
        title, _, code = cell.partition("\n")
        values.append(output_of(code, names))
        pages.append(f"<h3>{escape(title)}</h3><pre>{escape(code)}</pre>{shown(values[-1])}")
    if kept is not None:
        kept.write_text("<meta charset=utf-8>" + "\n<hr>".join(pages), encoding="utf-8")
    for value, page in zip(values, pages, strict=True):
        assert len(repr(value)) < 800, repr(value)
        assert not re.search(r" at 0x[0-9a-f]{6}", repr(value))
        if "<svg" not in page and "sk-container" not in page:  # of scikit-learn
            assert len(page) < 12_000
    study, results, _, features, curve, figure, _, _, probe, predictions = values
    assert "100 of " in repr(features)
    assert {"light"} == set(results["task"])
    assert "<svg" in curve._repr_html_()
    assert figure.axes
    assert probe.classes == study.tasks["light"].classes
    assert len(predictions) == 4
