"""`probe doctor`: what this machine has and what is wrong with the install."""

from __future__ import annotations

import typer

from cli import options, show


def doctor(json: options.Json = False) -> None:
    """Show what this machine has (GPU, faiss, timm), and what is wrong with the install.

    Exits with 3 if something is wrong.

    Example: probe doctor
    """
    from features.doctor import examine

    findings = examine()
    if json:
        show.put_json(findings)
    else:
        show.put_table(["what", "state", ""], [[f.what, f.state, f.advice] for f in findings])
    if any(f.wrong for f in findings):
        raise typer.Exit(3)
