"""A trained network as a backbone of its own, and as the start of another training."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from brighthalves import QUICK, rows_of
from safetensors.torch import load_file

from features.backbone import load
from features.cards.card import DeclaredOutput
from features.errors import InputError
from features.extraction.extract import extract
from features.study.study import open_study
from probe.finetuning.finetune import finetune
from probe.finetuning.saved_network import declared_as, write
from probe.reporting.report import report
from probe.results import predictions
from probe.scoring.cka import alignment, linear_gram, u_centred
from probe.training.head import Head, Network
from probe.training.recipes import recipe

pytestmark = pytest.mark.usefixtures("svg_alone")


def test_a_trained_network_is_a_backbone_of_its_own(tmp_path: Path, card: str, data: str) -> None:
    """Its features come from the trained layers, and its scores are those stored."""
    study = tmp_path / "study"
    learn = recipe(
        "modern", epochs=3, patience=0, batch_size=8, crop=False, mirror=False, colour=0.0
    )
    finetune(study, card, data=data, tasks=["side"], recipe=learn, save=True, device="cpu")
    cards = sorted((study / "networks").glob("*.toml"))
    assert [c.stem for c in cards] == [f"tiny@side-finetune-fold{f}" for f in range(3)]
    made = load(str(cards[1]))
    assert (made.name, made.domain) == ("tiny@side-finetune-fold1", "task")
    assert made.architecture.card.pair == "tiny"
    assert [x.name for x in made.layers()] == [x.name for x in load(card).layers()]
    (row, *_) = rows_of(study, views="center")
    stored = predictions.read(study / "predictions", row.stored)
    tested = np.flatnonzero(stored.fold == 1)
    extract(study, str(cards[1]), layers=["conv", "fc"], device="cpu")
    with open_study(study).features(made.name) as file:
        scores, conv = file.read("fc")[tested], file.read("conv")[tested]
    shifted = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    np.testing.assert_allclose(shifted, stored.scores[tested], rtol=1e-3, atol=1e-4)
    extract(study, card, layers=["conv"], device="cpu")
    with open_study(study).features("tiny") as file:
        before = file.read("conv")
    assert not np.allclose(before[tested], conv)
    report(study)
    legend = (study / "report" / "index.html").read_text(encoding="utf-8")
    assert "fine-tuned</li>" in legend
    assert "trained from scratch</li>" not in legend
    with (study / "report" / "changes.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert (line["backbone"], line["origin"], line["layer"]) == (made.name, "tiny", "conv")
    with open_study(study).features(made.name) as file:
        grams = [u_centred(linear_gram(x)) for x in (before, file.read("conv"))]
    assert float(line["cka"]) == pytest.approx(alignment(*grams))
    assert 0.1 < float(line["cka"]) < 0.9999


def test_its_card_says_what_the_layers_return_as_the_first_card_did(
    tmp_path: Path, tiny_card: Callable[..., Path]
) -> None:
    declared = '{ module = "pool", output = "map channels last" }'
    backbone = load(str(tiny_card('pool = "pool"', f"pool = {declared}")))
    network = Network(backbone.model, Head(5, 2, 0), None)
    about = {"tasks": ["side"], "data": "-", "method": "finetune", "fold": 0}
    made = load(str(write(tmp_path, "tuned", network, backbone, seen=np.arange(4), about=about)))
    assert made.architecture.card.outputs == backbone.architecture.card.outputs != {}
    assert [x.output for x in made.layers()] == [x.output for x in backbone.layers()]
    tokens = DeclaredOutput("blocks", "tokens", 2, cls=True)
    assert declared_as(tokens) == {"module": "blocks", "output": "tokens", "prefix": 2, "cls": True}


def test_selffer_networks_start_from_the_network_of_their_own_fold(
    tmp_path: Path, card: str, data: str
) -> None:
    study = tmp_path / "study"
    with pytest.raises(InputError, match=r"no such network was trained here; run .* --save first"):
        finetune(
            study, card, data=data, tasks=["side"], base="scratch", freeze_through=["conv"],
            recipe=QUICK, device="cpu",
        )  # fmt: skip
    assert not study.exists()
    finetune(
        study, card, data=data, tasks=["side"], from_scratch=True, recipe=QUICK, save=True,
        device="cpu",
    )  # fmt: skip
    finetune(
        study, card, tasks=["side"], base="scratch", freeze_through=["conv"], recipe=QUICK,
        save=True, device="cpu",
    )  # fmt: skip
    rows = rows_of(study, method="frozen")
    assert {(r.backbone, r.domain, r.layer) for r in rows} == {("tiny@scratch", "task", "conv")}
    for fold in range(3):
        first = load_file(study / "networks" / f"tiny@side-scratch-fold{fold}.safetensors")
        second = load_file(
            study / "networks" / f"tiny@scratch@side-frozen-conv-fold{fold}.safetensors"
        )
        assert torch.equal(first["conv.weight"], second["conv.weight"])
        assert not torch.equal(first["fc.weight"], second["fc.weight"])
    other = load_file(study / "networks" / "tiny@side-scratch-fold0.safetensors")
    assert not torch.equal(first["conv.weight"], other["conv.weight"])


def test_a_network_that_saw_the_test_fold_is_refused(tmp_path: Path, card: str, data: str) -> None:
    study = tmp_path / "study"
    finetune(study, card, data=data, tasks=["side"], recipe=QUICK, save=True, device="cpu")
    folder = study / "networks"
    shutil.copy(
        folder / "tiny@side-finetune-fold1.safetensors",
        folder / "tiny@side-finetune-fold0.safetensors",
    )
    with pytest.raises(InputError, match="trained on other rows than this fold's training rows"):
        finetune(
            study, card, tasks=["side"], base="finetune", copy_through=["conv"], recipe=QUICK,
            device="cpu",
        )  # fmt: skip
