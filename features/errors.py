"""The two ways a run can end that are not a bug.

Every message is one sentence: what, what was wrong with it, what to do.
"""


class InputError(ValueError):
    """The input cannot be used: nothing was changed, and only the user can mend it (exit 3)."""


class Stopped(RuntimeError):
    """The run ended part-way and everything done so far is kept: run it again to go on (exit 4)."""
