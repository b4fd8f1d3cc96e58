"""`probe run`: a whole study from one file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show

if TYPE_CHECKING:
    from collections.abc import Collection

    from cli.run_file import Step

_STUDIES = Path(__file__).parent / "studies"


def _shipped() -> list[str]:
    return sorted(path.stem for path in _STUDIES.glob("*.toml"))


def run(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A TOML file, or `paper`, the paper's study.")
    ],
    data: options.Data = None,
    study: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The study's folder.", show_default="as in the file"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Shorten it: extract only N rows.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Shorten it: train for N epochs.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE", help="Of extract, fit and finetune.", show_default="as each chooses"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processes that extract.", show_default="as it chooses"),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show the commands and what is missing; change nothing.")
    ] = False,
) -> None:
    """Make a whole study from one file: extract, fit, finetune and report.

    A table of the file is a command, a key its long option, a list that option repeated; `each` makes
    a command of every choice. Every option is read before the first command runs. What is there is
    kept; killed anywhere, the same command goes on.

    Example: probe run paper --data adience:/data/adience --plan
    """
    from cli.run_file import read_run_file, with_option
    from features.errors import InputError, nearest
    from features.study.study import has_study

    commands: Any = getattr(context.find_root().command, "commands", {})
    known = {name: _long_options(command) for name, command in commands.items()}
    path = _STUDIES / f"{file}.toml" if file in _shipped() else Path(file)
    if not path.is_file():
        raise InputError(f"{file}: there is no such file; {nearest(file, _shipped())}")
    made = read_run_file(path, known)
    for names, name, value in (
        (("extract",), "limit", limit),
        (("extract",), "workers", workers),
        (("finetune",), "epochs", epochs),
        (("extract", "fit", "finetune"), "device", device),
    ):
        if value is not None:
            made = with_option(made, names, name, value)
    folder = study or made.study
    if (data or made.data) is None and not has_study(folder):
        raise InputError(
            f'{file}: names no data for the new study {folder}; give --data, or write data = "DIR" above '
            "its tables."
        )
    steps = [_in_folder(step, folder) for step in made.steps]
    for step in steps:
        _check(commands[step.command], step)
    lacking = {name: words for step in steps for name, words in _lacking(step).items()}
    for words in lacking.values():
        show.say(f"missing: {words}")
    if lacking and path.parent != _STUDIES and not plan:
        step, words = next((s, w) for s in steps for w in _lacking(s).values())
        raise InputError(f"{step.where}: {words}.")
    # A study that ships goes on without what is missing, whose rows stay blank.
    steps = [left for step in steps if (left := _without(step, lacking)) is not None]
    commands_left = {step.command for step in steps}
    if "extract" not in commands_left and any(s.command == "extract" for s in made.steps):
        show.say("missing: weights of every backbone to extract, so nothing is extracted or fitted")
        steps = [step for step in steps if step.command != "fit"]
    for step in _with_data(steps, data or made.data):
        if plan:
            typer.echo(f"probe {shlex.join(step.words)}")
            continue
        show.say(f"probe {shlex.join(step.words)}")
        name = f"probe {step.command}"
        ended = commands[step.command].main(step.words[1:], prog_name=name, standalone_mode=False)
        if ended:
            raise typer.Exit(ended)


def _long_options(command: Any) -> list[str]:
    return [
        name.removeprefix("--")
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--")
    ]


def _in_folder(step: Step, study: Path) -> Step:
    from dataclasses import replace

    return replace(step, options={"study": str(study), **step.options})


def _with_data(steps: list[Step], data: str | None) -> list[Step]:
    """The steps, of which the one that begins the study names its data; the others find it there."""
    from dataclasses import replace

    begins = next((s for s in steps if s.command in ("extract", "finetune")), None)
    if data is None or begins is None:
        return steps
    return [
        replace(step, options={**step.options, "data": data}) if step is begins else step
        for step in steps
    ]


def _check(command: Any, step: Step) -> None:
    """Read the options as the command does, without running it.

    Raises:
        InputError: A value is not one that the option takes.
    """
    from features.errors import InputError

    wrong: Any = (
        typer.BadParameter.__base__
    )  # of every error of a command line; Typer does not name it
    try:
        command.make_context(f"probe {step.command}", step.words[1:])
    except wrong as error:
        raise InputError(f"{step.where}: {error.format_message()}") from error


def _lacking(step: Step) -> dict[str, str]:
    """How to get the weights that a step needs and that are not here, by backbone."""
    from features.cards.reading import shipped
    from features.weights import lacking

    if step.command not in ("extract", "finetune") or "from-scratch" in step.options:
        return {}
    given = [str(value) for value in _several(step, "weights")]
    missing = {}
    for name in map(str, _several(step, "backbone")):
        own = [v.rpartition("=")[2] for v in given if "=" not in v or v.partition("=")[0] == name]
        gone = [v for v in own if v != "random" and not Path(v.partition("#")[0]).exists()]
        card = None if own or name.startswith("control:") else shipped().get(name)
        if gone:
            missing[name] = f"{gone[0]}: there is no such weights file"
        elif card is not None and (words := lacking(card)) is not None:
            missing[name] = words
    return missing


def _without(step: Step, lacking: Collection[str]) -> Step | None:
    """The step without the backbones that lack their weights; None where none is left."""
    from dataclasses import replace

    if step.command == "report":
        pairs = [
            pair
            for pair in _several(step, "compare")
            if not any(name.split("/")[0].strip() in lacking for name in pair.split(","))
        ]
        options = {name: value for name, value in step.options.items() if name != "compare"}
        return replace(step, options=options | ({"compare": pairs} if pairs else {}))
    if not set(_lacking(step)) & set(lacking):
        return step
    left = [name for name in _several(step, "backbone") if name not in lacking]
    return replace(step, options={**step.options, "backbone": left}) if left else None


def _several(step: Step, name: str) -> list[Any]:
    value = step.options.get(name, [])
    return value if isinstance(value, list) else [value]
