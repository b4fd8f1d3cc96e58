from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import io
import json
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forkserver import Script
from published import WRITERS, bgr, by_module, caffe, keras, simplenn, weights, write_card
from safetensors.torch import load_file, save, save_file
from toys import write_images
from typer.testing import CliRunner, Result

from cli.app import app
from features.backbone import load, target_of
from features.cards.reading import find
from features.errors import InputError
from features.formats import sandbox
from features.weights import here
from features.weights.add import add, fetch
from features.weights.converted import folder_of, kept, verify
from features.weights.fetch import download


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own, and the network allowed: there is only this machine's."""
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PROBE_OFFLINE", "0")
    return tmp_path / "home"


def probe(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def refused(*words: object) -> str:
    """The one sentence of a refused command, after whatever it reported line by line."""
    lines = probe(*words, code=3).stderr.strip().split("\n")
    assert lines[-1].startswith("error: ")
    assert not any(line.startswith("error: ") for line in lines[:-1])
    said = lines[-1].removeprefix("error: ")
    assert said.endswith(".")
    assert not re.search(r"[.!?] +[A-Z]", said), said
    return said


def files(folder: Path) -> list[str]:
    """What lies in a folder, the list of networks that a person allowed left out."""
    names = (str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in names if name != "trusted-networks.txt")


def assert_loads(card: Path, name: str = "mini", verified: bool = False) -> None:
    backbone = load(str(card))
    assert backbone.name == name
    for key, tensor in by_module(weights()).items():
        torch.testing.assert_close(backbone.model.state_dict()[key], tensor)
    assert backbone.weights is not None
    assert backbone.weights.verified == verified


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_added_is_used(kind: str, tmp_path: Path, home: Path) -> None:
    file = tmp_path / "published.bin"
    WRITERS[kind](file, bgr(weights()))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    form = kind.split()[0]
    card = write_card(tmp_path, f'format = "{form}"\nchannel_order = "bgr"')
    assert not here(find(str(card)))
    said = probe("weights", "add", card, file).stderr
    assert f"published.bin: a {form} file; UNVERIFIED: no checksum is published for it" in said
    assert digest in said
    assert "licence: for tests only" in said
    assert f"read as the card says of {form}, BGR channels" in said
    assert here(find(str(card)))
    file.unlink()
    assert_loads(card)
    (one,) = kept("mini")
    assert (one.source, one.sha256, one.format) == ("published.bin", digest, form)
    assert one.path.parent == home / "weights" / "mini"
    assert set(load_file(one.path)) == set(by_module(weights()))


def test_add_list_verify_remove(tmp_path: Path, home: Path) -> None:
    simplenn(tmp_path / "net.mat", weights())
    md5 = hashlib.md5((tmp_path / "net.mat").read_bytes()).hexdigest()
    card = write_card(tmp_path, f'format = "matconvnet"\nmd5 = "{md5}"')
    assert (
        "its checksum is the published one"
        in probe("weights", "add", card, tmp_path / "net.mat").stderr
    )
    assert_loads(card, verified=True)
    row = probe("weights", "list").stdout.split("\n")[1].split("\t")
    assert row[:3] + row[4:5] + row[6:] == [
        "mini",
        "net.mat",
        "matconvnet",
        "verified",
        "for tests only",
    ]
    (listed,) = json.loads(probe("weights", "list", "--json").stdout)
    assert listed["sha256"] == hashlib.sha256((tmp_path / "net.mat").read_bytes()).hexdigest()
    assert "whole, verified" in probe("weights", "verify").stdout
    assert "mini: net.mat is removed" in probe("weights", "remove", card).stderr
    assert files(home) == []
    assert "no weights of it are stored here" in refused("weights", "remove", "mini")
    assert probe("weights", "list").stdout == ""


def test_a_second_add_changes_nothing(tmp_path: Path, home: Path) -> None:
    caffe(tmp_path / "net", weights())
    card = write_card(tmp_path)
    probe("weights", "add", card, tmp_path / "net")
    (one,) = kept()
    before = one.path.stat()
    said = probe("weights", "add", card, tmp_path / "net").stderr
    assert "here already" in said
    assert kept() == [one]
    assert one.path.stat().st_mtime_ns == before.st_mtime_ns
    assert len(files(home)) == 1


def test_what_was_recorded_first_is_not_replaced_in_silence(tmp_path: Path) -> None:
    for seed in (0, 1):
        caffe(tmp_path / f"net{seed}", weights(seed))
    card = write_card(tmp_path)
    probe("weights", "add", card, tmp_path / "net0")
    said = refused("weights", "add", card, tmp_path / "net1")
    assert "another file or part is kept for mini (net0, sha256" in said
    assert_loads(card, "mini@net0")
    probe("weights", "remove", "mini")
    probe("weights", "add", card, tmp_path / "net1")


@pytest.mark.parametrize("kind", ["sha256", "sha1", "md5", "git_sha1"])
def test_published_checksums_of_every_kind(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "net"
    caffe(file, weights())
    data = file.read_bytes()
    if kind == "git_sha1":
        digest = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    else:
        digest = hashlib.new(kind, data).hexdigest()
    card = write_card(tmp_path, f'{kind} = "{digest}"')
    probe("weights", "add", card, file)
    assert_loads(card, verified=True)
    caffe(file, weights(1))
    said = refused("weights", "add", card, file)
    assert "its checksum is not the published one (its sha256 is" in said
    assert load(str(card), str(file)).name == "mini@net"


def test_torchvisions_names_end_in_their_checksum(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save(by_module(weights()), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    gone = (tmp_path / "gone").as_uri()
    right, wrong = (f'url = "{gone}/net-{hashed[:8]}.pth"' for hashed in (digest, digest[::-1]))
    assert "the published one" in probe("weights", "add", write_card(tmp_path, right), file).stderr
    probe("weights", "remove", "mini")
    assert "not the published one" in refused("weights", "add", write_card(tmp_path, wrong), file)


def test_which_of_several_entries_a_file_is(tmp_path: Path) -> None:
    caffe(tmp_path / "given", bgr(weights()))
    rgb, blue = (
        'format = "caffe"\nnote = "one"',
        'format = "caffe"\nchannel_order = "bgr"\nnote = "two"',
    )
    card = write_card(tmp_path, rgb, blue)
    said = refused("weights", "add", card, tmp_path / "given")
    assert "may be several of the weights that mini's card lists" in said
    assert "1: caffe, one; 2: caffe, two, BGR channels" in said
    assert "--entry 3: mini's card lists 2 files" in refused(
        "weights", "add", card, tmp_path / "given", "--entry", 3
    )
    probe("weights", "add", card, tmp_path / "given", "--entry", 2)
    assert_loads(card)
    named = write_card(tmp_path, rgb, f'{blue}\nurl = "http://example.invalid/given"')
    probe("weights", "remove", "mini")
    probe("weights", "add", named, tmp_path / "given")
    assert_loads(named)


def test_weights_read_by_an_earlier_card_are_not_used(tmp_path: Path) -> None:
    caffe(tmp_path / "given", bgr(weights()))
    card = write_card(tmp_path, 'format = "caffe"')
    probe("weights", "add", card, tmp_path / "given")
    card = write_card(tmp_path, 'format = "caffe"\nchannel_order = "bgr"')
    with pytest.raises(
        InputError, match="its card has changed since its weights were added; bring"
    ):
        load(str(card))
    probe("weights", "add", card, tmp_path / "given")
    assert_loads(card)
    assert len(kept("mini")) == 1


def test_blobs_that_do_not_fit_are_named_one_by_one(tmp_path: Path, home: Path) -> None:
    w = weights()
    w["fc4.weight"], w["fc4.bias"] = torch.ones(9, 5), torch.ones(9)
    w["extra.weight"], w["extra.bias"] = torch.ones(2, 2), torch.ones(2)
    del w["conv2.bias"]
    save_file(w, tmp_path / "net")
    result = probe("weights", "add", write_card(tmp_path), tmp_path / "net", code=3)
    assert "missing: features.3.bias\n" in result.stderr
    assert (
        "mismatched: classifier.3.bias is (9,) in the file and (4,) in the network\n"
        in result.stderr
    )
    assert "unused: extra.bias\nunused: extra.weight\n" in result.stderr
    assert "1 of 8 tensors are missing" in result.stderr.strip().split("\n")[-1]
    assert files(home) == []


def test_unused_blobs_are_told(tmp_path: Path) -> None:
    save_file({**weights(), "extra.weight": torch.ones(2, 2)}, tmp_path / "net")
    said = probe("weights", "add", write_card(tmp_path), tmp_path / "net").stderr
    assert "not used by the network: extra.weight" in said


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    w = weights()
    w["fc3.bias"][1] = torch.nan
    save_file(w, tmp_path / "net")
    said = refused("weights", "add", write_card(tmp_path), tmp_path / "net")
    assert "classifier.0.bias has numbers that are NaN or infinite" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html>", "a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"\x93NUMPY\x01\x00", "a single array"),
        (b"hello there", "not a file of weights in any format"),
        (b"PK\x03\x04" + bytes(100), "damaged archive"),
        (b"\x1f\x8b" + bytes(100), "damaged archive"),
        (b"\x80\x02cos\nsystem\n", "not a PyTorch file of plain tensors"),
    ],
)
def test_what_is_not_weights_is_refused(
    content: bytes, said: str, tmp_path: Path, home: Path
) -> None:
    (tmp_path / "given").write_bytes(content)
    message = refused("weights", "add", write_card(tmp_path), tmp_path / "given")
    assert message.startswith(f"{tmp_path / 'given'}: ")
    assert said in message
    assert files(home) == []


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no such weights file" in refused(
        "weights", "add", write_card(tmp_path), "gone"
    )


def tar_of(path: Path, members: dict[str, bytes], **links: str) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, where in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, where
            archive.addfile(info)


def zip_of(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def written(kind: str, folder: Path) -> bytes:
    WRITERS[kind](folder / "inside", weights())
    return (folder / "inside").read_bytes()


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize("kind", ["caffe new", "torch7", "matconvnet simplenn", "pytorch", "npz"])
def test_archives_are_opened(
    pack: Callable[[Path, dict[str, bytes]], None], kind: str, tmp_path: Path, home: Path
) -> None:
    data = written(kind, tmp_path)
    others = {"net/names.txt": b"a\nb\n", "net/deploy.prototxt": b'name: "net"\n', "net/._w": data}
    pack(tmp_path / "given.bin", {**others, "net/VGG.bin": data, "net/ak.png": b"\x89PNG\r\n"})
    packed = hashlib.sha256((tmp_path / "given.bin").read_bytes()).hexdigest()
    card = write_card(tmp_path)
    probe("weights", "add", card, tmp_path / "given.bin")
    (one,) = kept()
    assert (one.source, one.archive_sha256) == ("VGG.bin", packed)
    assert one.sha256 == hashlib.sha256(data).hexdigest()
    assert_loads(card, "mini@VGG")
    assert len(files(home)) == 1
    assert "here already" in probe("weights", "add", card, tmp_path / "given.bin").stderr


def test_the_checksum_may_be_the_archives(tmp_path: Path) -> None:
    tar_of(tmp_path / "net.tar.gz", {"net.caffemodel": written("caffe new", tmp_path)})
    digest = hashlib.sha256((tmp_path / "net.tar.gz").read_bytes()).hexdigest()
    card = write_card(tmp_path, f'format = "caffe"\nsha256 = "{digest}"')
    probe("weights", "add", card, tmp_path / "net.tar.gz")
    assert_loads(card, verified=True)


def test_which_member_is_asked_where_several_are_weights(tmp_path: Path, home: Path) -> None:
    data = {n: save({**weights(seed)}) for seed, n in enumerate(("a/one.bin", "a/two.bin"))}
    tar_of(tmp_path / "given", data)
    card = write_card(tmp_path)
    said = refused("weights", "add", card, tmp_path / "given")
    assert "several members are weights (a/one.bin, a/two.bin); say which with --member" in said
    assert files(home) == []
    assert "no member called x" in refused(
        "weights", "add", card, tmp_path / "given", "--member", "x"
    )
    probe("weights", "add", card, tmp_path / "given", "--member", "one.bin")
    assert_loads(card, "mini@one")


def test_hostile_archives(tmp_path: Path, home: Path) -> None:
    data = save(weights())
    tar_of(tmp_path / "1", {"../../escaped": data})
    tar_of(tmp_path / "2", {"/tmp/escaped": data})
    tar_of(tmp_path / "3", {"net": data}, link="/etc/passwd")
    zip_of(tmp_path / "4", {"a/../../escaped": data})
    zip_of(tmp_path / "5", {"..\\escaped": data})
    card = write_card(tmp_path)
    for number in range(1, 6):
        assert "points outside the archive" in refused(
            "weights", "add", card, tmp_path / str(number)
        )
    assert not list(tmp_path.rglob("escaped"))
    assert files(home) == []


def test_archive_bombs(tmp_path: Path, home: Path) -> None:
    zeros = bytes(1 << 20)
    with gzip.open(tmp_path / "1", "wb", compresslevel=1) as packed:
        info = tarfile.TarInfo("bomb")
        info.size = 1 << 40
        packed.write(info.tobuf())
        for _ in range(120):
            packed.write(zeros)
    with (
        zipfile.ZipFile(tmp_path / "2", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb", "w") as member,
    ):
        for _ in range(120):
            member.write(zeros)
    with tarfile.open(tmp_path / "3", "w:gz") as many:
        for number in range(10_050):
            many.addfile(tarfile.TarInfo(f"{number}"))
    card = write_card(tmp_path)
    for name, said in (
        ("1", "far more than"),
        ("2", "far more than"),
        ("3", "more than 10000 members"),
    ):
        assert said in refused("weights", "add", card, tmp_path / name)
    assert files(home) == []


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one file, with Range; `cut` is how many bytes it gives before the line breaks."""

    data, cut, tag, asked = b"", -1, '"one"', list[str | None]()

    def do_GET(self) -> None:
        self.asked.append(self.headers["Range"])
        start = 0
        if self.headers["Range"] and self.headers["If-Range"] == self.tag:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(self.data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(self.data)}")
                self.end_headers()
                return
            self.send_response(206)
            last = len(self.data) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(self.data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(self.data) - start))
        self.send_header("ETag", self.tag)
        self.end_headers()
        whole = self.data[start:]
        self.wfile.write(whole if self.cut < 0 else whole[: self.cut])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[type[Server], str]]:
    made: type[Server] = type("Made", (Server,), {"asked": [], "data": save(weights())})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), made) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield made, f"http://127.0.0.1:{listening.server_address[1]}/net.safetensors"
        listening.shutdown()


def test_fetch_downloads_checks_converts_and_tells_the_licence(
    server: tuple[type[Server], str], tmp_path: Path, home: Path
) -> None:
    served, url = server
    digest = hashlib.sha256(served.data).hexdigest()
    card = write_card(tmp_path, f'url = "{url}"\nsha256 = "{digest}"')
    said = probe("weights", "fetch", card).stderr
    assert f"fetching {url} (licence: for tests only) to {home}" in said
    assert "its checksum is the published one" in said
    assert_loads(card, verified=True)
    assert len(files(home)) == 1
    assert "here already" in probe("weights", "fetch", card).stderr
    assert served.asked == [None]


def test_a_fetch_goes_on_where_it_was_interrupted(
    server: tuple[type[Server], str], tmp_path: Path, home: Path
) -> None:
    served, url = server
    target = target_of(str(write_card(tmp_path, f'url = "{url}"')))
    served.cut = 300
    seen: list[tuple[int, int]] = []
    with pytest.raises(InputError, match=r"could not be fetched \(the connection ended after"):
        fetch(target, progress=lambda done, total: seen.append((done, total)))
    assert served.asked == [None, "bytes=300-", "bytes=600-"]
    assert seen[-1] == (900, len(served.data))
    served.cut = -1
    added = fetch(target)
    assert served.asked[3:] == ["bytes=900-"]
    assert added.kept.sha256 == hashlib.sha256(served.data).hexdigest()
    assert len(files(home)) == 1


def test_what_was_downloaded_whole_is_not_downloaded_again(
    server: tuple[type[Server], str], tmp_path: Path, home: Path
) -> None:
    served, url = server
    target = target_of(str(write_card(tmp_path, f'url = "{url}"')))
    folder = folder_of("mini")
    folder.mkdir(parents=True)
    partial = download(url, folder)
    assert partial.read_bytes() == served.data
    assert fetch(target).kept.sha256 == hashlib.sha256(served.data).hexdigest()
    assert served.asked == [None, f"bytes={len(served.data)}-"]
    partial = download(url, folder)
    partial.write_bytes(served.data + b"more")  # longer than the file: begun anew
    probe("weights", "remove", "mini")
    assert fetch(target).kept.sha256 == hashlib.sha256(served.data).hexdigest()
    assert len(files(home)) == 1


def test_a_file_that_changed_between_two_halves_is_fetched_anew(
    server: tuple[type[Server], str], tmp_path: Path
) -> None:
    served, url = server
    target = target_of(str(write_card(tmp_path, f'url = "{url}"')))
    served.cut = 300
    with pytest.raises(InputError):
        fetch(target)
    served.data, served.tag, served.cut = save(weights(1)), '"two"', -1
    assert fetch(target).kept.sha256 == hashlib.sha256(served.data).hexdigest()


def test_fetch_refuses_what_is_not_the_published_file(
    server: tuple[type[Server], str], tmp_path: Path, home: Path
) -> None:
    served, url = server
    card = write_card(tmp_path, f'url = "{url}"\nsha256 = "{"0" * 64}"')
    assert refused("weights", "fetch", card).startswith(f"{url}: its checksum is not the published")
    served.data = b"<html>sign in</html>"
    card = write_card(tmp_path, f'url = "{url}"')
    assert refused("weights", "fetch", card).startswith(f"{url}: a web page, not weights")
    assert files(home) == []


def test_fetch_without_a_network_or_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "its card has no address to fetch" in refused("weights", "fetch", write_card(tmp_path))
    card = write_card(tmp_path, 'url = "http://127.0.0.1:9/net"')
    assert "could not be fetched (" in refused("weights", "fetch", card)
    for scheme in ("ftp://127.0.0.1/net", "data:,x"):
        card = write_card(tmp_path, f'url = "{scheme}"')
        assert "not an http, https or file address" in refused("weights", "fetch", card)
    monkeypatch.setenv("PROBE_OFFLINE", "1")
    card = write_card(tmp_path, 'url = "http://127.0.0.1:9/net"')
    assert "PROBE_OFFLINE is set" in refused("weights", "fetch", card)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "net")
    card = write_card(tmp_path)
    probe("weights", "add", card, tmp_path / "net")
    (one,) = kept()
    data = one.path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [0, 9, 30, 200, *rng.integers(0, len(data), 40).tolist(), len(data) - 1]:
        changed = bytearray(data)
        changed[place] ^= 4
        one.path.write_bytes(changed)
        (again,) = kept()
        assert not verify(again)["whole"], place
        with pytest.raises(InputError, match=r"checksum differs|its card has changed"):
            load(str(card))
    result = probe("weights", "verify", code=3)
    assert "its checksum differs" in result.stdout
    (row,) = json.loads(probe("weights", "verify", "--json", code=3).stdout)
    assert row["whole"] is False
    probe("weights", "remove", "mini")
    probe("weights", "add", card, tmp_path / "net")
    assert probe("weights", "verify").stdout.endswith("whole, unverified\n")


KILLED = """
import os, sys
from pathlib import Path
from features.backbone import target_of
from features.weights import add, converted

name = sys.argv[3]
where = {"unpack": add, "read": add, "assign": add, "write_tensors": converted}
owner = where[name.removeprefix("after ")]
inner = getattr(owner, name.removeprefix("after "))

def stop(*args, **kwargs):
    if name.startswith("after "):
        inner(*args, **kwargs)
    os._exit(9)

setattr(owner, name.removeprefix("after "), stop)
add.add(target_of(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    "moment",
    ["after unpack", "assign", "write_tensors", "after write_tensors"],
)
def test_killed_at_any_step_leaves_nothing_half(moment: str, tmp_path: Path, home: Path) -> None:
    tar_of(tmp_path / "given", {"net": save(weights())})
    card = write_card(tmp_path)
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    code, _, errors = Script([script, card, tmp_path / "given", moment], tmp_path).end()
    assert code == 9, errors
    assert kept() == []
    assert not here(find(str(card)))
    add(target_of(str(card)), tmp_path / "given")
    assert files(folder_of("mini")) == [kept()[0].path.name]
    assert_loads(card, "mini@net")


@pytest.mark.parametrize("moment", ["convert", "unpack", "fetch", "parse"])
def test_a_full_disk_is_called_that_and_what_is_there_is_kept(
    moment: str, server: tuple[type[Server], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, url = server
    card, file = write_card(tmp_path, f'url = "{url}"'), tmp_path / "given"
    tar_of(file, {"net": save(weights())})
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_args: Any, **_keywords: Any) -> None:
        raise full

    words = ("weights", "fetch", card) if moment == "fetch" else ("weights", "add", card, file)
    with monkeypatch.context() as patch:
        if moment == "convert":
            patch.setattr("features.weights.converted.write_tensors", fail)
        elif moment == "unpack":
            patch.setattr("features.weights.archive._write", fail)
        elif moment == "fetch":
            served.cut = 300
            with pytest.raises(InputError):
                fetch(target_of(str(card)))
            patch.setattr("features.weights.fetch._append", fail)
        else:
            keras(file, weights())
            full_child = f"import os; os._exit({sandbox.FULL})"
            patch.setattr(sandbox, "_BOOT", full_child)
        said = probe(*words, code=4).stderr
        assert "error: the disk is full; make room and run the same command again" in said
    assert kept() == []
    served.cut = -1
    probe(*words)
    assert_loads(card, load(str(card)).name)
    if moment == "fetch":
        assert served.asked[-1] == "bytes=900-"


def test_two_at_once_take_turns(tmp_path: Path) -> None:
    from features.weights.converted import locked_folder

    save_file(weights(), tmp_path / "net")
    card = write_card(tmp_path)
    with locked_folder("mini"):
        said = refused("weights", "add", card, tmp_path / "net")
    assert "another process is changing the weights of mini; wait" in said
    probe("weights", "add", card, tmp_path / "net")


def test_every_command_of_the_group_has_an_example_and_help() -> None:
    from cli.weights import app as group

    names = [str(command.name) for command in group.registered_commands]
    assert names == ["add", "match", "fetch", "list", "verify", "remove"]
    for name in names:
        text = probe("weights", name, "--help").output
        assert f"Example: probe weights {name}" in text
    assert "weights" in probe("--help").output


def test_extract_uses_what_was_added(tmp_path: Path) -> None:
    from features.extraction.extract import extract
    from features.store.featurefile import FeatureFile

    keras(tmp_path / "net.h5", weights())
    card = write_card(tmp_path, 'format = "keras"')
    probe("weights", "add", card, tmp_path / "net.h5")
    result = extract(
        tmp_path / "study", str(card), data=str(write_images(tmp_path / "images", 5)), device="cpu"
    )
    assert result.backbone == "mini"
    assert any("unverified" in note for note in result.notes)
    with FeatureFile(result.file) as file:
        held = json.loads(file.attributes["weights"])
        assert held["sha256"] == hashlib.sha256((tmp_path / "net.h5").read_bytes()).hexdigest()
        assert file.attributes["licence"] == "for tests only"
