"""Checkpoints that hold more than tensors: read for the tensors, nothing in them is run."""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import pickle
import re
import struct
import subprocess
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from forkserver import Script
from torch import Tensor, nn

from features.errors import InputError
from features.formats.checkpoint import content_of
from features.formats.recognise import read
from features.formats.safe_pickle import Refused


class Residual(nn.Module):
    """A module of a class that the reader cannot import, with modules and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.scale = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.scale  # type: ignore[no-any-return]


class Config(dict[str, Any]):
    """A dictionary of a class of its own, as trainers keep hyperparameters."""


def network() -> Residual:
    torch.manual_seed(6)
    return Residual().eval()


def scripted(path: Path, trace: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to retire it, which does not unpublish files
        x = torch.zeros(1, 3, 8, 8)
        torch.jit.save(
            torch.jit.trace(network(), x) if trace else torch.jit.script(network()), path
        )


def arrays(path: Path, protocol: int) -> None:
    held = {"model": {name: tensor.numpy() for name, tensor in network().state_dict().items()}}
    path.write_bytes(pickle.dumps(held, protocol=protocol))


def beside(**more: Any) -> dict[str, Any]:
    return {"model": network().state_dict(), **more}


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "module": ("", lambda path: torch.save(network(), path)),
    "module, legacy": (
        "", lambda path: torch.save(network(), path, _use_new_zipfile_serialization=False)
    ),
    "module in a checkpoint": (
        "model.", lambda path: torch.save({"model": network(), "epoch": np.int64(3)}, path)
    ),
    "traced": ("", lambda path: scripted(path, True)),
    "scripted": ("", lambda path: scripted(path, False)),
    "arrays 2": ("model.", lambda path: arrays(path, 2)),
    "arrays 4": ("model.", lambda path: arrays(path, 4)),
    "arrays 5": ("model.", lambda path: arrays(path, 5)),
    "arguments": (
        "model.", lambda path: torch.save(beside(args=argparse.Namespace(lr=0.1, out=path)), path)
    ),
    "arguments, legacy": (
        "model.",
        lambda path: torch.save(
            beside(args=argparse.Namespace(lr=0.1, out=path)),
            path,
            _use_new_zipfile_serialization=False,
        ),
    ),
    "numbers and paths": (
        "model.",
        lambda path: torch.save(
            beside(
                best=np.float64(0.5), paths=[path, PurePosixPath("a")], loss=np.ones(3),
                seen={"a", "b"}, config=Config(lr=1), more=types.SimpleNamespace(a=1),
                counts=collections.defaultdict(list, a=[1]), kind=torch.float16,
            ),
            path,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITERS)
def test_tensors_are_read_whatever_stands_beside_them(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "given"
    prefix, write = WRITERS[kind]
    write(file)
    found = read(file).tensors
    expected = network().state_dict()
    for name, tensor in expected.items():
        assert torch.equal(found[prefix + name], tensor)
        assert found[prefix + name].dtype == tensor.dtype
    rest = set(found) - {prefix + name for name in expected}
    assert rest == ({"loss"} if kind == "numbers and paths" else set())


def test_reading_imports_nothing_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process that has the file alone, where importing the class would leave a mark."""
    (tmp_path / "made.py").write_text(
        "from pathlib import Path\nfrom torch import nn\n"
        "Path(__file__).with_name('imported').touch()\n"
        "class Net(nn.Linear):\n"
        "    def __setstate__(self, state): Path(__file__).with_name('run').touch()\n"
    )
    monkeypatch.chdir(tmp_path)
    Path("make.py").write_text(
        "import sys; sys.path.append('.')\nimport torch, made; torch.save(made.Net(2, 2), 'net.pth')\n"
    )
    code, _, errors = Script(["make.py"], tmp_path).end()
    assert code == 0, errors
    Path("imported").unlink()
    Path("use.py").write_text(
        "import sys; sys.path.append('.')\n"
        "from pathlib import Path; from features.formats.recognise import read\n"
        "print(sorted(read(Path('net.pth')).tensors), 'made' in sys.modules)\n"
    )
    code, told, errors = Script(["use.py"], tmp_path).end()
    assert code == 0, errors
    assert told.strip() == "['bias', 'weight'] False"
    assert not (tmp_path / "imported").exists()
    assert not (tmp_path / "run").exists()


class Calls:
    """A pickle of it calls something."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.function, self.given = function, given

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.given


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda mark: Calls(os.system, f"touch {mark}"), "it calls posix.system"),
        (lambda mark: Calls(Path.touch, mark), "getattr"),
        (lambda mark: Calls(subprocess.Popen, ["touch", str(mark)]), ".Popen"),
        (lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"), "eval"),
        (lambda mark: Calls(open, str(mark), "w"), "open"),
        (lambda mark: Calls(torch.save, {}, str(mark)), "it calls torch.serialization.save"),
        (lambda mark: Calls(np.save, str(mark), np.ones(2)), "it calls numpy"),
    ],
    ids=["system", "touch", "Popen", "eval", "open", "torch.save", "numpy.save"],
)
def test_what_a_file_would_call_is_refused_by_name(
    made: Callable[[Path], Any], said: str, legacy: bool, tmp_path: Path
) -> None:
    mark, file = tmp_path / "mark", tmp_path / "given.pth"
    torch.save(beside(x=made(mark)), file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError) as caught:
        read(file)
    message = str(caught.value)
    assert not mark.exists()
    assert message.startswith(f"{file}: not a PyTorch file of plain tensors (it calls ")
    assert said in message
    assert "\n" not in message
    assert not re.search(r"[.!?] +[A-Z]", message.removeprefix(str(file)))
    for line in (
        "import torch;",
        "net = torch.load('given.pth', weights_only=False);",
        'torch.save(net.state_dict(), "tensors.pth").',
    ):
        assert line in message


def test_a_script_is_told_how_it_is_converted(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/constants.pkl", b"\x80\x02).")
        archive.writestr("net/data.pkl", b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.")
    with pytest.raises(InputError, match=r"net = torch.jit.load\('net.pt'\); torch.save"):
        read(file)


def pickled(folder: Path, content: bytes) -> Path:
    (folder / "given.pkl").write_bytes(b"\x80\x02" + content)
    return folder / "given.pkl"


@pytest.mark.parametrize(
    "content",
    [
        b"r\xff\xff\xff\x7fN.",  # a note at a number that C's reader would take memory for
        b"\x96" + struct.pack("<Q", 1 << 40) + b"x.",
        b"\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
        b"B" + struct.pack("<I", 0xFFFFFFFF) + b"x.",
        b"\x95" + struct.pack("<Q", 1 << 50) + b"N.",
        b"(" * 5000 + b"N.",
        b"}" * 3 + b"s" * 3 + b".",
        b"\x82\x01.",
        b"\x80\x09.",
        b"",
        b".",
        b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR(K\x01(J\xff\xff\xff\x7ftcnumpy\ndtype\n(X\x02\x00"
        b"\x00\x00f4tR\x89C\x04abcdtb.",
        b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR(K\x01(K\x01tcnumpy\ndtype\n(X\x02\x00\x00\x00O8tR"
        b"\x89C\x08abcdabcdtb.",
    ],
)
def test_hostile_pickles_end_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(pickled(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_what_is_named_again_and_again_is_not_copied(tmp_path: Path) -> None:
    """A dictionary, bytes or a text of 2 MB that 20,000 objects share: 40 GB if each had its own."""
    import resource

    size, times = 1 << 21, 20_000
    text = b"X" + struct.pack("<I", size) + b"a" * size + b"q\x00"
    entries = b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(size // 8))
    dictionary = b"}q\x01(" + entries + b"u"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR(K\x01J" + struct.pack("<i", size) + b"\x85"
        b"cnumpy\ndtype\n(X\x02\x00\x00\x00u1tR\x89h\x00tb"
    )
    encoded = b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR"
    thing = b"cmade\nThing\n)\x81h\x01b"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for start, again in ((text, array), (text, encoded), (dictionary, thing)):
        named = b"".join(b"J" + struct.pack("<i", i) + again for i in range(times // 40))
        held = b"}(X\x05\x00\x00\x00start" + start + b"X\x01\x00\x00\x00x}(" + named + b"uu."
        with contextlib.suppress(InputError):
            assert len(read(pickled(tmp_path, held)).tensors) == times // 40
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < 300 * size
    copies = b"ccollections\nOrderedDict\n(h\x01tR"
    with pytest.raises(InputError, match="it copies a dictionary"):
        read(pickled(tmp_path, b"(" + dictionary + copies + b"l."))


def test_packed_members_are_never_read(tmp_path: Path) -> None:
    file = tmp_path / "given.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/code/data.pkl", b"\x80\x02}." + bytes(1 << 24))
        archive.writestr("x/padding", bytes(1 << 10), zipfile.ZIP_STORED)
    with pytest.raises(InputError, match="not a PyTorch file of plain tensors"):
        read(file)


def test_dictionaries_of_python_2(tmp_path: Path) -> None:
    """An ordered one is a list of pairs there, and an array's bytes are text."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR(K\x01K\x02\x85cnumpy\ndtype\n(X\x02\x00\x00\x00u1"
        b"tR\x89U\x02\xff\x01tb"
    )
    held = b"ccollections\nOrderedDict\n(](](U\x01w" + array + b"eetR."
    assert read(pickled(tmp_path, held)).tensors["w"].tolist() == [255, 1]


def test_tensors_that_reach_beyond_their_numbers_are_refused(tmp_path: Path) -> None:
    content, tensor = content_of_bytes(tmp_path, sides=(2, 3), strides=(3, 1), offset=0)
    assert torch.equal(tensor(content), torch.arange(6.0).reshape(2, 3))
    for sides_, strides, offset in (
        ((7,), (1,), 0),
        ((6,), (1,), 1),
        ((2,), (-1,), 1),
        ((9, 9), (0, 0), 0),
    ):
        content, tensor = content_of_bytes(tmp_path, sides=sides_, strides=strides, offset=offset)
        with pytest.raises(ValueError, match="a tensor of"):
            tensor(content)


def content_of_bytes(
    folder: Path, sides: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> tuple[Any, Callable[[Any], Any]]:
    """A tensor as a pickle declares it, over six numbers."""

    class Declared:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, sides, strides, False, None)

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, Storage):
                return ("storage", torch.FloatStorage, "0", "cpu", 6)
            return None

    with zipfile.ZipFile(folder / "declared.pth", "w") as archive:
        with archive.open("x/data.pkl", "w") as file:
            Pickler(file, 2).dump(Declared())
        archive.writestr("x/data/0", np.arange(6, dtype="f4").tobytes())
    return content_of(folder / "declared.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_every_kind_of_tensor_is_what_pytorch_itself_reads(legacy: bool, tmp_path: Path) -> None:
    base = torch.arange(24.0)
    kinds = (
        torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool,
    )  # fmt: skip
    held = {str(kind): base.to(kind) for kind in kinds}
    held |= {
        "view": base[3:9],
        "turned": base.reshape(4, 6).t(),
        "strided": base[::2],
        "one": torch.tensor(3.0),
        "none": torch.empty(0, 3),
        "parameter": nn.Parameter(torch.ones(2)),
        "again": base,
    }
    if not legacy:  # which had no such numbers
        held["eight bits"] = torch.ones(2).to(torch.float8_e4m3fn)
    file = tmp_path / "given.pth"
    torch.save(held, file, _use_new_zipfile_serialization=not legacy)
    found = read(file).tensors
    expected = torch.load(file, weights_only=True)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].stride() == tensor.stride()
        assert torch.equal(found[name].float(), tensor.float()), name
    if not legacy:  # without that kind PyTorch's own reader is not needed
        del held["eight bits"]
        torch.save(held, file)
        assert set(content_of(file)[0]) == set(held)


def test_a_class_may_be_named_and_a_function_not(tmp_path: Path) -> None:
    content, _ = content_of(pickled(tmp_path, b"cmade.up\nThing\n)R."))
    assert content.mappings() == [{}]
    with pytest.raises(Refused, match=r"it calls made.up.thing"):
        content_of(pickled(tmp_path, b"cmade.up\nthing\n)R."))
