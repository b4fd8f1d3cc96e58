"""The grid solver against that of another commit: the same arrays, one machine, one run.

    git worktree add /tmp/before COMMIT
    python tests/bench/engine.py --against /tmp/before
    python tests/bench/engine.py --against /tmp/before --study STUDY --layers mobilefacenet/conv2:avg
    python tests/bench/engine.py --against /tmp/before --study STUDY --layers all --runs 1

For every layer: processor and wall seconds of the nested grids of all tasks and probes (13 C, five folds,
inner folds and training sets shared) by both, alternating, the medians; then for every task and probe in
how many folds the chosen C agrees, in how many it is more than one step off, what the accuracy gains, and
how many predictions differ where all folds agree. At the end the same by probe and width. Layers are drawn
as in probes.py, or read from a study.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()


def arrays(given: argparse.Namespace) -> dict[str, Path]:
    """A file of features, labels and folds for every layer and task, by its name."""
    folder = Path(tempfile.mkdtemp())
    made = {}
    if given.study is None:
        from probes import drawn

        for shape in given.shapes:
            rows, dim, classes = (int(part) for part in shape.split("x"))
            x, y = drawn(rows, dim, classes)
            made[shape] = folder / f"{shape}.npz"
            task = {"y task": y, "part task": np.arange(rows) % 5, "of_part task": np.arange(5)}
            np.savez(made[shape], x=x, **task)
        return made
    from features.store.featurefile import DONE
    from features.study.study import open_study
    from probe.folds.make_splits import make_splits

    study = open_study(given.study)
    layers = given.layers
    if layers == ["all"]:
        layers = []
        for backbone in study.backbones():
            with study.features(backbone) as file:
                layers += [f"{backbone}/{key}" for key in file.keys]
    for name in layers:
        backbone, key = name.split("/", 1)
        with study.features(backbone) as file:
            x, readable = file.read(key), file.status == DONE
        by_task = {}
        for task in given.tasks:
            splits = make_splits(study, study.tasks[task], readable, None, 0)
            by_task[f"y {task}"] = study.labels(task)
            by_task[f"part {task}"] = splits.part
            by_task[f"of_part {task}"] = splits.fold_of_part
        at = f"{name} {x.shape[1]}"
        made[at] = folder / f"{len(made)}.npz"
        np.savez(made[at], x=x, **by_task)
    return made


def one(arguments: list[str]) -> None:
    """Fit every probe on one file with the code that is imported, and write what came of it."""
    from probe.fitting import crossval
    from probe.folds.splits import Splits
    from probe.probes.layer import Source
    from probe.probes.methods import GRID
    from probe.probes.scorer import Shared
    from probe.probes.settings import ProbeSettings

    held = np.load(arguments[0])
    source, shared, out, asked = Source.of(held["x"]), Shared(8 << 30), {}, {}
    for task in [key.split(" ", 1)[1] for key in held if key.startswith("y ")]:
        y, splits = held[f"y {task}"], Splits(held[f"part {task}"], held[f"of_part {task}"])
        for method in arguments[2:]:
            settings = ProbeSettings(method, "standard", GRID, True, "grid")
            asked[f"{task} {method}"] = (source, y, int(y.max()) + 1, splits, settings, shared)
    wall, processor = time.perf_counter(), time.process_time()
    if hasattr(crossval, "together"):
        outcomes = crossval.together([crossval.search(*each) for each in asked.values()])
    else:  # commits before
        outcomes = [crossval.cross_validate(*each) for each in asked.values()]
    out["seconds"] = np.array([time.process_time() - processor, time.perf_counter() - wall])
    for (at, (_, y, *_)), outcome in zip(asked.items(), outcomes, strict=True):
        told = np.nan_to_num(outcome.scores, nan=-np.inf).argmax(1)
        out[f"{at} told"], out[f"{at} right"] = told, np.array((told == y).mean())
        out[f"{at} c"] = np.array([fold.value for fold in outcome.folds])
    np.savez(arguments[1], **out)


def main() -> None:
    """Run both and print."""
    if len(sys.argv) > 1 and sys.argv[1] == "one":
        return one(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, required=True, help="a checkout of another commit")
    parser.add_argument("--shapes", nargs="*", default=["2000x128x8", "2000x512x8", "2000x9216x8"])
    parser.add_argument("--study", type=Path)
    parser.add_argument("--layers", nargs="*", default=[])
    parser.add_argument("--tasks", nargs="*", default=["age", "gender"])
    parser.add_argument("--methods", nargs="*", default=["logistic", "svm"])
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    trees = {"before": given.against.resolve(), "now": HERE.parents[2]}
    print("layer | processor s before | now | ratio | wall s before | now")
    by_width: dict[tuple[str, str], list[np.ndarray]] = {}
    for name, file in arrays(given).items():
        made: dict[str, list[dict[str, np.ndarray]]] = {"before": [], "now": []}
        for run in range(given.runs):
            for tree, path in trees.items():
                out = file.with_suffix(f".{tree}.{run}.npz")
                subprocess.run(
                    [sys.executable, str(HERE), "one", str(file), str(out), *given.methods],
                    env={**os.environ, "PYTHONPATH": str(path)},
                    check=True,
                )
                made[tree].append(dict(np.load(out)))
        spent = {
            tree: np.median([run["seconds"] for run in runs], 0) for tree, runs in made.items()
        }
        (first, first_wall), (second, second_wall) = spent["before"], spent["now"]
        ratio = first / second
        walls = f"{first_wall:.1f} | {second_wall:.1f}"
        print(f"{name} | {first:.1f} | {second:.1f} | {ratio:.1f} | {walls}", flush=True)
        before, now = made["before"][0], made["now"][0]
        width = np.load(file)["x"].shape[1]
        for kind in [key.removesuffix(" c") for key in now if key.endswith(" c")]:
            off = (
                np.abs(np.log10(now[f"{kind} c"] / before[f"{kind} c"])) / 0.5
            )  # steps of the grid
            differ = int((before[f"{kind} told"] != now[f"{kind} told"]).sum())
            gain = 100 * float(now[f"{kind} right"] - before[f"{kind} right"])
            same = bool((off < 0.1).all())
            found = np.array(
                [(off < 0.1).sum(), len(off), (off > 1.1).sum(), gain, same, differ * same]
            )
            of = "to 128" if width <= 128 else "129 to 1,000" if width <= 1_000 else "beyond"
            by_width.setdefault((kind.split(" ")[1], of), []).append(found)
            print(f"    {kind}: {_agreement([found])}", flush=True)
    for (method, of), each in sorted(by_width.items()):
        print(f"{method}, features {of}, {len(each)} fits: {_agreement(each)}")


def _agreement(found: list[np.ndarray]) -> str:
    same, folds, far, gain, alike, differ = np.array(found)[:, :6].T
    return (
        f"same C in {same.sum():.0f} of {folds.sum():.0f} folds, {far.sum():.0f} more than a step off; "
        f"accuracy {gain.mean():+.3f} points; in the {alike.sum():.0f} alike in all folds at most "
        f"{differ.max():.0f} predictions differ"
    )


if __name__ == "__main__":
    main()
