"""Extraction against what the machine allows, and against a plain torchvision loop, in one run.

    python tests/bench/extraction.py --net alexnet --pixels 200
    python tests/bench/extraction.py --net vgg16 --pixels 816 --images 64 --json vgg16.json
    python tests/bench/extraction.py --part layers        # eight layers at once, and conv1 alone
    python tests/bench/extraction.py --part hooks         # VGG-16 at 816 pixels against hooks
    python tests/bench/extraction.py --part hooks --thingsvision tv/bin/python  # and thingsvision

Limits: forward is the network's pass alone, the best of the layouts tried, on all cores, bare and with
the asked layers copied and pooled; decode is reading, decoding and resizing alone on all cores. The
limit is 1 / (1 / forward + 1 / decode). Parts take turns for --rounds rounds; medians are printed, and
the shares of the limits from the best round of each part, since what else runs only ever slows it.
Networks have random weights, images are drawn. Loading the network is outside every time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms import v2

from features.backbone import Backbone, load
from features.extraction import pool as pooling
from features.extraction.capture import capture
from features.extraction.extract import extract
from features.extraction.pipeline import STAGES, default_batch_size, largest_map
from features.extraction.summary import Extraction
from features.images import jpeg
from features.images.decode import read_rgb
from features.images.preprocess import to_pixels
from features.machine.device import cores, reusing_memory
from features.store.featurefile import FeatureFile

NETS = ("alexnet", "vgg16", "squeezenet1_1", "mobilefacenet")


def photo(side: int, seed: int) -> Image.Image:
    """Soft colours with some grain, which a JPEG keeps at about the size of a photo."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (side // 16 + 1, side // 16 + 1, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    grain = rng.integers(-12, 13, (side, side, 3))
    return Image.fromarray((soft.astype(np.int16) + grain).clip(0, 255).astype(np.uint8))


def draw(folder: Path, n: int, side: int) -> list[Path]:
    """`n` JPEGs of `side` pixels in two class folders."""
    paths = [folder / "ab"[i % 2] / f"{i:05}.jpg" for i in range(n)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(side, i).save(path, quality=90)
    return sorted(paths)  # as the rows of the study


def rate(step: Callable[[int], object], lanes: int, calls: int, images: int) -> float:
    """Images a second of `calls` calls by `lanes` threads."""
    with ThreadPoolExecutor(lanes) as pool:
        started = time.perf_counter()
        list(pool.map(step, range(calls)))
        return calls * images / (time.perf_counter() - started)


def forward_rate(backbone: Backbone, pooled: bool, n: int) -> float:
    """The network's pass alone: the better of a thread per core and one pass on all cores."""
    size = default_batch_size(backbone, torch.device("cpu"))
    model = backbone.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(size, 3, *backbone.architecture.input.size)
    x = x.contiguous(memory_format=torch.channels_last)
    layers = backbone.layers()
    wanted = pooling.plan(layers, ("auto", "avg"))

    def reduce(layer: str, output: torch.Tensor) -> list[torch.Tensor]:
        return [pooling.apply(output, p) for p in wanted if p.layer.name == layer]

    found = []
    for lanes, threads in ((cores(), 1), (1, cores())):
        torch.set_num_threads(threads)
        with reusing_memory(largest_map(backbone) * size):
            calls = max(lanes, round(n / size / lanes) * lanes)
            if pooled:
                with capture(model, layers, backbone.architecture.traced, reduce) as run:
                    rate(lambda _: run(x), lanes, lanes, size)
                    found.append(rate(lambda _: run(x), lanes, calls, size))
            else:

                def bare(_: int) -> None:
                    with torch.inference_mode():
                        model(x)

                rate(bare, lanes, lanes, size)
                found.append(rate(bare, lanes, calls, size))
    return max(found)


def decode_rate(backbone: Backbone, paths: list[Path]) -> float:
    """Reading, decoding and resizing alone."""
    wanted = backbone.architecture.input
    return rate(lambda i: to_pixels(read_rgb(paths[i]), wanted), cores(), len(paths), 1)


class Files(Dataset):  # type: ignore[type-arg]
    """Image files through a torchvision transform."""

    def __init__(self, paths: list[Path], backbone: Backbone) -> None:
        self.paths = paths
        wanted = backbone.architecture.input
        resize = wanted.resize if wanted.resize is not None else wanted.size
        mean = [float(m) / wanted.scale for m in wanted.mean]
        std = [float(s) / wanted.scale for s in wanted.std]
        self.change = v2.Compose(
            [
                v2.Resize(resize),
                v2.CenterCrop(wanted.size),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.change(Image.open(self.paths[i]).convert("RGB"))  # type: ignore[no-any-return]


def plain_seconds(backbone: Backbone, paths: list[Path], module: str) -> float:
    """create_feature_extractor, cut at one layer, with a DataLoader of as many workers as cores."""
    torch.set_num_threads(cores())
    model = backbone.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    cut = create_feature_extractor(model, [module])
    started = time.perf_counter()
    rows = []
    with torch.inference_mode():
        for x in DataLoader(Files(paths, backbone), 32, num_workers=cores()):
            rows.append(cut(x)[module].flatten(1).numpy().copy())
    np.concatenate(rows)
    return time.perf_counter() - started


def hooks_seconds(
    backbone: Backbone, paths: list[Path], layers: list[str], precision: str = "float32"
) -> tuple[float, Any]:
    """A plain loop of hooks: global average pooling, float16, two loader workers."""
    torch.set_num_threads(cores())
    model = backbone.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    modules = dict(model.named_modules())

    def keep(name: str) -> Callable[..., None]:
        def hook(_m: Any, _i: Any, out: torch.Tensor) -> None:
            kept[name].append((out.mean((2, 3)) if out.dim() == 4 else out.clone()).half())

        return hook

    handles = [
        modules[layer.module].register_forward_hook(keep(layer.name))
        for layer in backbone.layers(tuple(layers))
    ]
    started = time.perf_counter()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, precision == "bf16"):
        for x in DataLoader(Files(paths, backbone), 32, num_workers=2):
            model(x)
    found = {name: torch.cat(parts).numpy() for name, parts in kept.items()}
    seconds = time.perf_counter() - started
    for handle in handles:
        handle.remove()
    return seconds, found


def ours(folder: Path, images: Path, net: str, **options: Any) -> Extraction:
    """JPEG files to the finished feature file."""
    study = Path(tempfile.mkdtemp(dir=folder))
    return extract(study, net, data=str(images), weights="random", device="cpu", **options)


def limits(net: str, paths: list[Path], folder: Path, images: Path, rounds: int) -> dict[str, Any]:
    """All layers of a card against the two limits and the plain loop."""
    backbone = load(net, "random")
    seen: dict[str, list[float]] = {}
    last = backbone.layers()[-1].module
    for _ in range(rounds):
        result = ours(folder, images, net)
        took = {
            "ours": result.computed / result.seconds,
            "forward": forward_rate(backbone, False, len(paths)),
            "forward pooled": forward_rate(backbone, True, len(paths)),
            "decode": decode_rate(backbone, paths),
            "plain loop, last layer": len(paths) / plain_seconds(backbone, paths, last),
        }
        took["ours / plain loop"] = took["ours"] / took["plain loop, last layer"]
        took["ours / pooled limit"] = took["ours"] * (
            1 / took["forward pooled"] + 1 / took["decode"]
        )
        took["ours / bare limit"] = took["ours"] * (1 / took["forward"] + 1 / took["decode"])
        lanes = result.lanes * result.workers
        for stage, alone in (("computing", "forward pooled"), ("decoding", "decode")):
            inside = result.computed * lanes / result.stages[stage]
            took[f"{stage}, share of its own limit"] = inside / took[alone]
        for stage in STAGES:
            took[f"{stage}, share of the cores"] = result.stages[stage] / result.seconds / cores()
        for name, value in took.items():
            seen.setdefault(name, []).append(value)
        print(net, {k: round(v, 3) for k, v in took.items()}, flush=True)
    best = {name: max(values) for name, values in seen.items()}
    for limit in ("forward", "forward pooled"):
        share = best["ours"] * (1 / best[limit] + 1 / best["decode"])
        seen[f"best rounds: ours / limit of {limit}"] = [share]
    seen["best rounds: ours"] = [best["ours"]]
    seen["best rounds: plain loop"] = [best["plain loop, last layer"]]
    return {
        "images": len(paths),
        "batch_size": result.batch_size,
        "bottleneck": result.bottleneck,
        **{name: statistics.median(values) for name, values in seen.items()},
    }


def layers_at_once(paths: list[Path], folder: Path, images: Path) -> dict[str, Any]:
    """Eight layers of AlexNet in one run against eight runs of the plain loop; conv1 and its prefix."""
    eight = ["conv1", "conv2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7"]
    backbone = load("alexnet", "random")
    result = ours(folder, images, "alexnet", layers=eight)
    runs = [plain_seconds(backbone, paths, layer.module) for layer in backbone.layers(tuple(eight))]
    conv1 = ours(folder, images, "alexnet", layers=["conv1"])
    prefix = backbone.model.features[:2].to(memory_format=torch.channels_last)
    size = conv1.batch_size
    x = torch.randn(size, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    torch.set_num_threads(1)

    def bare(_: int) -> None:
        with torch.inference_mode():
            prefix(x)

    rate(bare, cores(), cores(), size)
    forward = rate(bare, cores(), len(paths) // size * 2, size)
    limit = 1 / (1 / forward + 1 / decode_rate(backbone, paths))
    return {
        "one run, s": result.seconds,
        "eight plain runs, s": sum(runs),
        "times faster": sum(runs) / result.seconds,
        "conv1, images/s": conv1.computed / conv1.seconds,
        "its prefix and decoding, images/s": limit,
        "conv1 / prefix": conv1.computed / conv1.seconds / limit,
    }


def thingsvision_seconds(python: str, images: Path, backbone: Backbone, names: list[str]) -> float:
    """thingsvision, in an environment of its own, on the same images and modules: whole maps to disk."""
    modules = [layer.module for layer in backbone.layers(tuple(names))]
    script = Path(__file__).with_name("peer_thingsvision.py")
    with tempfile.TemporaryDirectory() as out:
        command = [python, str(script), str(images), out, *modules]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def against_hooks(
    paths: list[Path], folder: Path, images: Path, thingsvision: str | None
) -> dict[str, Any]:
    """VGG-16, seven layers, global average, float16, against the plain loop of hooks.

    Both in float32 and in bfloat16; features differ from those of the loop in float32, each layer's
    largest difference by its largest feature.
    """
    names = ["pool1", "pool2", "pool3", "pool4", "pool5", "fc6", "fc7"]
    found: dict[str, Any] = {}
    exact: dict[str, npt.NDArray[np.float16]] = {}
    for precision in ("float32", "bf16"):
        backbone = load("vgg16", "random")
        plain, there = hooks_seconds(backbone, paths, names, precision)
        exact = exact or there
        result = ours(
            folder, images, "vgg16", layers=names, pool=("avg",), dtype="float16",
            precision=precision,
        )  # fmt: skip
        with FeatureFile(result.file) as file:
            mine = {key.split(":")[0]: file.read(key) for key in file.keys}
        found |= {
            f"{precision}, ours, s": result.seconds,
            f"{precision}, hooks, s": plain,
            f"{precision}, times faster": plain / result.seconds,
            f"{precision}, ours differ by": _apart(mine, exact),
            f"{precision}, hooks differ by": _apart(there, exact),
        }
    found["bf16 against hooks in float32"] = found["float32, hooks, s"] / found["bf16, ours, s"]
    for pooled in (False, True):
        seconds = len(paths) / forward_rate(load("vgg16", "random"), pooled, len(paths) // 2)
        found[f"forward alone{', pooled' if pooled else ''}, s"] = seconds
    found["decoding alone, s"] = len(paths) / decode_rate(backbone, paths)
    if thingsvision:
        found["thingsvision, s"] = thingsvision_seconds(thingsvision, images, backbone, names)
    return found


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    return max(
        float(np.abs(one[name].astype(np.float32) - x).max() / np.abs(x).max())
        for name, x in ((name, x.astype(np.float32)) for name, x in other.items())
    )


def main() -> None:
    """Run the parts asked for and print what they measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--part", choices=("limits", "layers", "hooks"), default="limits")
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--pixels", type=int, action="append")
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--thingsvision", metavar="PYTHON")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    sides = asked.pixels or ([816] if asked.part == "hooks" else [200, 816])
    table: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {cores()} cores",
        "torch": torch.__version__,
        "decoder": jpeg.name(),
    }
    get_model("alexnet", weights=None)  # imports and thread pools, once
    with tempfile.TemporaryDirectory() as scratch:
        for side in sides:
            images = Path(scratch) / f"images-{side}"
            paths = draw(images, asked.images, side)
            if asked.part == "limits":
                for net in asked.net or NETS:
                    table[f"{net}, {side} pixels"] = limits(
                        net, paths, Path(scratch), images, asked.rounds
                    )
            elif asked.part == "layers":
                table[f"layers, {side} pixels"] = layers_at_once(paths, Path(scratch), images)
            else:
                table[f"hooks, {side} pixels"] = against_hooks(
                    paths, Path(scratch), images, asked.thingsvision
                )
    for name, row in table.items():
        print(f"\n{name}")
        for what, value in row.items() if isinstance(row, dict) else [("", row)]:
            print(
                f"  {what:<34} {value:.4g}" if isinstance(value, float) else f"  {what:<34} {value}"
            )
    if asked.json:
        asked.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
