"""Names and values as a small table in HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape


def html_table(told: Mapping[str, str]) -> str:
    """A table of two columns: names, and what is told of each."""
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in told.items()
    )
    return f"<table>{cells}</table>"
