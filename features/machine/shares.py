"""A share of a command's work, as one of several processes takes it: `0/3`, `1/3` and `2/3`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from features.errors import OptionError

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Every `of`-th piece of work, from `number` on."""

    number: int
    """From 0."""
    of: int

    def __str__(self) -> str:
        """As it is typed: `0/3`."""
        return f"{self.number}/{self.of}"

    def taken(self, work: Sequence[T]) -> Sequence[T]:
        """The pieces of this share."""
        return work[self.number :: self.of]


def share_of(text: str) -> Share:
    """The share called `text`.

    Raises:
        OptionError: It is none.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise OptionError(
            f"--share {text}: write I/N, share I of N counted from 0, such as 0/3, 1/3 and 2/3."
        )
    return Share(int(match[1]), int(match[2]))


def check_apart(share: str | None, on: str | None, *, redo: bool = False) -> None:
    """Refuse options of work that is done apart which contradict each other.

    Raises:
        OptionError: `--share` or `--on` is none, or one stands beside the other or beside `--redo`.
    """
    if share is not None:
        share_of(share)
    if share is not None and on is not None:
        raise OptionError(f"--share {share}: does not go with --on; leave one of them out.")
    if on is not None:
        from features.machine.on_ray import address_of

        address_of(on)
    for option, given in (("--share", share), ("--on", on)):
        if given is not None and redo:
            raise OptionError(
                f"{option} {given}: does not go with --redo, since what is there is kept; leave it out."
            )
