"""`probe report`: the report of a study."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import options, show


def _metrics() -> list[str]:
    from probe.results.metrics import CURVES

    return list(CURVES)


def report(
    study: options.Study = options.STUDY,
    metric: Annotated[
        list[str],
        typer.Option(
            "--metric",
            metavar="METRIC",
            help="Metric of the figures: accuracy, balanced, top5, one_off or mae; of numbers mae, rmse, "
            "r2 or spearman; of labels map, auc or macro_f1; repeatable.",
            callback=options.one_of(_metrics, "a metric"),
        ),
    ] = ["accuracy"],  # noqa: B006
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            metavar="COLUMN",
            help="Column whose values are subgroups; repeatable.",
            show_default="all of 2 to 12 values",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="A,B",
            help="Two results, as `probe compare` takes them, whose difference was asked for in advance; "
            "repeatable.",
        ),
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(
            "--published",
            metavar="FILE",
            help="Published numbers to stand first, beside this study's: paper, or a TOML file.",
        ),
    ] = None,
    shortened: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="What shortened this study; the page says it."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Draw the transferability curves: a page, figures (SVG, PNG, PDF) and tables.

    Example: probe report
    """
    from probe.reporting.as_data import as_data
    from probe.reporting.page.study_sections import PLANNED
    from probe.reporting.report import report as run

    with show.Progress("measuring distances", "layers") as progress:
        made = run(
            study,
            metric,
            by or (),
            progress,
            planned=[pair_of(pair) for pair in compare or ()],
            published=published,
            shortened=shortened or "",
        )
    for warning in made.contents.warnings:
        show.say(f"warning: {warning}")
    if json:
        show.put_json(as_data(made))
        return
    if (first := made.contents.first) is not None:
        for sentence in first.words:
            typer.echo(sentence)
        for table in first.tables:
            header = [column.title for column in table.shown]
            show.put_table(header, [table.cells(row) for row in table.rows])
    for section in made.contents.tasks:
        typer.echo(section.sentence)
        for question, words in section.facts:
            typer.echo(f"  {question} {words}")
        for sentence in (*section.answer, *section.findings):
            typer.echo(f"  {sentence}")
    for part in made.contents.more:
        if part.title == PLANNED:
            for sentence in part.words[1:]:
                typer.echo(sentence)
    if made.study.synthetic:
        typer.echo("SYNTHETIC: these images are drawn.")
    show.say(f"the report is {made.index}")


def pair_of(typed: str) -> tuple[str, str]:
    """The two results of `--compare A,B`."""
    from features.errors import OptionError

    names = [name.strip() for name in typed.split(",")]
    if len(names) != 2 or not all(names):
        raise OptionError(
            f"--compare {typed}: two results with a comma between them, such as vggface,caffenet."
        )
    return names[0], names[1]
