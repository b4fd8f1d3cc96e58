"""thingsvision on the images of a folder: VGG-16, some modules, whole maps to disk; prints its seconds.

    PYTHON tests/bench/peer_thingsvision.py IMAGES OUT MODULE...

Run by a Python that has thingsvision (`python -m venv tv && tv/bin/pip install thingsvision`), which
wants a PyTorch of its own; tests/bench/extraction.py starts it with --thingsvision tv/bin/python.
"""

import contextlib
import io
import sys
import time

from thingsvision import get_extractor
from thingsvision.utils.data import DataLoader, ImageDataset

images, out, *modules = sys.argv[1:]
with contextlib.redirect_stdout(io.StringIO()):
    extractor = get_extractor("vgg16", source="torchvision", device="cpu", pretrained=False)
    started = time.perf_counter()
    dataset = ImageDataset(
        root=images,
        out_path=out,
        backend=extractor.get_backend(),
        transforms=extractor.get_transformations(),
    )
    batches = DataLoader(dataset=dataset, batch_size=32, backend=extractor.get_backend())
    extractor.extract_features(
        batches=batches,
        module_names=modules,
        flatten_acts=True,
        output_type="ndarray",
        output_dir=out,
    )
    seconds = time.perf_counter() - started
print(seconds)
