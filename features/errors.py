"""The two ways a run can end that are not a bug.

Every message is one sentence: what, what was wrong with it, what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """The input cannot be used: nothing was changed, and only the user can mend it (exit 3)."""


class Stopped(RuntimeError):
    """The run ended part-way and everything done so far is kept: run it again to go on (exit 4)."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of a message about an unknown name: the names that were probably meant."""
    valid = list(valid)
    close = get_close_matches(name, valid, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    shown = ", ".join(valid[:12]) + (", ..." if len(valid) > 12 else "")
    if len(valid) > 12:
        return f"choose from {shown}"
    return f"choose from {shown}." if valid else "there are none."
