"""What a layer may be called in a study, in commands and in tables."""

from __future__ import annotations

from unicodedata import category

WORDS = ("all", "best")
"""Which say something else where a layer is named: every layer, and the one chosen inside the folds."""
_PLACES = ("", ".", "..")


def may_be_called(name: str) -> bool:
    """Whether a layer may have this name: no word of another meaning, without `/`, `:` and controls."""
    return name == layer_name(name)


def layer_name(name: str) -> str:
    """The name of the layer that reads a module or a tensor called `name`.

    `/` and `:` are written `.`, and control characters, as a NUL, `_`; another `_` follows a word that has
    a meaning of its own.
    """
    written = "".join("." if c in "/:" else "_" if category(c) in ("Cc", "Cs") else c for c in name)
    return f"{written}_" if written in (*WORDS, *_PLACES) else written
