"""Small images whose class is their brighter half, quick recipes for them, and the rows that come of it."""

from pathlib import Path

import numpy as np
from PIL import Image

from probe.results import rows as results
from probe.results.rows import Row
from probe.training.recipes import recipe

N = 48
QUICK = recipe("modern", epochs=2, patience=0, batch_size=8)
PLAIN = recipe("modern", epochs=2, patience=0, batch_size=8, crop=False, mirror=False, colour=0.0)


def write_data(folder: Path, *, folds: int = 3, other: dict[int, str] | None = None) -> Path:
    """Images whose class is the brighter half; `other` labels replace some."""
    folder.mkdir(exist_ok=True)
    lines = ["path,side,tone,fold"]
    for row in range(N):
        pixels = np.random.default_rng([9, row]).integers(0, 160, (8, 8, 3), dtype=np.uint8)
        side, tone = row % 2, row // 2 % 2
        pixels[4 * side : 4 * side + 4] += 95
        pixels[..., 0] //= 1 + 3 * tone
        Image.fromarray(pixels).save(folder / f"{row}.png")
        label = (other or {}).get(row, "upper" if side == 0 else "lower")
        lines.append(f"{row}.png,{label},{('red', 'blue')[tone]},{row % (2 * folds) // 2}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return folder / "data.csv"


def rows_of(study: Path, **wanted: object) -> list[Row]:
    rows = results.read(study / "results.csv")
    return [r for r in rows if all(getattr(r, k) == v for k, v in wanted.items())]
