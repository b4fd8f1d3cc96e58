from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from toys import write_card, write_images

from features.extraction.extract import extract


def test_rows_that_only_repeat_images_take_their_features(tmp_path: Path) -> None:
    """No network runs then; an unreadable image stays one."""
    data = write_images(tmp_path / "images", 6, bad=(2,))
    card = write_card(tmp_path / "cards")
    made = extract(tmp_path / "study", str(card), data=str(data), batch_size=4)
    with data.open("a") as file:
        file.write("0001.png,a\n0002.png,b\n")
    extract(tmp_path / "study", str(card), update=True, batch_size=4)
    with h5py.File(made.file) as opened:
        assert opened["status"][:].tolist() == [1, 1, 2, 1, 1, 1, 1, 2]
        for layer in opened["layers"].values():
            np.testing.assert_array_equal(layer[6], layer[1])
