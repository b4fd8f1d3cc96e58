"""A fine-tune as an export: trained once more on all rows, the whole network inside the file."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from features.backbone import Backbone, Layer, architecture_of
from features.cards.card import Card
from features.cards.network import build
from features.cards.outputs import Output
from features.cards.recorded import from_anywhere, input_from
from features.cards.trace import Fired, first_tensor
from features.errors import InputError
from features.extraction.pool import Pooled
from features.extraction.provenance import network_of
from features.images.preprocess import describe
from features.images.views import canvas_of
from features.study.study import Study
from probe.exported.choice import ChosenResult
from probe.exported.distance import distance_from
from probe.exported.file import About, Contents
from probe.exported.promise import Promise
from probe.exported.refit import LinearProbe, scaler_of
from probe.finetuning.all_rows import TrainedOnAll, train_on_all
from probe.finetuning.job import FineTuneJob, FineTuneRun
from probe.finetuning.options import FineTuneOptions
from probe.finetuning.plan import prepare
from probe.probes.layer import Source
from probe.results import predictions
from probe.training.recipes import Recipe
from probe.training.setup import Goal

_WHOLE = "network"
"""The name of the network inside what stands around it, where the head reads its output."""


def tuned_contents(
    study: Study,
    chosen: ChosenResult,
    promise: Promise,
    *,
    backbone: str | None,
    weights: str | None,
    device: str,
    announce: Callable[[str], None],
    progress: Callable[[int, int, str], None],
) -> Contents:
    """Train a fine-tune on all rows, for the median of its folds' epochs.

    Args:
        study: The study.
        chosen: The result.
        promise: Its cross-validated accuracy.
        backbone: The card, where the backbone's name does not find it.
        weights: The file of the weights that training begins with, where they are not the card's own.
        device: Where to train.
        announce: Called with sentences.
        progress: Called with images trained on, images in all, and the epoch.

    Raises:
        InputError: The study or the network is not as it was, or the fine-tune cannot be repeated so.
    """
    run, job = _repeated(study, chosen, backbone, weights, device, announce, progress)
    epochs = max(1, round(float(np.median([row.epochs or 1 for row in chosen.rows]))))
    announce(
        f"{chosen.task}: training {chosen.name} once more on all "
        f"{len(job.splits.training_rows(frozenset())):,} images, for {epochs} epochs, the median of its "
        "folds"
    )
    trained = train_on_all(run, job, epochs)
    return _contents(study, chosen, promise, run, job, trained, epochs)


def _repeated(
    study: Study,
    chosen: ChosenResult,
    backbone: str | None,
    weights: str | None,
    device: str,
    announce: Callable[[str], None],
    progress: Callable[[int, int, str], None],
) -> tuple[FineTuneRun, FineTuneJob]:
    """The fine-tune as its protocol has it, ready to be trained."""
    row = chosen.rows[0]
    (stored,) = predictions.read_all(study.folder / predictions.STORE, [row.stored]).values()
    try:
        under = json.loads(stored.protocol)
        settings = under["settings"]
        recipe = Recipe(**{**settings["recipe"], "ours": tuple(settings["recipe"]["ours"])})
        base, rates = settings["base"], settings["rates"]
        tasks = [
            f"{name}:ordered" if under["ordered"] and not study.tasks[name].ordered else name
            for name in settings["tasks"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{chosen.name}: was trained by another version of this toolkit; run `probe finetune` again."
        ) from error
    if base:
        raise InputError(
            f"{chosen.name}: began in every fold with that fold's own network (--from), so there is none "
            "to begin with on all rows; name a fine-tune without --from."
        )
    if len(rates) > 1:
        raise InputError(
            f"{chosen.name}: chose its learning rate anew in every fold (--search), so there is none for "
            "all rows; run `probe finetune --rate` with one of them, and name that result."
        )
    kind = row.method.partition("+")[0]
    cut = [row.layer] if row.layer else []
    for folds in (None, int(under["folds"])):
        options = FineTuneOptions(
            study.folder,
            backbone or row.backbone.partition("@")[0],
            weights="random" if row.domain == "none" else weights,
            tasks=tasks,
            from_scratch=kind == "scratch",
            freeze_through=cut if kind == "frozen" else (),
            copy_through=cut if kind == "copied" else (),
            keep_above=bool(settings["keep_above"]),
            recipe=recipe,
            views=("center",),
            folds=folds,
            seed=int(under["seed"]),
            device=device,
            accumulate=int(settings["accumulate"]),
            precision=settings["precision"],
            probe_first=bool(settings["probe_first"]),
            announce=announce if folds is None else lambda _: None,
            progress=progress,
        )
        try:
            plan = prepare(options)
        except InputError:
            if folds is None:
                continue
            raise
        for job in plan.jobs:
            if job.protocols.get(chosen.task) == stored.protocol:
                return plan.run, job
    raise InputError(
        f"{chosen.name}: the images, labels, folds, weights or recipe are not those that it was trained "
        "with; give its --weights, or run `probe finetune` again."
    )


def _contents(
    study: Study,
    chosen: ChosenResult,
    promise: Promise,
    run: FineTuneRun,
    job: FineTuneJob,
    trained: TrainedOnAll,
    epochs: int,
) -> Contents:
    row, backbone, network = chosen.rows[0], run.backbone, trained.network
    number = [task.name for task in job.tasks].index(chosen.task)
    task = job.tasks[number]
    weight, bias = (t.detach().cpu().double() for t in network.head.folded())
    part = job.goal.parts()[number]
    source = Source.of(trained.features)
    every = np.arange(len(trained.rows))
    scaler = scaler_of(source, every)
    scaled = weight[part].numpy() / scaler.scale
    shift = bias[part].numpy() + weight[part].numpy() @ scaler.mean
    probe = LinearProbe(scaler, scaled.astype(np.float32), shift.astype(np.float32))
    subjects = study.subjects[trained.rows]
    seen = backbone.architecture.input
    if run.recipe.crop:  # the centre of what training crops from
        seen = replace(seen, resize=canvas_of(seen).resize)
    about = About(
        task=task.name,
        classes=task.classes,
        ordered=task.ordered,
        backbone=row.backbone,
        domain=row.domain,
        layer=row.layer,
        pool="",
        method=row.method,
        scale="standard",
        unit_rows=False,
        value=float(epochs),
        temperature=1.0,
        threshold=0.5 if len(task.classes) == 2 else None,
        promise=asdict(promise),
        result=chosen.name,
        card=_recorded(backbone.architecture.card),
        input=dict(json.loads(json.dumps(asdict(seen)))),
        preprocessing=describe(seen),
        decisive=dict(json.loads(json.dumps(network_of(backbone)))),
        precision="float32",
        weights=_weights(backbone),
        licence=backbone.architecture.card.licence or "",
        trained_on={
            "source": study.source,
            "images": len(trained.rows),
            "subjects": len(np.unique(subjects)),
            "sha256": _digest(study, trained, job.goal, number),
        },
        toolkit=version("transfer-probe"),
        synthetic=study.synthetic,
        network="tuned",
        head={"place": network.place, "shape": _read_by_the_head(network, backbone)},
        notes=(*chosen.notes, f"trained for {epochs} epochs, the median of its folds"),
    )
    state = {
        name: tensor
        for name, tensor in network.body.state_dict().items()
        if network.place is None or not name.startswith(f"{network.place}.")
    }
    return Contents(about, probe, distance_from(source, every, subjects, scaler), state)


def _recorded(card: Card) -> dict[str, Any]:
    return dict(json.loads(json.dumps(asdict(replace(from_anywhere(card), file=None)))))


def _weights(backbone: Backbone) -> dict[str, Any]:
    file = backbone.weights
    if file is None:
        return {"random": True, "seed": backbone.seed}
    return {"file": file.source, "sha256": file.sha256, "verified": file.verified}


def _digest(study: Study, trained: TrainedOnAll, goal: Goal, number: int) -> str:
    digest = hashlib.sha256(study.images_hash.encode() + trained.rows.tobytes())
    digest.update(goal.labels[trained.rows, number].tobytes())
    return digest.hexdigest()


def _read_by_the_head(network: Any, backbone: Backbone) -> list[int]:
    """The shape of what the head reads of one image, before it is averaged."""
    shapes: list[list[int]] = []
    head = network.head
    handle = head.register_forward_pre_hook(
        lambda _module, given: shapes.append(list(given[0].shape[1:]))
    )
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *backbone.architecture.input.shape, device=device))
    finally:
        handle.remove()
    return shapes[-1]


class _Around(nn.Module):
    """A network whose output is read as the layer `network`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """The first tensor of the output."""
        tensor = first_tensor(self.network(x))
        assert tensor is not None
        return tensor


def tuned_network(contents: Contents, card: Card, file: object) -> Backbone:
    """The trained network of an export, as far as what its head reads.

    Raises:
        InputError: The network that the card names is another than the one in the file.
    """
    about = contents.about
    card = replace(card, input=input_from(about.input))
    model = build(card)
    architecture = architecture_of(card, model)
    place = about.head["place"]
    if place is not None:
        parent, _, child = place.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())
    own = model.state_dict()
    for name, tensor in contents.network.items():
        if name not in own or own[name].shape != tensor.shape:
            raise InputError(
                f"{file}: {card.network} of {card.name} here has no {name} like that in the file; give "
                "the card that it was made with as --backbone CARD.toml."
            )
    model.load_state_dict(dict(contents.network), strict=False)
    traced = architecture.traced
    if place is None:
        model = _Around(copy.copy(model))
        shape = tuple(about.head["shape"])
        fired = Fired(_WHOLE, shape, traced.weight_layers, 1, len(traced.fired) + 1, False, None)
        traced = replace(traced, fired={**traced.fired, _WHOLE: fired})
    architecture = replace(architecture, traced=traced)
    return Backbone(about.backbone, about.domain, architecture, model.eval(), None, 0)


def tuned_pooled(about: About) -> Pooled:
    """What the head of a fine-tune reads: a vector, or the average of a map or of tokens."""
    shape = tuple(int(side) for side in about.head["shape"])
    place = about.head["place"] or _WHOLE
    kind = {1: "vector", 2: "tokens", 3: "map"}[len(shape)]
    layer = Layer(place, place, shape, 1.0, Output(kind))
    return Pooled(place, layer, "none" if kind == "vector" else "avg", 1 if kind == "map" else None)
