"""The seconds that extraction took: beside the feature file, by array, summed over a resumed run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toys import write_images

from features.extraction.extract import extract, extract_together
from features.machine.device import cores
from features.machine.spent import Spent
from features.store.seconds import Timing, note_seconds, read_seconds, seconds_path
from features.study.status import removing_features
from features.study.study import open_study
from probe.reporting.tables.cost import backbone_tables

TinyCard = Callable[..., Path]
ONE = Timing(3.0, 6, "cpu", "float32", 1, 2, ("tiny",))


def test_passes_of_one_kind_are_summed_and_another_kind_replaces_them(tmp_path: Path) -> None:
    file = tmp_path / "my.net.h5"
    note_seconds(file, ["conv", "fc"], ONE)
    note_seconds(file, ["fc"], replace(ONE, seconds=1.0, images=2))
    assert read_seconds(file) == {"conv": ONE, "fc": replace(ONE, seconds=4.0, images=8)}
    assert read_seconds(file)["fc"].per_thousand == 500.0
    assert [path.name for path in tmp_path.iterdir()] == ["my.net.seconds.json"]
    for change in ({"device": "H100"}, {"threads": 1}, {"together": ("tiny", "other")}):
        other = replace(ONE, seconds=7.0, images=7, **change)
        note_seconds(file, ["conv"], other)
        assert read_seconds(file)["conv"] == other
    both = replace(ONE, processor=2.0)
    note_seconds(file, ["new"], both)
    note_seconds(file, ["new"], both)
    assert read_seconds(file)["new"].spent == Spent(6.0, 4.0)
    note_seconds(file, ["new"], ONE)  # of which they are not known
    assert read_seconds(file)["new"].spent == Spent(9.0, 0.0)
    seconds_path(file).write_text(seconds_path(file).read_text()[:40])
    assert read_seconds(file) == {}
    note_seconds(file, ["conv"], other)
    note_seconds(file, ["conv"], replace(ONE, images=0))
    assert read_seconds(file)["conv"] == other


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_pass_is_measured_from_its_images_to_its_file(
    tiny_card: TinyCard, tmp_path: Path, workers: int
) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 12, (3,), {7: 5})
    study, options = tmp_path / "study", {"device": "cpu", "workers": workers, "lanes": 1}
    first = extract(
        study, str(card), data=str(manifest), limit=6, layers=("conv",), batch_size=2, **options
    )
    early = read_seconds(first.file)
    assert set(early) == {"conv", "conv:avg"}
    one = early["conv"]
    threads = max(1, cores() // workers) * workers
    assert one == Timing(
        one.seconds, first.computed, "cpu", "float32", workers, threads, ("tiny",), one.processor
    )
    assert 0 < one.processor < 1.1 * cores() * one.seconds
    assert 0 < one.seconds <= first.seconds
    second = extract(study, str(card), batch_size=2, **options)
    late = read_seconds(second.file)
    # Two passes: the layers that were missing in the rows there, then all layers in the other rows.
    assert late["fc"].images == late["conv"].images == second.computed
    assert late["fc"].seconds <= second.seconds
    assert one.seconds < late["conv"].seconds < one.seconds + second.seconds


def test_the_cost_table_says_seconds_and_where(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 9)
    other = card.with_name("other.toml")
    other.write_text(card.read_text().replace('"tiny"', '"other"', 1))
    study = tmp_path / "study"
    extract(study, str(card), data=str(manifest), layers=("conv",), device="cpu")
    results = extract_together(
        study,
        {str(card): None, str(other): None},
        layers=("fc",),
        device="cpu",
        precision="float32",
    )
    note_seconds(results[0].file, ["conv"], replace(ONE, precision="bf16", workers=2))
    _, cost = backbone_tables(open_study(study))
    places = [column.name for column in cost.columns].index("seconds_per_1000")
    told = {(row[0], row[1], row[2]): row[places:] for row in cost.rows}
    assert told["tiny", "conv", "auto"] == (500.0, "cpu, 2 threads, 2 workers, bf16")
    shared = read_seconds(results[1].file)["fc"]
    words = f"cpu, {cores()} threads, 2 backbones at once"
    assert told["other", "fc", "none"] == (1000 * shared.seconds / 9, words)
    assert told["tiny", "fc", "none"] == told["other", "fc", "none"]
    for path in (study / "features").glob("*.json"):
        path.unlink()
    _, blank = backbone_tables(open_study(study))
    assert {row[places:] for row in blank.rows} == {(None, "")}


def test_they_go_with_their_backbone(tiny_card: TinyCard, tmp_path: Path) -> None:
    card, manifest = tiny_card(), write_images(tmp_path / "images", 3)
    extract(tmp_path / "study", str(card), data=str(manifest), device="cpu")
    with removing_features(open_study(tmp_path / "study"), "tiny"):
        assert len(list((tmp_path / "study" / "features").glob("tiny*"))) > 1
    assert list((tmp_path / "study" / "features").iterdir()) == []
