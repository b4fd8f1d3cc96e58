"""A result of a study as one file: fitted once more on all rows, with all that is needed to use it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from features.cards.reading import find
from features.cards.recorded import from_anywhere
from features.errors import InputError, OptionError, nearest
from features.keywords import taken_from
from features.machine.device import for_probes, resolve
from features.machine.files import file_name, sweep
from features.machine.locks import locked
from features.machine.replaceable import check_replaceable
from features.store.featurefile import FeatureFile
from features.study.study import Study, open_study
from probe.exported.choice import ChosenResult, chosen_results
from probe.exported.distance import distance_from
from probe.exported.file import FORMAT, SUFFIX, About, Contents, write
from probe.exported.graph import needed_tensors
from probe.exported.network import needed_weights, network_for, pooled_of
from probe.exported.promise import Promise
from probe.exported.promised import promised
from probe.exported.refit import Refitted, refit, temperature_of
from probe.exported.refit_numbers import refit_numbers
from probe.exported.trained_on import Training, training_of
from probe.exported.tuned import tuned_contents
from probe.fitting.options import FitOptions
from probe.fitting.probe_job import ProbeRun, memory_bytes
from probe.probes.layer import Source
from probe.probes.methods import METHODS
from probe.results import predictions
from probe.results.one_state import of_one_state

FORMATS = {"probe": SUFFIX, "pt2": ".pt2", "onnx": ".onnx"}
"""Endings of files by format."""


_MARKS = (FORMAT.encode(), b"probe.json")
"""What stands in every export and in every graph."""
_PATIENCE = 60.0
"""Seconds to wait for another export to be written."""


@dataclass(frozen=True)
class ExportOptions:
    """What to export of a study, and how."""

    study: Path | str
    """The study's folder."""
    result: str | None = None
    """BACKBONE/LAYER/METHOD; by default the highest best row that may lead, task by task."""
    _: KW_ONLY
    tasks: Sequence[str] = ()
    """Names; by default every task that has the result."""
    out: Path | str | None = None
    """The file to write; by default TASK in the study's folder, with the format's ending."""
    format: str = "probe"
    """`probe`: a file for `probe predict` and `load_probe`; `pt2` or `onnx`: the whole chain from pixels
    to probabilities, or a number, as one graph, which runs without this toolkit."""
    with_weights: bool = False
    """Put the network's weights into the file too."""
    backbone: str | None = None
    """The card of the network, where it is neither the package's nor found by its name."""
    weights: str | None = None
    """The file of its weights, where `with_weights` needs them and they are not the card's own."""
    memory: float | None = None
    """Gigabytes for features and what is made of them; half of the machine's by default."""
    device: str = "cpu"
    """Where the probe is fitted: `auto`, `cpu`, `cuda`, `cuda:I`, `mps` or `xpu`."""
    announce: Callable[[str], None] = lambda _: None
    """Called with a sentence on what is chosen, and before what takes time."""

    progress: Callable[[int, int, str], None] = lambda _done, _all, _now: None
    """Called with images trained on, images in all, and the epoch, while a fine-tune is trained."""

    def __post_init__(self) -> None:
        """Refuse what no export could be made with, whatever the study.

        Raises:
            OptionError: The format is none, or contradicts another option.
        """
        if self.format not in FORMATS:
            raise OptionError(
                f"--format {self.format}: not a format; {nearest(self.format, FORMATS)}"
            )
        if self.with_weights and self.format != "probe":
            raise OptionError(
                f"--with-weights: a file of {self.format} holds the network in any case; leave it out."
            )


@dataclass(frozen=True, repr=False)
class Exported:
    """A file that was written."""

    file: Path
    about: About
    format: str = "probe"
    needs: str = ""
    """The file of weights that predicting will need, where it is neither inside nor the card's own."""

    def __repr__(self) -> str:
        """The file and what is in it."""
        about = self.about
        return f"<{self.file}: {about.task}, {about.name}, promised {about.promised}>"


@taken_from(ExportOptions)
def export(options: ExportOptions) -> list[Exported]:
    """Fit a result once more on all rows of its task and write it as a file; one for every task.

    C is chosen by cross-validation over all folds, and so is the layer of a `best` row. A fine-tune is
    trained once more on all rows, for the median of its folds' epochs. The promise in the file is the
    cross-validated accuracy of the result, or the mean absolute error of a number, with its interval.

    Raises:
        InputError: There is no such result, the study changed since, or the file cannot be written.
    """
    study = open_study(options.study)
    chosen = of_one_state(
        study.folder, lambda: chosen_results(study, options.result, options.tasks)
    )
    if options.out is not None and len(chosen) > 1:
        raise InputError(
            f"--out {options.out}: {len(chosen)} tasks would be written there "
            f"({', '.join(each.task for each in chosen)}); choose one with --task."
        )
    files = [_file(study, each, options) for each in chosen]
    made = []
    for each, file in zip(chosen, files, strict=True):
        for note in each.notes:
            options.announce(f"{each.task}: {note}")
        contents = _probe(study, each, options) if each.is_probe else _tuned(study, each, options)
        with _alone(study, file):
            if options.format == "probe":
                write(file, contents)
                made.append(Exported(file, contents.about, needs=needed_weights(contents)))
            else:
                made.append(_graph(study, file, contents, options))
    return made


@contextmanager
def _alone(study: Study, file: Path) -> Iterator[None]:
    """Keep other exports from a file in the study's folder, and remove what one that was killed left."""
    if file.parent != study.folder:
        yield
        return
    with locked(study.folder / ".export.lock", str(file), _PATIENCE):
        sweep(file)
        yield


def _file(study: Study, chosen: ChosenResult, options: ExportOptions) -> Path:
    own = study.folder / f"{file_name(chosen.task)}{FORMATS[options.format]}"
    file = own if options.out is None else Path(options.out)
    check_replaceable(file, "--out", _MARKS)
    return file


def _tuned(study: Study, chosen: ChosenResult, options: ExportOptions) -> Contents:
    """The file of a fine-tune, trained once more."""
    promise = promised(study, chosen)
    assert isinstance(promise, Promise), chosen.task  # that of a number is no result to export
    return tuned_contents(
        study, chosen, promise, backbone=options.backbone, weights=options.weights,
        device=options.device, announce=options.announce, progress=options.progress,
    )  # fmt: skip


def _graph(study: Study, file: Path, contents: Contents, options: ExportOptions) -> Exported:
    """The export as a graph, tried on images of the study."""
    from probe.exported.graph_files import write_graph

    about = contents.about
    backbone = network_for(
        contents, f"task {about.task}", backbone=options.backbone,
        weights=None if contents.network else options.weights, announce=options.announce,
    )  # fmt: skip
    images = [study.root / study.paths[row] for row in np.flatnonzero(study.used)]
    apart = write_graph(
        file, options.format, contents, backbone, pooled_of(about, backbone), images
    )
    what = "values" if about.is_number else "probabilities"
    options.announce(
        f"{about.task}: on images of the study the graph's {what} differ "
        f"from those of the features by {apart:.1g} at most"
    )
    return Exported(file, about, options.format)


def _probe(study: Study, chosen: ChosenResult, options: ExportOptions) -> Contents:
    """The file of a linear probe."""
    row = chosen.fitted[0]
    run = ProbeRun(
        study,
        FitOptions(study.folder, announce=options.announce),
        memory_bytes(options.memory),
        for_probes(resolve(options.device), options.announce),
    )
    with study.features(row.backbone) as file:
        training = training_of(study, chosen, file)
        source = run.source(file, row.features_key)
        options.announce(
            f"{chosen.task}: fitting {row.method} on {row.features_key} of {row.backbone} with all "
            f"{int((training.splits.part >= 0).sum()):,} images"
        )
        fitted = _fitted(source, training)
        used = np.flatnonzero(training.splits.part >= 0)
        distance = distance_from(source, used, study.subjects[used], fitted.probe.scaler)
        about = _about(study, chosen, training, fitted, file, options)
    contents = Contents(about, fitted.probe, distance)
    return _with_network(contents, options) if options.with_weights else contents


def _fitted(source: Source, training: Training) -> Refitted:
    """The probe, fitted on all rows."""
    y, splits, settings = training.y, training.splits, training.settings
    if training.task.is_number:
        return refit_numbers(source, y.astype(np.float64), splits, settings)
    return refit(source, y.astype(np.int64), len(training.task.classes), splits, settings)


def _about(
    study: Study,
    chosen: ChosenResult,
    training: Training,
    fitted: Refitted,
    file: FeatureFile,
    options: ExportOptions,
) -> About:
    row, task = chosen.fitted[0], training.task
    used = np.flatnonzero(training.splits.part >= 0)
    decisive = json.loads(file.attributes.get("decisive", "{}"))
    names = ("network", "options", "preprocessing", "weights")
    classes = tuple(task.classes[number] for number in fitted.classes)
    left_out = tuple(name for name in task.classes if name not in classes)
    of_grid = "alpha" if METHODS[row.method].value_is_alpha else "C"
    digest = hashlib.sha256(
        json.dumps([study.images_hash, training.features, task.classes]).encode()
        + used.tobytes()
        + training.y[used].tobytes()
    )
    notes = []
    if left_out:
        notes.append(f"no training image is of the class {', '.join(left_out)}")
    if fitted.choice.at_edge:
        notes.append(f"{of_grid} of {fitted.choice.value:.3g} is the first or last of its grid")
    for note in notes:
        options.announce(f"{chosen.task}: {note}")
    return About(
        task=task.name,
        classes=classes,
        ordered=task.ordered,
        backbone=row.backbone,
        domain=file.domain,
        layer=row.layer,
        pool=row.pool,
        method=row.method,
        scale=fitted.choice.scale,
        unit_rows=fitted.probe.unit_rows,
        value=fitted.choice.value,
        temperature=_temperature(study, chosen, fitted),
        threshold=0.5 if len(classes) == 2 else None,
        promise=asdict(promised(study, chosen)),
        result=chosen.name,
        card=_card(file, options.backbone),
        preprocessing=str(file.attributes["preprocessing"]),
        decisive={name: decisive[name] for name in names if name in decisive},
        precision=str(decisive.get("precision", "float32")),
        weights=dict(json.loads(file.attributes.get("weights", "{}"))),
        licence=str(file.attributes.get("licence", "")),
        trained_on={
            "source": study.source,
            "images": len(used),
            "subjects": len(np.unique(study.subjects[used])),
            "sha256": digest.hexdigest(),
        },
        toolkit=version("transfer-probe"),
        synthetic=study.synthetic,
        imported=file.imported,
        left_out=left_out,
        notes=(*chosen.notes, *notes),
        kind=task.kind,
        unit=task.unit,
    )


def _card(file: FeatureFile, given: str | None) -> dict[str, Any]:
    """The card as it is recorded, or the one given, with paths that hold from any folder."""
    if given is None:
        return file.card
    card = find(given)
    if card.name != file.card.get("name"):
        raise InputError(
            f"--backbone {given}: is {card.name}, and the features are those of "
            f"{file.card.get('name')}; give the card of that one."
        )
    return dict(json.loads(json.dumps(asdict(replace(from_anywhere(card), file=None)))))


def _temperature(study: Study, chosen: ChosenResult, fitted: Refitted) -> float:
    """What margins are multiplied by to be logits, from the scores of the test folds; 1 for logits."""
    row = chosen.fitted[0]
    if METHODS[row.method].scores != "margins" or study.tasks[chosen.task].is_number:
        return 1.0
    (stored,) = predictions.read_all(study.folder / predictions.STORE, [row.stored]).values()
    y = study.labels(chosen.task)
    tested = (stored.fold >= 0) & np.isin(y, fitted.classes)
    place = np.searchsorted(fitted.classes, y[tested])
    return temperature_of(stored.scores[tested][:, list(fitted.classes)], place)


def _with_network(contents: Contents, options: ExportOptions) -> Contents:
    """The contents with the network's tensors, and its input."""
    about = contents.about
    backbone = network_for(
        contents, f"task {about.task}", backbone=options.backbone, weights=options.weights,
        announce=options.announce,
    )  # fmt: skip
    architecture = backbone.architecture
    state = backbone.model.state_dict()
    if not state and about.decisive.get("network", "").startswith("onnx:"):
        raise InputError(
            f"{about.backbone}: its weights stand in its ONNX file, which cannot be put inside; leave "
            "--with-weights out and keep that file."
        )
    if isinstance(architecture.input.mean, str):
        raise InputError(
            f"{about.backbone}: subtracts a mean image, which cannot be put inside; leave "
            "--with-weights out."
        )
    (layer,) = backbone.layers((about.layer,))
    needed = needed_tensors(backbone.model, layer, architecture.traced, architecture.input)
    state = {name: tensor for name, tensor in state.items() if name in needed}
    input_ = json.loads(json.dumps(asdict(architecture.input)))
    about = replace(about, input=input_, network="backbone")
    return replace(contents, about=about, network=state)
