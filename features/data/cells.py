"""The cells of a CSV file: a spreadsheet must not take a text for a formula.

A text that begins with `=`, `+`, `-` or `@` and is no number is written with an apostrophe before it, which
spreadsheets take as the sign of a text; it is read back as it was.
"""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_QUOTED = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def quoted(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula."""
    formula = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if formula else text


def unquoted(cell: str) -> str:
    """The text of a cell that `quoted` wrote."""
    return cell[1:] if _QUOTED.match(cell) else cell
