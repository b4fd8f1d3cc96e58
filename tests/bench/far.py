"""Which images an export marks as far: new ones like its own, and others.

    python tests/bench/far.py FACES FLOWERS --backbone mobilefacenet --layers conv2:avg,linear1

Both are studies with features of one backbone. For each random half of the subjects of FACES the distance
is made of the one half; printed are the shares marked of the other half and of FLOWERS.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from features.study.study import open_study
from probe.exported.distance import FAR, distance_from
from probe.exported.refit import scaler_of
from probe.probes.layer import Source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("flowers", type=Path)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--layers", required=True)
    parser.add_argument("--halves", type=int, default=3)
    given = parser.parse_args()
    study, other = open_study(given.faces), open_study(given.flowers)
    rows = np.flatnonzero(study.used)
    subjects = study.subjects[rows]
    people = np.unique(subjects)
    for layer in given.layers.split(","):
        with study.features(given.backbone) as file:
            x = file.read(layer, rows)
        with other.features(given.backbone) as file:
            flowers = file.read(layer, np.flatnonzero(other.used))
        marked = []
        for seed in range(given.halves):
            chosen = np.random.default_rng(seed).permutation(people)[: len(people) // 2]
            own = np.isin(subjects, chosen)
            source, every = Source.of(x[own]), np.arange(int(own.sum()))
            distance = distance_from(source, every, subjects[own], scaler_of(source, every))
            marked.append(
                [100 * (distance.quantile(distance(z)) > FAR).mean() for z in (x[~own], flowers)]
            )
        new, strange = np.mean(marked, 0)
        print(f"{layer}: {new:.1f} % of new ones marked, {strange:.1f} % of others", flush=True)


if __name__ == "__main__":
    main()
