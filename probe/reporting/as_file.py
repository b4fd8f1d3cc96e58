"""A study as the file of `probe run` that makes it, read from its feature files and results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import device, nn

from features.backbone import Architecture, Backbone
from features.extraction.pipeline import default_batch_size
from features.images.views import VIEWS
from features.store.contents import contents_of
from features.store.featurefile import FeatureFile
from features.store.paths import every_file
from features.study.study import Study, open_study
from probe.analysis.floor import NAMES as FLOORS
from probe.folds.given import has_split, own_folds
from probe.probes.methods import METHODS
from probe.probes.settings import TOL
from probe.reporting.typed_names import typed, typed_again, typed_names
from probe.results import predictions
from probe.results import rows as results
from probe.results.rows import BEST, Row
from probe.training.recipes import DEFAULT, RECIPES

Table = dict[str, Any]
"""The keys and values of a table of the file."""
_PLAIN = {"crop": False, "mirror": False, "colour": 0.0}


def file_of(folder: Path) -> tuple[str, list[str]]:
    """The text of the file that makes the study in `folder`, and what it cannot tell, in sentences.

    Raises:
        InputError: There is no study, or its files do not read.
    """
    study = open_study(folder)
    notes: list[str] = []
    every = [row for row in results.read(study.folder / "results.csv") if row.layer != BEST]
    rows = [row for row in every if row.backbone not in FLOORS]
    under = {
        key: json.loads(text)
        for key, text in predictions.protocols(
            study.folder / predictions.STORE, dict.fromkeys(row.stored for row in rows)
        ).items()
        if text
    }
    known = [row for row in rows if row.stored in under and row.task in study.tasks]
    if lost := len({row.stored for row in rows} - {row.stored for row in known}):
        notes.append(
            f"{lost} results have no protocol or task any more; their options are not told"
        )
    notes += [
        f"{path.name.removesuffix('.h5.partial')}: its extraction has not finished, so that is not told"
        for path in every_file(study.folder)
        if path.suffix == ".partial"
    ]
    unfitted = {*study.backbones()} - {row.backbone for row in every}
    if unfitted and not rows:
        notes.append("nothing is fitted yet, so the file only extracts")
    elif unfitted:
        notes.append(f"not fitted yet: {', '.join(sorted(unfitted))}")
    tables = [("extract", table) for table in _extracted(study, notes)]
    tables += [("fit", table) for table in _fitted(study, known, under)]
    tables += [("finetune", table) for table in _tuned(study, known, under, notes)]
    if (study.folder / "sources").is_dir():
        notes.append(
            "samples of source domains (--source) are not told; add them to an [[extract]]"
        )
    lines = [f"study = {_value(folder.resolve().name)}", f"data = {_value(study.source)}"]
    for command, table in tables:
        lines += ["", f"[[{command}]]"]
        lines += [f"{key} = {_value(value)}" for key, value in table.items()]
    return "\n".join([*lines, "", "[report]", ""]), notes


def _value(value: Any) -> str:
    """A value as TOML has it, which is JSON's way for texts, numbers, truth and lists."""
    return json.dumps(value, ensure_ascii=False)


def _extracted(study: Study, notes: list[str]) -> Iterator[Table]:
    """A table for every feature file, in the order in which they were finished; like ones together."""
    together: dict[str, Table] = {}
    for path in sorted(study.finished_files(), key=lambda path: path.lstat().st_mtime_ns):
        with FeatureFile(path) as file:
            if file.imported or "network" not in file.card or "decisive" not in file.attributes:
                notes.append(f"{file.backbone}: imported, which no table of a file does")
                continue
            table = _extraction(study, file, notes)
        name = table.pop("backbone")
        same = together.setdefault(json.dumps(table), {"backbone": [], **table})
        same["backbone"].append(name)
    yield from together.values()


def _extraction(study: Study, file: FeatureFile, notes: list[str]) -> Table:
    about = file.attributes
    weights, made_with = (json.loads(about.get(k, "{}")) for k in ("weights", "made_with"))
    name, architecture = typed(file.backbone, json.loads(about["card"]), notes)
    table: Table = {"backbone": name}
    if weights.get("random"):
        table |= {"weights": "random"} | ({"seed": weights["seed"]} if weights.get("seed") else {})
    elif _other_weights(file.backbone):
        table["weights"] = weights.get("file", "")
        notes.append(
            f"{file.backbone}: the folder of {table['weights']} is not told; write its path"
        )
    keys = list(file.keys)
    layers = list(dict.fromkeys(file.about(key)["layer"] for key in keys))
    if architecture is None or set(layers) != set(_default_layers(architecture)):
        table["layer"] = layers
    pools = list(
        dict.fromkeys(file.about(key)["pool"] for key in keys if len(file.about(key)["shape"]) > 1)
    )
    if pools and set(pools) != {"auto", "avg"}:
        table["pool"] = pools
    views = dict.fromkeys(file.pooling(key)[2] for key in file.stored)
    table |= {"view": more} if (more := [view for view in views if view != "center"]) else {}
    decisive = json.loads(about["decisive"])
    table |= {"dtype": kept} if (kept := decisive.get("dtype", "float32")) != "float32" else {}
    table |= {"precision": decisive["precision"]} if "precision" in decisive else {}
    if "@as-" in file.backbone:
        table["geometry"] = file.backbone.partition("@as-")[2]
    size = made_with.get("batch_size")
    if size is not None and (architecture is None or size != _usual_batch(architecture)):
        table["batch-size"] = size
    reached = int((file.status != 0).sum())
    if reached < len(study):
        table["limit"] = reached
    contents = contents_of(file.path)
    if contents is not None and contents.compression != "none":
        table["compress"] = contents.compression
    return table


def _other_weights(backbone: str) -> bool:
    """Whether a backbone is called after a file of weights that is not its card's own."""
    suffix = backbone.partition("@as-")[0].partition("@")[2]
    return bool(suffix) and not suffix.startswith("random")


def _default_layers(architecture: Architecture) -> list[str]:
    from features.backbone import choose

    return [layer.name for layer in choose(architecture, ())]


def _usual_batch(architecture: Architecture) -> int:
    card = architecture.card
    made = Backbone(card.name, card.domain, architecture, nn.Module(), None, 0)
    return default_batch_size(made, device("cpu"))


def _fitted(
    study: Study, rows: Sequence[Row], under: Mapping[predictions.Key, Any]
) -> Iterator[Table]:
    """A table for all probes that were fitted alike."""
    extracted: dict[str, set[str]] = {}
    for name in study.backbones():
        with study.features(name) as file:
            extracted[name] = {file.about(key)["layer"] for key in file.keys}
    together: dict[str, Table] = {}
    for method in dict.fromkeys(row.method for row in rows if row.method in METHODS):
        of_method = [row for row in rows if row.method == method]
        for table in _coverage(study, of_method, extracted):
            first = next(row for row in of_method if _within(study, row, table))
            table |= _settings(study, method, under[first.stored])
            table |= _repeated([row for row in of_method if _within(study, row, table)])
            same = together.setdefault(json.dumps(table), {"probe": [], **table})
            same["probe"].append(method)
    yield from together.values()


def _within(study: Study, row: Row, table: Table) -> bool:
    return (
        row.backbone in table.get("backbone", [row.backbone])
        and row.layer in table.get("layer", [row.layer])
        and ("task" not in table or _task(study, row.task) in table["task"])
    )


def _coverage(
    study: Study, rows: Sequence[Row], extracted: Mapping[str, set[str]]
) -> Iterator[Table]:
    """Which backbones, layers and tasks were fitted: nothing named where it is all; numbers always are."""
    alike: dict[tuple[tuple[str, ...], tuple[str, ...] | None], list[str]] = {}
    for backbone in dict.fromkeys(row.backbone for row in rows if row.backbone in extracted):
        mine = [row for row in rows if row.backbone == backbone]
        tasks = tuple(dict.fromkeys(row.task for row in mine))
        layers = dict.fromkeys(row.layer for row in mine)
        some = None if set(layers) == extracted[backbone] else tuple(layers)
        alike.setdefault((tasks, some), []).append(backbone)
    for (tasks, chosen), backbones in alike.items():
        table: Table = {}
        if set(backbones) != set(extracted):
            table["backbone"] = backbones
        if chosen is not None:
            table["layer"] = list(chosen)
        if (named := [_task(study, name) for name in tasks]) != list(study.default_tasks):
            table["task"] = named
        yield table


def _task(study: Study, name: str) -> str:
    task = study.tasks[name]
    if task.has_labels:
        return f"{name}:labels" + (f"={','.join(task.columns)}" if task.columns else "")
    return f"{name}:number" if task.is_number else name


def _settings(study: Study, method: str, under: Mapping[str, Any]) -> Table:
    """The options of a fit that its protocol tells, those left out that are the default."""
    probe, settings, table = METHODS[method], under["settings"], _of_folds(study, under)
    usual = "standard" if "standard" in probe.scales else probe.scales[0]
    if settings["scale"] != usual:
        table["scale"] = settings["scale"]
    if probe.own_solver is None:
        if not settings["relative"]:
            table["C"] = ",".join(f"{value:g}" for value in settings["grid"])
        if settings["solver"] != "grid":
            table["solver"] = settings["solver"]
        if settings["tol"] != TOL:
            table["tol"] = settings["tol"]
    return table


def _of_folds(study: Study, under: Mapping[str, Any]) -> Table:
    own = own_folds(study) is not None or has_split(study)
    table: Table = {"folds": under["folds"]} if not own and under["folds"] != 5 else {}
    return table | ({"seed": under["seed"]} if under["seed"] else {})


def _repeated(rows: Sequence[Row]) -> Table:
    """Views, repeats and draws of few images."""
    table: Table = {}
    if views := [v for v in dict.fromkeys(row.views for row in rows) if v != "center"]:
        table["view"] = views
    if repeats := max(row.repeat for row in rows):
        table["repeats"] = repeats + 1
    if shots := sorted({row.shots for row in rows if row.shots is not None}):
        table["shots"] = ",".join(map(str, shots))
    if fractions := sorted({row.fraction for row in rows if row.fraction is not None}):
        table["fractions"] = ",".join(f"{fraction:g}" for fraction in fractions)
    if projected := {row.project for row in rows if row.project is not None}:
        table["project"] = max(projected)
    if shots or fractions:
        draws = max(row.draw or 0 for row in rows) + 1
        table |= {"draws": draws} if draws != 5 else {}
    return table


def _tuned(
    study: Study, rows: Sequence[Row], under: Mapping[predictions.Key, Any], notes: list[str]
) -> Iterator[Table]:
    """A table for every network and way of training, and one for each task where not all were trained."""
    trained = [row for row in rows if row.method not in METHODS]
    names = typed_names(study)
    saved = any((study.folder / "networks").glob("*"))
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in trained:
        stored = json.dumps(
            {k: v for k, v in under[row.stored]["settings"].items() if k != "start"}
        )
        groups.setdefault((row.backbone, row.method, _without_tasks(stored)), []).append(row)
    for (backbone, method, _), mine in groups.items():
        first = under[mine[0].stored]
        table = _training(backbone, method, mine, first) | _of_folds(study, first)
        table["backbone"] = typed_again(table["backbone"], names, notes)
        if table.get("weights", "random") != "random":
            notes.append(f"{backbone}: the path of its weights is not told; write it")
        table |= {"save": True} if saved else {}
        tasks = list(dict.fromkeys(row.task for row in mine))
        if "together" in method.split("+"):
            yield table | {"task": [_task(study, name) for name in first["settings"]["tasks"]]}
        elif [_task(study, name) for name in tasks] == list(study.default_tasks):
            yield table
        else:
            for name in tasks:
                yield table | {"task": _task(study, name)}


def _without_tasks(settings: str) -> str:
    return json.dumps(
        {k: v for k, v in json.loads(settings).items() if k not in ("tasks", "readable")}
    )


def _training(backbone: str, method: str, rows: Sequence[Row], under: Mapping[str, Any]) -> Table:
    settings = under["settings"]
    kind, *choices = method.split("+")
    name, _, suffix = backbone.partition("@")
    if settings["base"]:
        suffix = suffix.removesuffix(settings["base"]).rstrip("@")
    table: Table = {"backbone": name}
    if kind == "scratch":
        table["from-scratch"] = True
    elif suffix.startswith("random"):
        table["weights"] = "random"
    elif suffix:
        table["weights"] = suffix
    if kind in ("frozen", "copied"):
        key = "freeze-through" if kind == "frozen" else "copy-through"
        table[key] = list(dict.fromkeys(row.layer for row in rows))
    table |= {flag: True for flag in ("keep-above", "probe-first", "search") if flag in choices}
    table |= {"from": settings["base"]} if settings["base"] else {}
    table |= _recipe(settings["recipe"])
    table |= {"accumulate": settings["accumulate"]} if settings["accumulate"] != 1 else {}
    table |= {"precision": settings["precision"]} if settings["precision"] != "float32" else {}
    views = [view for view in VIEWS if any(row.views == view for row in rows)]
    return table | ({"view": views} if set(views) != {"center", "10crop"} else {})


def _recipe(made: Mapping[str, Any]) -> Table:
    """The recipe's name, and the options that changed it."""
    usual = RECIPES[made["name"]]
    changed = {
        f.name: made[f.name]
        for f in fields(usual)
        if f.name in made and made[f.name] != _listed(getattr(usual, f.name))
    }
    table: Table = {"recipe": made["name"]} if made["name"] != DEFAULT else {}
    for name in ("epochs", "patience", "rate", "batch_size"):
        if name in changed:
            table[name.replace("_", "-")] = changed[name]
    table |= {"class-weights": True} if changed.get("class_weights") else {}
    return table | ({"no-augment": True} if _PLAIN.items() <= made.items() else {})


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
