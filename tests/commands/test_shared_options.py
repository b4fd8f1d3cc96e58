"""Options that commands share are spelt and told of alike in every one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.app import app
from probe.probes.methods import METHODS
from probe.results.metrics import CURVES

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
    assert result.exit_code == 2
    assert "--view 5crop: not a view" in result.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("fit --probe rigde", "rigde: not a probe; did you mean ridge?"),
        ("fit --probe svm -p lr", "lr: not a probe; choose from logistic, svm, ridge, knn."),
        ("fit --scale l3", "l3: not a scaling; did you mean l2?"),
        ("fit --solver gird", "gird: not a solver; did you mean grid?"),
        (
            "finetune -b sample-faces --recipe gilnett",
            "gilnett: not a recipe; did you mean gilnet?",
        ),
        ("report --metric acuracy", "acuracy: not a metric; did you mean accuracy"),
    ],
)
def test_a_name_that_no_study_could_have_is_a_wrong_command_line(words: str, told: str) -> None:
    """Whatever the study holds: it is not opened. What a study might have ends with 3."""
    result = CliRunner().invoke(app, [*words.split(), "--study", "nowhere"])
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
    assert CliRunner().invoke(app, ["fit", "--study", "nowhere", "--task", "agee"]).exit_code == 3


def test_the_help_names_every_probe_and_every_metric_with_curves() -> None:
    probes, metrics = options_of()["fit"]["--probe"], options_of()["report"]["--metric"]
    assert probes is not None
    assert metrics is not None
    assert all(name in probes for name in METHODS)
    named = metrics.removeprefix("Metric of the figures: ").removesuffix("; repeatable.")
    words = (
        named.replace(" or ", ", ")
        .replace("; of numbers ", ", ")
        .replace("; of labels ", ", ")
        .split(", ")
    )
    assert set(words) == set(CURVES)


def test_every_command_stands_in_a_file_of_its_name() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert command.callback.__module__.removeprefix("cli.").rstrip("_") == command.name
