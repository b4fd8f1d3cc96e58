"""Damaged files of every format: tensors or one sentence, bounded in time and memory, no crash.

`MUTATIONS=100000 pytest tests/test_damage.py` tries more than the thousand of each format.
"""

from __future__ import annotations

import gzip
import io
import os
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import WRITERS, mean_image, weights
from safetensors.torch import save

from features.caffe import network_from_prototxt
from features.errors import InputError
from features.formats import FORMATS, sandbox_child
from features.formats.meanimage import read as read_mean
from features.formats.recognise import read
from features.weights.archive import unpack

COUNT = int(os.environ.get("MUTATIONS", "1000"))
SECONDS = 5
Change = Callable[[bytes, int], bytes]

PROTOTXT = """
name: "net" input: "data" input_shape { dim: 1 dim: 3 dim: 12 dim: 9 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 } }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { local_size: 3 } }
layer { name: "sum" type: "Eltwise" bottom: "pool" bottom: "norm" top: "sum" }
layer { name: "cat" type: "Concat" bottom: "sum" bottom: "pool" top: "cat" }
layer { name: "fc" type: "InnerProduct" bottom: "cat" top: "fc"
  inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def mutated(data: bytes, number: int) -> bytes:
    """The `number`-th way to damage `data`: cut, flipped, overwritten with a huge number, moved."""
    rng = np.random.default_rng([number, len(data)])
    changed = bytearray(data)
    # Headers are where damage tells, and most of a file is numbers.
    place = int(rng.integers(0, min(len(data), 400) if rng.random() < 0.5 else len(data)))
    kind = number % 6
    if kind == 0:
        del changed[place:]
    elif kind == 1:
        for _ in range(int(rng.integers(1, 4))):
            changed[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
    elif kind == 2:
        width = int(rng.choice([1, 2, 4, 8]))
        changed[place : place + width] = rng.choice([b"\xff", b"\x7f", b"\x00"]) * width
    elif kind == 3:
        huge = struct.pack("<q", int(rng.choice([2**31 - 1, 2**32, 2**40, 2**62, -1])))
        changed[place : place + 8] = huge
    elif kind == 4:
        length = int(rng.integers(1, 40))
        changed[place:place] = changed[:length]
    else:
        changed[place : place + int(rng.integers(1, 9))] = b""
    return bytes(changed)


def inside(data: bytes, number: int) -> bytes:
    """A zip file with one member damaged and every checksum right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = sorted(members, key=lambda name: not name.endswith((".pkl", ".npy")))[number % 2]
    members[name] = mutated(members[name], number)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def packed(data: bytes, number: int) -> bytes:
    """A tar file damaged before it was packed."""
    return gzip.compress(mutated(gzip.decompress(data), number), 1)


@contextmanager
def bounded() -> Iterator[None]:
    """Seconds of computing, so that a busy machine does not matter."""

    def stop(*_: object) -> None:
        raise AssertionError("it takes too long")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def refusal(file: Path, reader: Callable[[Path], Any]) -> bool:
    """Whether the file is refused, in one sentence that says what, why and what to do."""
    try:
        with bounded():
            reader(file)
    except InputError as error:
        said = str(error)
        assert said.startswith(str(file)), said
        assert said.endswith((".", "?")), said
        assert "; " in said, said
        assert "\n" not in said
        return True
    return False


def tensors(file: Path) -> None:
    found = read(file)
    assert found.tensors
    assert all(tensor.numel() < 10**7 for tensor in found.tensors.values())


def by_meta(file: Path) -> None:
    with torch.device("meta"):
        network_from_prototxt(file)


def written(kind: str, folder: Path) -> bytes:
    WRITERS[kind](folder / "whole", weights())
    return (folder / "whole").read_bytes()


def mean(kind: str, folder: Path) -> bytes:
    image = np.random.default_rng(0).uniform(0, 255, (3, 5, 4)).astype(np.float32)
    mean_image(kind, folder / "whole", image)
    return (folder / "whole").read_bytes()


def archive(kind: str, folder: Path) -> bytes:
    members = {"net/readme.txt": b"text" * 99, "net/net.bin": save(weights())}
    if kind == "zip":
        with zipfile.ZipFile(folder / "whole", "w", zipfile.ZIP_DEFLATED) as made:
            for name, data in members.items():
                made.writestr(name, data)
    else:
        with tarfile.open(folder / "whole", "w:gz") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return (folder / "whole").read_bytes()


def opened(file: Path) -> None:
    folder = file.with_name("unpacked")
    folder.mkdir(exist_ok=True)
    try:
        unpack(file, folder)
    finally:
        for left in folder.iterdir():
            left.unlink()


Case = tuple[Callable[[Path], bytes], Change, Callable[[Path], None], float]
# What is damaged, how, who reads it, and the share of the mutations; a thousand for each format.
CASES: dict[str, Case] = {
    "safetensors": (lambda folder: written("safetensors", folder), mutated, tensors, 1),
    "pytorch": (lambda folder: written("pytorch", folder), mutated, tensors, 0.3),
    "pytorch inside": (lambda folder: written("pytorch", folder), inside, tensors, 0.4),
    "pytorch legacy": (lambda folder: written("pytorch legacy", folder), mutated, tensors, 0.3),
    "npz": (lambda folder: written("npz", folder), mutated, tensors, 0.3),
    "npz inside": (lambda folder: written("npz", folder), inside, tensors, 0.4),
    "npz tensorflow": (lambda folder: written("npz tensorflow", folder), mutated, tensors, 0.3),
    "torch7": (lambda folder: written("torch7", folder), mutated, tensors, 1),
    "caffe new": (lambda folder: written("caffe new", folder), mutated, tensors, 0.5),
    "caffe old": (lambda folder: written("caffe old", folder), mutated, tensors, 0.5),
    "prototxt": (lambda _: PROTOTXT.encode(), mutated, by_meta, 1),
    "mean binaryproto": (lambda folder: mean("binaryproto", folder), mutated, read_mean, 1),
    "mean npy": (lambda folder: mean("npy", folder), mutated, read_mean, 1),
    "tar.gz": (lambda folder: archive("tar.gz", folder), mutated, opened, 0.3),
    "tar": (lambda folder: archive("tar.gz", folder), packed, opened, 0.7),
    "zip": (lambda folder: archive("zip", folder), mutated, opened, 1),
}


@pytest.mark.filterwarnings("ignore")  # a warning is no crash
@pytest.mark.parametrize("kind", CASES)
def test_a_damaged_file_is_read_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    make, change, reader, share = CASES[kind]
    data, refused, count = make(tmp_path), 0, int(COUNT * share)
    before = peak_memory()
    for number in range(count):
        file = tmp_path / f"damaged{number}"
        file.write_bytes(change(data, number))
        refused += refusal(file, reader)
        file.unlink()
    assert count / 20 < refused < count
    assert peak_memory() - before < 300e6


def peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


BATCH = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from features.formats.sandbox_child import limit, parse
from pathlib import Path
limit(3 << 30, 100_000)
folder, first, count = Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
for number in range(first, count):
    signal.setitimer(signal.ITIMER_PROF, 5)
    print("begin", number, flush=True)
    try:
        parts = parse(sys.argv[2], folder / str(number))
        ok = all(part.array.dtype.kind in "fiu" for part in parts)
        print("tensors" if ok else "rubbish", flush=True)
    except Exception as error:
        print("refused", flush=True)
"""
IN_CHILD = {
    "matconvnet simplenn": 0.3,
    "matconvnet compressed net": 0.2,
    "matconvnet dagnn": 0.2,
    "matconvnet 7.3": 0.3,
    "keras": 0.7,
    "keras numbered": 0.3,
}


@pytest.mark.parametrize("kind", IN_CHILD)
def test_a_damaged_file_that_c_code_parses(kind: str, tmp_path: Path) -> None:
    """One child parses them all, until one of them kills it."""
    data, count = written(kind, tmp_path), int(COUNT * IN_CHILD[kind])
    for number in range(count):
        (tmp_path / str(number)).write_bytes(mutated(data, number))
    root, name = str(Path(sandbox_child.__file__).parents[2]), kind.split()[0]
    first, crashed, outcomes = 0, [], []
    while first < count:
        done = subprocess.run(
            [sys.executable, "-P", "-c", BATCH, root, name, str(tmp_path), str(first), str(count)],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stdout.split("\n")[:-1]
        outcomes += [line for line in lines if not line.startswith("begin")]
        begun = [int(line.split()[1]) for line in lines if line.startswith("begin")]
        if done.returncode == 0:
            break
        assert done.returncode < 0, done.stderr  # killed by a signal: the C code crashed or hung
        crashed.append(begun[-1])
        first = begun[-1] + 1
    assert len(outcomes) + len(crashed) == count
    assert "rubbish" not in outcomes
    assert outcomes.count("refused") > count / 20
    # The whole way, for a few of each outcome and for the crashes: a sentence or tensors.
    for number in [*crashed[:3], 0, 1]:
        refusal(tmp_path / str(number), tensors)


def test_every_format_is_damaged_a_thousand_times() -> None:
    shares = dict.fromkeys(FORMATS, 0.0)
    for kind, share in [*IN_CHILD.items(), *((kind, case[3]) for kind, case in CASES.items())]:
        if kind.split()[0] in shares:
            shares[kind.split()[0]] += share
    assert min(shares.values()) >= 1 - 1e-9
