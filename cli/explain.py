"""`probe explain`: a word of the toolkit, explained."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import completion


def explain(
    word: Annotated[
        str | None,
        typer.Argument(
            metavar="WORD",
            help="A word of the report or of a help; without one, all are explained.",
            autocompletion=completion.words,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Explain a word of the report: array, pooling, best, floor, cut and the like.

    Example: probe explain best
    """
    import shutil
    import textwrap

    from probe.glossary import explained, glossary

    wide = max(40, min(shutil.get_terminal_size().columns, 100)) - 4
    for name, text in (glossary() if word is None else {word: explained(word)}).items():
        typer.echo(f"{name}\n{textwrap.indent(textwrap.fill(text, wide), '  ')}")
