"""What the shell completes: backbones, layers, tasks and results of the study at hand, and cards.

A shell asks while a person types, so that nothing here may fail or print: what cannot be read completes to
nothing. `probe --install-completion` sets it up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from features.study.study import Study

Complete = Callable[[typer.Context, str], list[str]]


def _of_study(names: Callable[[Study, typer.Context], Iterable[str]]) -> Complete:
    """A completion by names that the study of the command line has."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        with suppress(Exception):
            from features.study.study import open_study

            given = ctx.params.get("study") or os.environ.get("PROBE_STUDY") or "study"
            study = open_study(Path(str(given)))
            return [
                name for name in dict.fromkeys(names(study, ctx)) if name.startswith(incomplete)
            ]
        return []

    return complete


def _backbones(study: Study, _ctx: typer.Context) -> Iterable[str]:
    return study.backbones()


def _layers(study: Study, ctx: typer.Context) -> Iterable[str]:
    """Those of the backbones on the command line, or of all."""
    given = ctx.params.get("backbone") or study.backbones()
    for backbone in [given] if isinstance(given, str) else given:
        with study.features(backbone) as file:
            yield from (file.about(key)["layer"] for key in file.keys)


def _tasks(study: Study, _ctx: typer.Context) -> Iterable[str]:
    return study.tasks


def _results(study: Study, _ctx: typer.Context) -> Iterable[str]:
    from probe.analysis.compare import typed_name
    from probe.results.rows import read

    return (typed_name(row) for row in read(study.folder / "results.csv"))


def cards(_ctx: typer.Context, incomplete: str) -> list[str]:
    """The cards of the package."""
    with suppress(Exception):
        from features.cards.reading import shipped

        return [name for name in shipped() if name.startswith(incomplete)]
    return []


def words(incomplete: str) -> list[str]:
    """The words of the glossary."""
    with suppress(Exception):
        from probe.glossary import glossary

        return [word for word in glossary() if word.startswith(incomplete)]
    return []


backbones = _of_study(_backbones)
layers = _of_study(_layers)
tasks = _of_study(_tasks)
results = _of_study(_results)
