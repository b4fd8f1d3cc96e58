import csv
import hashlib
import json
import tomllib
from collections import Counter, defaultdict
from dataclasses import astuple, replace
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from features.images.thumbnails import thumbnails
from features.networks.small import small
from features.sample import dataset, pretrain
from features.sample.dataset import CONFLICT, COPY, PLANTED, TASKS, SampleRow, plan
from features.sample.faces import SIZE, Person, draw_face, draw_person
from features.sample.objects import CLASSES, draw_object
from probe.checking import find_copies

OF_BEFORE = "6e70d07b108f326aeb79f1c005a4a0f57d5ecc5c20dcabe835ef8b63e5929301"
PACKAGE = Path(dataset.__file__).parents[1]
DOMAINS: tuple[pretrain.Domain, ...] = ("faces", "objects")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    dataset.write_sample(folder)
    return folder


def card(domain: str) -> dict[str, Any]:
    return tomllib.loads((PACKAGE / "cards" / f"sample-{domain}.toml").read_text())


def pixels(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image, np.float64)


def test_the_manifest_on_disk_is_the_plan_and_every_image_is_there(sample: Path) -> None:
    with (sample / "sample.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "age", "light", "coin", "subject", "fold"]
    assert [tuple(row.values()) for row in rows] == [
        tuple(str(value) for value in astuple(row)) for row in plan()
    ]
    found = {str(path.relative_to(sample)) for path in sample.rglob("*.*")} - {"sample.csv"}
    assert found == {row["path"] for row in rows}
    for row in rows[::97]:
        with Image.open(sample / row["path"]) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIZE, SIZE))


def test_studies_of_the_sample_before_it_grew_find_their_images() -> None:
    """The first 600 rows are those of a sample of 120 subjects, by the digest that it had."""
    first = repr([astuple(row) for row in plan()[:600]]).encode()
    assert hashlib.sha256(first).hexdigest() == OF_BEFORE
    assert not {row.path for row in plan()[:600]} & {*dataset._AGAIN}


def test_no_two_subjects_are_drawn_so_alike_that_a_fit_would_be_refused(sample: Path) -> None:
    rows = plan()
    seen = thumbnails([sample / row.path for row in rows])
    alike = find_copies._near(seen.grey, np.arange(len(rows)))
    assert [(a, b) for a, b, _ in alike if rows[a].fold != rows[b].fold] == []


def test_redrawing_gives_the_same_bytes_in_any_order(sample: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.jpg"
    for row in plan()[-2::-83]:
        dataset.draw_image(row).save(again, quality=dataset.QUALITY)
        assert again.read_bytes() == (sample / row.path).read_bytes()


def test_another_seed_draws_another_sample() -> None:
    first, other = plan(0), plan(1)
    assert [row.age for row in first] != [row.age for row in other]
    drawn = [pixels(dataset.draw_image(first[5], seed)) for seed in (0, 1)]
    assert np.abs(drawn[0] - drawn[1]).mean() > 5


@pytest.mark.parametrize("seed", range(4))
def test_subjects_and_folds(seed: int) -> None:
    rows = plan(seed)
    of = defaultdict(list)
    for row in rows:
        of[row.subject].append(row)
    assert (len(rows), len(of), len({row.path for row in rows})) == (1200, 720, 1200)
    for images in of.values():
        assert len({(row.fold, row.age, row.coin) for row in images}) == 1
    assert Counter(row.fold for row in rows) == dict.fromkeys(range(5), 240)
    people = Counter((images[0].fold, images[0].age) for images in of.values())
    assert people == {(fold, age): 18 for fold in range(5) for age in TASKS["age"].classes}
    held = sorted((len(images) for images in of.values()), reverse=True)
    assert sum(held[:10]) == 170
    assert held[10] < 17


@pytest.mark.parametrize("seed", range(4))
def test_labels_are_the_tasks_classes_and_the_coin_is_fair_in_every_fold(seed: int) -> None:
    rows = plan(seed)
    for name, task in TASKS.items():
        assert {getattr(row, name) for row in rows} == set(task.classes)
        assert task.chance == 1 / len(task.classes)
    heads = Counter(row.fold for row in rows if row.coin == "heads")
    assert all(116 <= heads[fold] <= 124 for fold in range(5))


def test_the_planted_copies_are_copies_and_the_only_ones(sample: Path) -> None:
    rows = {row.path: row for row in plan()}
    alike = defaultdict(list)
    for path in rows:
        alike[(sample / path).read_bytes()].append(path)
    assert sorted(tuple(paths) for paths in alike.values() if len(paths) > 1) == [COPY, CONFLICT]
    first, second = (rows[path] for path in COPY)
    assert replace(second, path=first.path) == first
    first, second = (rows[path] for path in CONFLICT)
    assert first.light != second.light
    assert replace(second, path=first.path, light=first.light) == first


def test_what_is_planted_is_said_in_one_sentence_each() -> None:
    assert list(PLANTED) == ["age", "light", "coin", "copy", "conflict"]
    assert all(path in PLANTED["copy"] for path in COPY)
    assert all(path in PLANTED["conflict"] for path in CONFLICT)


def test_the_coin_is_nowhere_in_the_image_and_the_other_labels_are() -> None:
    row = plan()[40]
    as_is = pixels(dataset.draw_image(row))
    coin = {"heads": "tails", "tails": "heads"}[row.coin]
    np.testing.assert_array_equal(pixels(dataset.draw_image(replace(row, coin=coin))), as_is)
    age = next(age for age in TASKS["age"].classes if age != row.age)
    light = next(light for light in TASKS["light"].classes if light != row.light)
    for other in (replace(row, age=age), replace(row, light=light)):
        assert np.abs(pixels(dataset.draw_image(other)) - as_is).mean() > 1


def test_the_lit_side_of_a_face_is_the_bright_one() -> None:
    person = draw_person(30, np.random.default_rng(0))

    def lit(light: str) -> NDArray[np.float64]:
        drawn = [
            draw_face(person, dataset.LIGHTS[light], np.random.default_rng(i)) for i in range(8)
        ]
        mean: NDArray[np.float64] = np.mean([pixels(image) for image in drawn], axis=(0, 3))
        return mean[24:72, 24:72]

    sideways, upright = lit("left") - lit("right"), lit("above") - lit("below")
    assert sideways[:, :16].mean() > 5 > -5 > sideways[:, -16:].mean()
    assert upright[:16].mean() > 5 > -5 > upright[-16:].mean()


def test_no_light_strays_into_another_label() -> None:
    turns = np.sort(np.array(list(dataset.LIGHTS.values())) % (2 * pi))
    apart = np.diff(turns, append=turns[0] + 2 * pi)
    assert apart.min() > 2 * dataset.STRAY


def test_age_shows_in_several_cues_and_in_none_for_certain() -> None:
    def people(age: float) -> dict[str, NDArray[np.float64]]:
        drawn = [draw_person(age, np.random.default_rng([7, i])) for i in range(60)]
        cues = ("lines", "hairline", "lips", "chin", "eye_size", "blotches")
        return {cue: np.array([getattr(person, cue) for person in drawn]) for cue in cues}

    child, grown, old = people(5), people(40), people(70)
    for cue, rises in (("lines", 1), ("blotches", 1), ("hairline", 1), ("lips", -1)):
        assert rises * (old[cue].mean() - grown[cue].mean()) > 0
    for cue, rises in (("chin", 1), ("eye_size", -1)):
        assert rises * (grown[cue].mean() - child[cue].mean()) > 0
    for cue in grown:
        assert max(grown[cue].min(), old[cue].min()) < min(grown[cue].max(), old[cue].max())


def test_pretraining_never_draws_what_the_sample_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    start = np.random.default_rng

    def states(draw: Any) -> set[tuple[int, ...]]:
        seen = set()

        def record(seed: Any) -> np.random.Generator:
            seen.add(tuple(np.random.SeedSequence(seed).generate_state(4).tolist()))
            return start(seed)

        with monkeypatch.context() as patch:
            patch.setattr(np.random, "default_rng", record)
            draw()
        return seen

    def draw_sample() -> None:
        one_of_each: dict[str, SampleRow] = {row.subject: row for row in plan()}
        for row in one_of_each.values():
            dataset.draw_image(row)

    def draw_pretraining() -> None:
        for domain in DOMAINS:
            for label in range(len(CLASSES)):
                pretrain.draw_example(domain, label, 0)

    ours, theirs = states(draw_sample), states(draw_pretraining)
    assert len(ours) >= 3 * 720  # a person, what marks it and an image for each subject
    assert len(theirs) >= 3 * 48 + 48
    assert not ours & theirs


def test_an_identity_is_kept_and_all_else_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    met = []

    def meet(person: Person, light: float, rng: np.random.Generator) -> Image.Image:
        met.append(person.marks)
        return draw_face(person, light, rng)

    monkeypatch.setattr(pretrain, "draw_face", meet)
    first, second = (pixels(pretrain.draw_example("faces", 6, image)) for image in range(2))
    assert np.abs(first - second).mean() > 5
    pretrain.draw_example("faces", 7, 0)
    assert met[0] == met[1] != met[2]


def test_a_kind_of_object_is_drawn_anew_each_time() -> None:
    first, second = (pixels(draw_object(3, np.random.default_rng(i))) for i in range(2))
    assert np.abs(first - second).mean() > 5
    assert len(set(CLASSES)) == len(CLASSES) == 48


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_bundled_weights_are_those_of_the_card(domain: str) -> None:
    described = card(domain)
    file = PACKAGE / "cards" / described["weights"][0]["path"]
    assert file.stat().st_size < 1_000_000
    assert hashlib.sha256(file.read_bytes()).hexdigest() == described["weights"][0]["sha256"]
    small(**described["options"]).load_state_dict(load_file(file), strict=True)
    with safe_open(file, "pt") as opened:
        made = json.loads(opened.metadata()["made"])
    assert made["domain"] == described["domain"] == domain
    assert made["network"] == described["network"]


def test_the_two_cards_differ_in_domain_alone() -> None:
    faces, objects = card("faces"), card("objects")
    assert (faces["pair"], objects["pair"]) == (objects["name"], faces["name"])
    for key in ("network", "options", "input", "layers", "licence"):
        assert faces[key] == objects[key]
    expected = {"size": [SIZE, SIZE], "mean": [pretrain.MEAN] * 3, "std": [pretrain.STD] * 3}
    assert {key: faces["input"][key] for key in expected} == expected
    modules = [name for name, _ in small().named_modules()]
    places = [modules.index(module) for module in faces["layers"].values()]
    assert places == sorted(places)
    assert len(places) >= 6


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_bundled_network_knows_its_own_domain(domain: pretrain.Domain) -> None:
    net = small().eval()
    net.load_state_dict(load_file(PACKAGE / "sample" / f"{domain}.safetensors"))
    unseen = range(pretrain.TRAIN, pretrain.TRAIN + 2)
    score = pretrain.accuracy(net, *pretrain.draw_examples(domain, unseen))
    other: pretrain.Domain = "objects" if domain == "faces" else "faces"
    elsewhere = pretrain.accuracy(net, *pretrain.draw_examples(other, unseen))
    assert score > 0.5 > 0.15 > elsewhere


def test_training_again_gives_the_same_tensors() -> None:
    images, labels = pretrain.draw_examples("objects", range(1), classes=8)
    before = torch.random.get_rng_state()
    first, again, other = (
        pretrain.train(images, labels, steps=3, batch=8, seed=seed).state_dict()
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name])
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_augmentation_mirrors_and_moves_but_invents_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = torch.arange(12 * 12, dtype=torch.uint8).reshape(1, 12, 12).repeat(3, 1, 1)
    images = image.repeat(32, 1, 1, 1)
    moved = pretrain.augment(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert set(moved.flatten().tolist()) <= set(image.flatten().tolist())
    assert len({tuple(one.flatten().tolist()) for one in moved}) > 26
    monkeypatch.setattr(pretrain, "SHIFT", 0)
    turned = pretrain.augment(images, torch.Generator().manual_seed(0))
    mirrored = [torch.equal(one, image.flip(2).float()) for one in turned]
    kept = [torch.equal(one, image.float()) for one in turned]
    assert sum(mirrored) + sum(kept) == 32
    assert 8 <= sum(mirrored) <= 24


def test_random_weights_keep_the_spread_of_what_passes() -> None:
    torch.manual_seed(0)
    net = small().eval()
    x = torch.randn(16, 3, SIZE, SIZE)
    with torch.inference_mode():
        for name, module in net.named_children():
            x = module(x)
            if name.startswith("conv"):
                assert 0.3 < x.std().item() < 6
