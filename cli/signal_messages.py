"""What the program says when a signal ends it."""

_KEPT = "what was done is kept, run the same command again to go on."
INTERRUPTED = f"interrupted; {_KEPT}"
TERMINATED = f"stopped by SIGTERM; {_KEPT}"

_GO_ON = ("extract", "fit", "finetune", "run", "demo", "weights")
"""The commands that keep what they did when they are ended, and go on from there."""


def ended(message: str, command: str | None) -> str:
    """`message` as it is true of a command: of most of them nothing is kept when they are ended."""
    if command in _GO_ON:
        return message
    return message.replace(_KEPT, "nothing of it is kept, run the same command again.")
