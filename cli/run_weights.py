"""The weights that the commands of a run need: where they lie, fetched now, or missing and said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cli import show
from cli.run_file import several

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from cli.run_file import Step


def with_weights(steps: Sequence[Step], given: Sequence[str]) -> list[Step]:
    """The steps with the weights of the command line, where their table names none.

    Raises:
        OptionError: They are of a backbone that no table has.
    """
    from dataclasses import replace

    from features.errors import OptionError, nearest

    named = dict(value.partition("=")[::2] for value in given if "=" in value)
    everywhere = [value for value in given if "=" not in value]
    known = {str(name) for step in steps for name in several(step, "backbone")}
    for name in named:
        if name not in known:
            raise OptionError(f"--weights {name}=...: no table has it; {nearest(name, known)}")
    made = []
    for step in steps:
        own = step.options.keys() & {"weights", "from-scratch"}
        names = [str(name) for name in several(step, "backbone")]
        if step.command in ("extract", "finetune") and not own:
            files = {name: named[name] for name in names if name in named}
            few = [f"{n}={f}" if step.command == "extract" else f for n, f in files.items()]
            if new := [*everywhere, *few]:
                value = new if step.command == "extract" else new[-1]
                step = replace(step, options={**step.options, "weights": value})
        elif step.command == "report" and "compare" in step.options:
            pairs = [_drawn(str(pair), named) for pair in several(step, "compare")]
            step = replace(step, options={**step.options, "compare": pairs})
        made.append(step)
    return made


def _drawn(pair: str, named: Mapping[str, str]) -> str:
    """A pair of results under the names that their backbones have with these weights."""
    results = []
    for result in pair.split(","):
        name, slash, rest = result.strip().partition("/")
        results.append(f"{name}@random{slash}{rest}" if named.get(name) == "random" else result)
    return ",".join(results)


def possible(steps: list[Step], *, ships: bool, plan: bool) -> list[Step]:
    """The steps without the backbones whose weights cannot be had, each of which is said.

    Args:
        steps: The commands.
        ships: Whether the study ships with the package, and so goes on without what is missing.
        plan: Whether nothing is fetched or refused.

    Raises:
        InputError: Weights are missing and the file is the user's own, who should decide.
    """
    from features.errors import InputError

    lacking = {name: words for step in steps for name, words in _lacking(step).items()}
    if not plan and (ships or not lacking):
        lacking |= _unfetched(steps, lacking)
    if lacking and not ships and not plan:
        step, words = next((s, lacking[n]) for s in steps for n in _needed(s) if n in lacking)
        raise InputError(f"{step.where}: {words}.")
    for words in lacking.values():
        show.say(f"missing: {words}")
    if lacking and plan and not ships:
        show.say("missing weights: without --plan this ends before its first command")
    for name, url in _to_fetch(steps, lacking).items() if plan else ():
        show.say(f"to fetch: the weights of {name}, from {url}")
    left = [one for step in steps if (one := _without(step, lacking)) is not None]
    if not any(s.command == "extract" for s in left) and any(s.command == "extract" for s in steps):
        show.say("missing: weights of every backbone to extract, so nothing is extracted or fitted")
        left = [step for step in left if step.command != "fit"]
    return left


def _lacking(step: Step) -> dict[str, str]:
    """How to get the weights that a step needs and that are not here, by backbone."""
    from features.cards.reading import find
    from features.weights import lacking
    from features.weights.entries import entries_of

    missing = {}
    for name, own in _needed(step).items():
        gone = [v for v in own if v != "random" and not Path(v.partition("#")[0]).exists()]
        if gone:
            missing[name] = f"{gone[0]}: there is no such weights file"
        elif not own and not name.startswith(("control:", "onnx:", "hf:")):
            card = find(name)
            brings_none = card.file is None and not entries_of(card)
            if not brings_none and (words := lacking(card)) is not None:
                missing[name] = words
    return missing


def _needed(step: Step) -> dict[str, list[str]]:
    """The backbones of a step that begin with trained weights, each with those that the step names."""
    if step.command not in ("extract", "finetune") or "from-scratch" in step.options:
        return {}
    given = [str(value) for value in several(step, "weights")]
    return {
        name: [v.rpartition("=")[2] for v in given if "=" not in v or v.partition("=")[0] == name]
        for name in map(str, several(step, "backbone"))
    }


def _unfetched(steps: Sequence[Step], lacking: Collection[str]) -> dict[str, str]:
    """Weights that the steps need from an address, fetched now; those that cannot be, with the reason."""
    from features.backbone import target_of
    from features.errors import InputError
    from features.weights.add import fetch

    missing = {}
    for name in _to_fetch(steps, lacking):
        try:
            fetch(target_of(name), announce=show.say)
        except InputError as error:
            missing[name] = str(error).rstrip(".")
    return missing


def _to_fetch(steps: Sequence[Step], lacking: Collection[str]) -> dict[str, str]:
    """The address of weights that the steps need and that are not here, by backbone."""
    from features.cards.reading import find
    from features.weights import here
    from features.weights.entries import entries_of

    addresses: dict[str, str] = {}
    for name in dict.fromkeys(n for s in steps for n, own in _needed(s).items() if not own):
        if name in lacking or name.startswith(("control:", "onnx:", "hf:")) or here(find(name)):
            continue
        urls = [entry.url for entry in entries_of(find(name)) if entry.url]
        addresses |= {name: urls[0]} if urls else {}
    return addresses


def _without(step: Step, lacking: Collection[str]) -> Step | None:
    """The step without the backbones that lack their weights; None where none is left."""
    from dataclasses import replace

    if step.command == "report":
        pairs = [
            pair
            for pair in several(step, "compare")
            if not any(name.split("/")[0].strip() in lacking for name in pair.split(","))
        ]
        options = {name: value for name, value in step.options.items() if name != "compare"}
        return replace(step, options=options | ({"compare": pairs} if pairs else {}))
    names = [str(name) for name in several(step, "backbone")]
    gone = {n for n, own in _needed(step).items() if n in lacking and own != ["random"]}
    if not gone:
        return step
    left = [name for name in names if name not in gone]
    return replace(step, options={**step.options, "backbone": left}) if left else None
