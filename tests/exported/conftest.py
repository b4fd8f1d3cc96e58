from pathlib import Path

import numpy as np
import pytest
import toys
from PIL import Image

from features.extraction.extract import extract
from features.study.study import Study, open_study
from probe.fitting.fit import fit

N = 60


def photo(row: int) -> Image.Image:
    """An 8 x 8 image; those of odd rows are brighter, most of the time."""
    drawn = np.random.default_rng([9, row])
    pixels = drawn.normal(120 + 12 * (row % 2), 30, (8, 8, 3)).clip(0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def write_photos(folder: Path, rows: range) -> Path:
    """Images and their manifest, two of every subject."""
    folder.mkdir(parents=True)
    lines = ["path,tone,subject"]
    for row in rows:
        photo(row).save(folder / f"{row:03}.png")
        lines.append(f"{row:03}.png,{('dark', 'bright')[row % 2]},s{row // 2}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return folder / "data.csv"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A fitted study of 60 images and a network of its own; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("exported")
    card = toys.write_card(folder / "cards")
    data = write_photos(folder / "photos", range(N))
    for weights in (None, "random"):
        extract(
            folder / "study", str(card), data=str(data), layers=["pool", "fc"], weights=weights,
            pool=["auto"],
        )  # fmt: skip
    fit(folder / "study", probes=["logistic", "svm", "knn"], c=[0.001, 0.1])
    return open_study(folder / "study")
