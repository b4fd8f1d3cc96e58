"""Groups of commands, whose help lists every command with its whole first sentence."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_INSTEAD = {
    (
        "fit",
        "--as",
    ): "a variant has no name of its own: `probe fit` says before it starts what it would "
    "replace, so copy the study's folder to keep both, or give --repeats N for the spread over folds.",
    (
        "fit",
        "--seeds",
    ): "--repeats N cross-validates on N drawings of the folds, and `probe extract "
    "--weights random --seeds N` draws N networks.",
    (
        "finetune",
        "--seeds",
    ): "--seed N trains from one other seed; copy the study's folder to keep both.",
}
"""What to give instead of an option that other commands or other tools have."""


class Group(TyperGroup):
    """A group that wraps the sentences of its commands and cuts none short."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an option that it does not have is answered with what does the same."""
        try:
            return super().invoke(ctx)
        except Exception as caught:
            error: Any = caught
            words = _INSTEAD.get((str(ctx.invoked_subcommand), getattr(error, "option_name", "")))
            if words is not None:
                error.message = f"No such option: {error.option_name}; {words}"
                error.possibilities = None
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command with the first paragraph of its help."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                first = (command.help or "").strip().split("\n\n")[0]
                rows.append((name, " ".join(first.split())))
        with formatter.section("Commands"):
            formatter.write_dl(rows)
