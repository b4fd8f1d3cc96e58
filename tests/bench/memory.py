"""Memory of an extraction as it goes on, over many small images.

    python tests/bench/memory.py --images 20000

Draws JPEGs of 64 pixels, extracts all layers of a small network with random weights, and prints the
resident memory of the process after every tenth of the run.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from features.extraction.extract import extract


def resident() -> float:
    """Megabytes that the process holds in memory, its file pages not counted."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def main() -> None:
    """Draw, extract, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--backbone", default="sample-faces")
    asked = parser.parse_args()
    print(f"{platform.machine()}, torch {torch.__version__}, {asked.backbone}")
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for i in range(asked.images):
            path = Path(folder) / "images" / "ab"[i % 2] / f"{i:06}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            small.resize((64, 64)).save(path)
        step, seen = asked.images // 10, [0]

        def progress(done: int, total: int, _: str) -> None:
            if done >= seen[-1] + step or (seen[-1] == 0 and done >= total // 100):
                seen.append(done)
                print(f"{done:>7} of {total} images: {resident():.0f} MB", flush=True)

        result = extract(
            Path(folder) / "study",
            asked.backbone,
            data=str(Path(folder) / "images"),
            weights="random",
            device="cpu",
            progress=progress,
        )
        print(
            f"{result.computed} images in {result.seconds:.0f} s, {result.bottleneck} was busiest"
        )


if __name__ == "__main__":
    main()
