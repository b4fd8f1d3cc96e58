"""`probe run`: a whole study from one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.planned import Asked
    from cli.run_file import RunFile, Step

_STUDIES = Path(__file__).parent / "studies"
_STAND_IN = "-stand-in"


def _shipped() -> list[str]:
    return sorted(path.stem for path in _STUDIES.glob("*.toml"))


def run(
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="A TOML file, or a study that ships: paper is the paper's."
        ),
    ] = None,
    data: options.Data = None,
    study: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The study's folder.", show_default="as in the file"),
    ] = None,
    stand_in: Annotated[
        bool,
        typer.Option("--stand-in", help="Of paper: with small networks, as UTKFace's faces take."),
    ] = False,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE|random", help="Where the weights of a backbone lie; repeatable."
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A backbone of the file to leave out; repeatable."),
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
    trust: options.Trust = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Show what is kept and to do, its bytes and time; change nothing."
        ),
    ] = False,
    from_study: Annotated[
        Path | None,
        typer.Option(
            "--from-study",
            metavar="DIR",
            help="Write into FILE what makes the study in DIR, and run nothing.",
        ),
    ] = None,
) -> None:
    """Make a whole study from one file: extract, fit, finetune and report.

    A table of the file is a command, a key its long option, a list that option repeated; `each` makes
    a command of every choice. Every table is checked before the first command runs. What is there is
    kept; killed anywhere, the same command goes on.

    Example: probe run paper --data adience:/data/adience --plan
    """
    from cli import planned, run_file
    from cli.run_weights import possible, with_weights
    from features.errors import InputError, OptionError
    from features.study.drafting import open_or_draft
    from features.study.study import has_study

    if from_study is not None:
        _write_file(Path(file or f"{from_study.resolve().name}.toml"), from_study)
        return
    if file is None:
        raise OptionError("FILE: give a TOML file, or paper for the paper's study.")
    commands: Any = getattr(context.find_root().command, "commands", {})
    made = _read(file, stand_in, commands)
    shortened = [f"--{n} {v}" for n, v in (("limit", limit), ("epochs", epochs)) if v is not None]
    for names, name, value in (
        (("extract",), "limit", limit),
        (("extract",), "workers", workers),
        (("finetune",), "epochs", epochs),
        (("extract", "fit", "finetune"), "device", device),
        (("report",), "shortened", " and ".join(shortened) or None),
    ):
        if value is not None:
            made = with_option(made, names, name, value)
    folder = study or made.study
    if (data or made.data) is None and not has_study(folder):
        raise InputError(
            f'{file}: names no data for the new study {folder}; give --data, or write data = "DIR" above '
            "its tables."
        )
    asked_for = run_file.without(made.steps, without) if without else made.steps
    extracts = [any(one.command == "extract" for one in some) for some in (made.steps, asked_for)]
    if extracts == [True, False] and not has_study(folder):
        raise OptionError(f"--without {' --without '.join(without or [])}: leaves nothing to do.")
    steps = [_in_folder(step, folder) for step in with_weights(asked_for, weights or [])]
    for step in steps:
        _params(commands[step.command], step)
    steps = _with_data(
        possible(steps, ships=f"{file}{_STAND_IN if stand_in else ''}" in _shipped(), plan=plan),
        data or made.data,
    )
    asked: list[Asked] = [(step, _params(commands[step.command], step)) for step in steps]
    opened, _ = open_or_draft(folder, _spec(asked))
    if plan:
        show.say("planning; of every network whose time is not known here, a few batches are timed")
    with show.Progress("planning", "") as shown:
        foreseen = planned.plan(opened, asked, exactly=plan, shown=shown)
    if plan:
        for line in planned.said(foreseen, folder):
            typer.echo(line)
        return
    for step in steps:
        show.say(f"probe {step.typed}")
        _typed(commands[step.command], step)


def _typed(command: Any, step: Step) -> None:
    """Run a command as it is typed; signals and refusals are the whole run's to tell of.

    Raises:
        Exit: The command ended with another code than 0.
    """
    try:
        with command.make_context(f"probe {step.command}", list(step.words[1:])) as context:
            command.invoke(context)
    except typer.Exit as ended:
        if ended.exit_code:
            raise


def with_option(made: RunFile, commands: Sequence[str], name: str, value: Any) -> RunFile:
    """The run with an option of the command line set in every step of `commands`."""
    from dataclasses import replace

    steps = [
        replace(step, options={**step.options, name: value}) if step.command in commands else step
        for step in made.steps
    ]
    return replace(made, steps=tuple(steps))


def _read(file: str, stand_in: bool, commands: Any) -> RunFile:
    """The file of this path, or the study of this name that ships.

    Raises:
        InputError: There is none, or it cannot be used.
    """
    from cli.run_file import read_run_file
    from features.errors import InputError, OptionError, nearest

    if stand_in and f"{file}{_STAND_IN}" not in _shipped():
        raise OptionError(f"--stand-in: {file} has none; only paper does.")
    name = f"{file}{_STAND_IN}" if stand_in else file
    path = _STUDIES / f"{name}.toml" if name in _shipped() else Path(name)
    if not path.is_file():
        raise InputError(f"{file}: there is no such file; {nearest(file, _shipped())}")
    return read_run_file(path, {n: _long_options(command) for n, command in commands.items()})


def _write_file(file: Path, study: Path) -> None:
    """Write the file that makes a study."""
    from features.errors import InputError
    from features.machine.files import write_text
    from probe.reporting.as_file import file_of

    if file.exists():
        raise InputError(f"{file}: is there already; name another file, or remove it.")
    text, notes = file_of(study)
    write_text(file, text)
    for note in notes:
        show.say(f"note: {note}")
    show.say(f"{file} makes this study; `probe run {file} --plan` shows how")


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


def _spec(asked: Sequence[Asked]) -> str | None:
    """The data as `read_data` takes them: those of the step that begins the study."""
    given = next((params for step, params in asked if "data" in step.options), None)
    if given is None:
        return None
    names = ("faces", "labels", "levels", "path_column", "root", "extension", "missing", "columns")
    return options.data_with(given["data"], **{name: given.get(name) for name in names})


def _params(command: Any, step: Step) -> dict[str, Any]:
    """The options as the command reads them, by the names of its parameters; nothing runs.

    Raises:
        InputError: A value is not one that the option takes.
    """
    from features.errors import InputError

    wrong: Any = (
        typer.BadParameter.__base__
    )  # of every error of a command line; Typer does not name it
    try:
        made = command.make_context(f"probe {step.command}", step.words[1:])
    except wrong as error:
        raise InputError(f"{step.where}: {error.format_message()}") from error
    return dict(made.params)
