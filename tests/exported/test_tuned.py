"""Fine-tunes as exports: trained once more on all rows, and read back as they were trained."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toys
from exported.conftest import write_photos

from features.errors import InputError
from probe.exported.export import export
from probe.exported.exported_probe import load_probe
from probe.finetuning.all_rows import train_on_all
from probe.finetuning.finetune import finetune
from probe.finetuning.options import FineTuneOptions
from probe.finetuning.plan import prepare
from probe.results.rows import read, write
from probe.training.recipes import recipe
from probe.training.train import predict

SHORT = recipe("modern", epochs=3, patience=0, batch_size=8)
KINDS = [({}, "-/finetune"), ({"freeze_through": ["fc"]}, "fc/frozen")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("how", "name"), KINDS, ids=["own head", "head on top"])
def test_a_fine_tune_is_trained_on_all_rows_and_read_back(
    tmp_path: Path, how: dict[str, list[str]], name: str
) -> None:
    card = str(toys.write_card(tmp_path / "cards"))
    data = write_photos(tmp_path / "photos", range(24))
    options = FineTuneOptions(
        tmp_path / "study", card, data=str(data), recipe=SHORT, views=("center",), folds=3,
        device="cpu", **how,
    )  # fmt: skip
    finetune(**{field: getattr(options, field) for field in vars(options)})
    rows = read(tmp_path / "study/results.csv")
    epochs = dict(zip(range(3), (1, 2, 3), strict=True))  # as if folds had stopped early
    write(
        tmp_path / "study/results.csv",
        [replace(row, epochs=epochs[row.fold]) if row.epochs else row for row in rows],
    )
    file = tmp_path / "tone.probe"
    (made,) = export(tmp_path / "study", f"tiny/{name}", out=file, backbone=card)
    assert made.about.value == 2
    assert made.about.name == f"tiny/{name}"
    assert made.about.trained_on["images"] == 24
    plan = prepare(replace(options, data=None))
    run, (job,) = plan.run, plan.jobs
    again = train_on_all(run, job, 2)
    assert len(again.rows) == 24
    from probe.training.cut import EMPTY
    from probe.training.setup import TrainingJob

    whole = TrainingJob(again.network, EMPTY, SHORT, 1.0, job.goal, run.feed, 2, 0)
    wanted = predict(whole, np.arange(24), "center")
    shutil.rmtree(tmp_path / "study")
    (tmp_path / "cards/tiny.safetensors").unlink()
    probe = load_probe(file)
    files = [tmp_path / "photos" / f"{row:03}.png" for row in range(24)]
    np.testing.assert_allclose(probe.predict(files).probabilities, wanted, atol=1e-4)


def test_a_graph_of_a_fine_tune_is_held_to_its_features(tmp_path: Path) -> None:
    card = str(toys.write_card(tmp_path / "cards"))
    data = write_photos(tmp_path / "photos", range(24))
    study = tmp_path / "study"
    finetune(study, card, data=str(data), recipe=SHORT, views=["center"], folds=3, device="cpu")
    (made,) = export(study, "tiny/-/finetune", format="pt2", backbone=card)
    assert made.file.stat().st_size > 1000
    with pytest.raises(InputError, match="no such result"):
        export(study, "tiny/-/scratch", backbone=card)
