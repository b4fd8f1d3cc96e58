"""Options that commands share are spelt and told of alike in every one of them."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.testing import CliRunner

from cli.app import app

SHARED = {"--study", "--seed", "--device", "--folds", "--redo", "--json", "--data", "--task"}


def options_of() -> dict[str, dict[str, str | None]]:
    """The help of every option, by command."""
    group = typer.main.get_command(app)
    commands = dict(getattr(group, "commands", {}))
    for name, inner in list(commands.items()):
        for sub, command in getattr(inner, "commands", {}).items():
            commands[f"{name} {sub}"] = command
    return {
        name: {
            option: getattr(parameter, "help", None)
            for parameter in command.params
            for option in parameter.opts
            if option.startswith("--")
        }
        for name, command in commands.items()
    }


def test_a_shared_option_has_one_help() -> None:
    told: dict[str, set[str | None]] = {}
    for options in options_of().values():
        for option in SHARED & options.keys():
            told.setdefault(option, set()).add(options[option])
    # Several tasks of a fine-tune share a network, the demo has a folder of its own, and some
    # commands use several devices.
    several = {option for option, helps in told.items() if len(helps) > 1}
    assert several <= {"--task", "--study", "--device"}


def test_the_older_spelling_of_what_repeats_works() -> None:
    for command in ("extract", "fit", "finetune"):
        options = options_of()[command]
        assert {"--view", "--views"} <= options.keys()


def test_a_wrong_view_is_named_by_the_option_as_it_is_spelt_today(tmp_path: Path) -> None:
    words = ["extract", "-b", "sample-faces", "--data", "sample", "--view", "5crop"]
    result = CliRunner().invoke(app, [*words, "--study", str(tmp_path / "study")])
    assert result.exit_code == 3
    assert "--view 5crop: not a view" in result.output
