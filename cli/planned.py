"""What `probe run` is going to do, table by table: read from the commands, checked, and said in lines."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import show
from probe.counts import count

if TYPE_CHECKING:
    from cli.run_file import Step
    from features.extraction.foreseen import ForeseenFeatures
    from features.study.study import Study
    from probe.fitting.foreseen import ForeseenResults

Asked = tuple["Step", Mapping[str, Any]]
"""A step, and what its command would take, by the names of its parameters."""


@dataclass
class Plan:
    """What the steps of a run are going to do."""

    lines: list[tuple[Step, list[str]]] = field(default_factory=list)
    bytes: int = 0
    seconds: float = 0.0
    unknown: int = 0
    """Commands with something to do whose time nothing on this machine has measured."""


def plan(
    study: Study,
    asked: Sequence[Asked],
    *,
    exactly: bool,
    shown: Callable[[int, int, str], None] = lambda *_: None,
) -> Plan:
    """The plan of the steps, every one of which is checked against the study and the steps before it.

    Args:
        study: The study, or a draft of it.
        asked: The steps in their order.
        exactly: Whether to tell what is kept, how large it gets and how long it takes; else the steps are
            only checked.
        shown: Is called before each part with its number, the number of parts, and its words.

    Raises:
        InputError: A step could not be carried out.
    """
    from features.errors import InputError

    made = Plan()
    coming: dict[str, ForeseenFeatures] = {}
    names: set[str] = set()
    total, done = sum(_parts(*each) for each in asked), 0
    for step, given in asked:
        with naming(step):
            if step.command == "extract":
                features = []
                for i, (name, weights) in enumerate(_weights(given).items()):
                    shown(done + i, total, f"extract {name}")
                    features += _extract(study, {name: weights}, given, exactly)
                if not exactly and (refused := next((f.stale for f in features if f.stale), "")):
                    raise InputError(refused)
                coming |= {f.backbone: f for f in features if f.images or f.stale}
                names |= {f.backbone for f in features}
                _add_features(made, step, features)
            elif step.command == "fit":
                shown(done, total, "fit")
                _add_results(made, step, _fit(study, given, coming, exactly))
            elif step.command == "finetune":
                shown(done, total, f"finetune {given['backbone']}")
                names.add(given["backbone"])
                _add_results(made, step, _finetune(study, given, coming, exactly))
            else:
                _check_report(study, given, names)
                made.lines.append((step, []))
        done += _parts(step, given)
    return made


def _parts(step: Step, given: Mapping[str, Any]) -> int:
    """How many parts of a plan a step is: one for each backbone that it extracts."""
    return len(_weights(given)) if step.command == "extract" else 1


def _weights(given: Mapping[str, Any]) -> dict[str, str | None]:
    from cli.extract import weights_of

    return weights_of(given["backbone"], given["weights"] or [])


@contextmanager
def naming(step: Step) -> Iterator[None]:
    """Within the block a refusal names the file, table and line of the step."""
    from features.errors import InputError

    try:
        yield
    except InputError as error:
        raise InputError(f"{step.where}: {error}") from error


def said(made: Plan, folder: Path) -> Iterator[str]:
    """The plan in lines, with what it comes to in all."""
    from rich.filesize import decimal

    for step, lines in made.lines:
        yield f"probe {step.typed}"
        yield from (f"  {line}" for line in lines)
    place = folder
    while not place.exists():
        place = place.absolute().parent
    free = shutil.disk_usage(place).free
    room = "" if made.bytes <= free else ", which is not enough"
    yield f"in all {decimal(made.bytes)} to write; {place} has {decimal(free)} free{room}"
    known = f"about {show.clock(made.seconds)}" if made.seconds or not made.unknown else "not known"
    more = count(made.unknown, "command")
    and_more = f", and {more} that nothing here has measured yet" if made.unknown else ""
    yield f"time: {known}{and_more}"


def _extract(
    study: Study, backbones: Mapping[str, str | None], given: Mapping[str, Any], exactly: bool
) -> list[ForeseenFeatures]:
    from cli.extract import bounds_of
    from features.extraction.foreseen import foresee
    from features.extraction.options import ExtractOptions

    same = (
        "geometry",
        "dtype",
        "precision",
        "batch_size",
        "workers",
        "limit",
        "strict",
        "compress",
    )
    wanted = ExtractOptions(
        layers=given["layer"] or (),
        pool=given["pool"] or (),
        views=given["view"] or (),
        range=bounds_of(given["bounds"]),
        device=given["device"],
        seed=given["seed"],
        **{name: given[name] for name in same},
    )
    return foresee(study, backbones, wanted, measure=exactly)


def _fit(
    study: Study, given: Mapping[str, Any], coming: Mapping[str, ForeseenFeatures], exactly: bool
) -> ForeseenResults | None:
    from cli.fit import numbers_of
    from probe.fitting.foreseen import foresee
    from probe.fitting.options import FitOptions

    same = (
        "folds",
        "scale",
        "solver",
        "tol",
        "memory",
        "device",
        "seed",
        "draws",
        "project",
        "repeats",
        "redo",
    )
    wanted = FitOptions(
        study.folder,
        backbones=given["backbone"] or (),
        layers=given["layer"] or (),
        tasks=given["task"] or (),
        probes=given["probe"],
        c=numbers_of("--C", given["c"], float),
        views=given["view"] or (),
        shots=numbers_of("--shots", given["shots"], int) or (),
        fractions=numbers_of("--fractions", given["fractions"], float) or (),
        **{name: given[name] for name in same},
    )
    return foresee(study, wanted, coming, exactly=exactly)


def _finetune(
    study: Study, given: Mapping[str, Any], coming: Mapping[str, ForeseenFeatures], exactly: bool
) -> ForeseenResults | None:
    from cli.finetune import recipe_with
    from probe.finetuning.foreseen import foresee
    from probe.finetuning.options import FineTuneOptions

    same = (
        "weights", "from_scratch", "keep_above", "folds", "seed", "device", "workers", "accumulate",
        "precision", "base", "probe_first", "search", "save", "redo",
    )  # fmt: skip
    wanted = FineTuneOptions(
        study.folder,
        given["backbone"],
        tasks=given["task"] or (),
        freeze_through=given["freeze_through"] or (),
        copy_through=given["copy_through"] or (),
        recipe=recipe_with(given),
        views=given["view"] or FineTuneOptions.views,
        **{name: given[name] for name in same},
    )
    return foresee(study, wanted, coming, exactly=exactly)


def _check_report(study: Study, given: Mapping[str, Any], names: Collection[str]) -> None:
    """Refuse a comparison of what no step makes, and published numbers that do not read.

    Raises:
        InputError: There is such a one.
    """
    from cli.report import pair_of
    from features.errors import InputError, nearest
    from features.study.study import has_study
    from probe.reporting.tables.reference import reference

    if given["published"] is not None:
        reference(given["published"])
    here = study.backbones() if has_study(study.folder) else []
    known = sorted({*names, *here})
    for pair in given["compare"] or ():
        for name in pair_of(pair):
            backbone = name.rsplit("/", 2)[0] if name.count("/") >= 2 else name.partition("/")[0]
            if backbone.partition("@")[0] not in {n.partition("@")[0] for n in known}:
                raise InputError(
                    f"--compare {pair}: no {backbone} here; {nearest(backbone, known)}"
                )


def _add_features(made: Plan, step: Step, features: Sequence[ForeseenFeatures]) -> None:
    from rich.filesize import decimal

    lines = []
    for f in features:
        if f.stale:
            lines.append(f"{f.backbone}: stale: {f.stale}")
            made.unknown += 1
            continue
        made.bytes += f.bytes
        made.seconds += f.seconds or 0.0
        made.unknown += f.seconds is None
        lines.append(
            f"{f.backbone}: {count(len(f.dims), 'array')} of {count(f.rows, 'row')}: {f.kept:,} kept, "
            f"{count(f.images, 'image')} to do, {decimal(f.bytes)}{_time(f.images, f.seconds)}"
        )
    made.lines.append((step, lines))


def _add_results(made: Plan, step: Step, results: ForeseenResults | None) -> None:
    from rich.filesize import decimal

    if results is None:
        made.lines.append((step, []))
        return
    made.bytes += results.bytes
    made.seconds += results.seconds or 0.0
    made.unknown += bool(results.todo) and results.seconds is None
    made.lines.append(
        (
            step,
            [
                f"{results.kept:,} kept, {count(results.todo, 'result')} to do, {results.stale:,} of them "
                f"stale, {decimal(results.bytes)}{_time(results.todo, results.seconds)}"
            ],
        )
    )


def _time(todo: int, seconds: float | None) -> str:
    if not todo:
        return ""
    return ", time not measured" if seconds is None else f", about {show.clock(seconds)}"
