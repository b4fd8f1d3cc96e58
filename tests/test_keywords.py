"""An action takes the fields of its options as keywords, and its help tells of every one."""

from __future__ import annotations

import inspect
from dataclasses import KW_ONLY, dataclass

import pytest

import probe
from features.keywords import taken_from


@dataclass(frozen=True)
class Shared:
    _: KW_ONLY
    seed: int = 0
    """Decides what is
    drawn."""


@dataclass(frozen=True)
class Greeting(Shared):
    name: str
    """Who is greeted."""
    _: KW_ONLY
    loud: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("nobody")


@taken_from(Greeting, older={"shout": "loud"})
def greet(options: Greeting) -> str:
    """Greet somebody.

    Raises:
        ValueError: Nobody is there.
    """
    return f"{options.name} {options.seed}" + "!" * options.loud


def test_keywords_make_the_object() -> None:
    assert greet("Ada", loud=True, seed=3) == "Ada 3!"
    assert greet("Ada", shout=True) == "Ada 0!"  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="nobody"):
        greet("")
    with pytest.raises(TypeError, match="lowd"):
        greet("Ada", lowd=True)  # type: ignore[call-arg]


def test_help_tells_the_signature_and_the_meanings() -> None:
    assert str(inspect.signature(greet)) == (
        "(name: 'str', *, seed: 'int' = 0, loud: 'bool' = False) -> 'str'"
    )
    assert greet.__doc__ == (
        "Greet somebody.\n\n"
        "Args:\n"
        "    name: Who is greeted.\n"
        "    seed: Decides what is drawn.\n\n"
        "Raises:\n"
        "    ValueError: Nobody is there."
    )


@pytest.mark.parametrize("name", ["finetune", "fit"])
def test_every_keyword_of_an_action_is_explained(name: str) -> None:
    action = getattr(probe, name)
    for keyword in inspect.signature(action).parameters:
        assert f"\n    {keyword}: " in action.__doc__, keyword
