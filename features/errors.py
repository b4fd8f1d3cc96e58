"""The errors that are not bugs.

Every message is one sentence: what, what was wrong with it, what to do.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class InputError(ValueError):
    """The input cannot be used; nothing was changed, and the user must correct it (exit 3)."""


class OptionError(InputError):
    """An option has a value that it takes for no input at all: the command line is wrong (exit 2)."""


class Stopped(RuntimeError):
    """The run ended early; finished work is kept, and the same command continues it (exit 4)."""


def first_line(error: BaseException, most: int = 160) -> str:
    """The beginning of what a library's error says, on one line; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:most] if lines else type(error).__name__


def whole_sentence(error: BaseException) -> str:
    """What one of the errors above says, whole; of a library's error its first line."""
    return str(error) if isinstance(error, (InputError, Stopped)) else first_line(error, 400)


def in_words(names: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of a message about an unknown name: similar valid names, or all of them."""
    valid = list(valid)
    close = get_close_matches(name, valid, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    shown = ", ".join(valid[:12]) + (", ..." if len(valid) > 12 else "")
    if len(valid) > 12:
        return f"choose from {shown}"
    return f"choose from {shown}." if valid else "there are none."
