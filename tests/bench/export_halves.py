"""Whether new images keep the promise of an export: random halves of the people, one fitted, one predicted.

    python tests/bench/export_halves.py STUDY --task gender --weights FILE

STUDY holds features of all images, of a trained backbone; subjects come from its images.csv, and of data
without subjects every image is one. For each seed a study of one half is fitted and its highest best row
exported; the images of the other half are predicted from their files. Printed are, by half, the accuracy,
the promise and the interval of the new images, and at the end how often it held.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from features.arrays import Ints
from features.data.manifest import Manifest
from features.store.making import create
from features.store.writer import Writer
from features.study.drafting import draft
from features.study.saving import save
from features.study.study import Study, hash_of, open_study
from probe.exported.export import export
from probe.exported.exported_probe import load_probe
from probe.exported.judged import judged
from probe.fitting.fit import fit


def half_of(study: Study, seed: int) -> Ints:
    """The rows of half of the subjects."""
    people = np.unique(study.subjects)
    chosen = np.random.default_rng(seed).permutation(people)[: len(people) // 2]
    return np.flatnonzero(np.isin(study.subjects, chosen) & study.used)


def begin(study: Study, rows: Ints, folder: Path, backbone: str, keys: list[str]) -> Study:
    """A study of some rows with the features that the whole study has of them."""
    columns = {name: [values[r] for r in rows] for name, values in study.columns.items()}
    columns["path"] = [str(study.root / path) for path in columns["path"]]
    columns.setdefault("subject", [str(study.subjects[r]) for r in rows])
    made = draft(folder, Manifest("half", Path("/"), columns, study.tasks, closest=study.closest))
    save(made)
    with study.features(backbone) as file:
        about = [{"key": key, **file.about(key)} for key in keys]
        attributes = {**file.attributes, "images": hash_of(made.paths)}
        arrays = {key: file.read(key, rows) for key in keys}
    path = made.feature_path(backbone)
    partial = path.with_name(path.name + ".partial")
    create(partial, len(rows), np.arange(len(rows)), about, "float32", attributes)
    with Writer(partial) as writer:
        writer.write(np.arange(len(rows)), arrays)
    partial.rename(path)
    return open_study(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--task", required=True)
    parser.add_argument("--backbone", default="mobilefacenet")
    parser.add_argument("--weights")
    parser.add_argument("--probes", default="logistic")
    parser.add_argument("--layers", default="conv2:avg,linear1")
    parser.add_argument("--halves", type=int, default=20)
    given = parser.parse_args()
    study = open_study(given.study)
    inside, results = 0, []
    for seed in range(given.halves):
        started = time.perf_counter()
        rows = half_of(study, seed)
        others = np.setdiff1d(np.flatnonzero(study.used), rows)
        with tempfile.TemporaryDirectory() as folder:
            begin(study, rows, Path(folder) / "s", given.backbone, given.layers.split(","))
            fit(Path(folder) / "s", tasks=[given.task], probes=given.probes.split(","))
            (made,) = export(Path(folder) / "s", tasks=[given.task])
            probe = load_probe(made.file, weights=given.weights)
            predictions = probe.predict([study.root / study.paths[r] for r in others])
        labels = [study.columns[given.task][r] for r in others]
        subjects = [str(study.subjects[r]) for r in others]
        told = judged(given.task, predictions, labels, subjects, probe.about.accuracy)
        assert told is not None
        inside += told.kept
        results.append(told.accuracy)
        print(
            f"{seed}: {made.about.layer}:{made.about.pool}, {told} "
            f"[{time.perf_counter() - started:.0f} s]",
            flush=True,
        )
    print(json.dumps({"halves": given.halves, "inside": inside, "mean": float(np.mean(results))}))


if __name__ == "__main__":
    main()
