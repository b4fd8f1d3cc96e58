"""A card runs nothing: networks come from known places, and a `.py` file is asked about once."""

from __future__ import annotations

import os
import pickle
import pty
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import toys
from forkserver import Probe

from features.cards import network, trust
from features.cards.network import build
from features.cards.reading import read_file
from features.errors import InputError
from features.machine.files import file_name
from features.weights.converted import remove

ROOT = Path(__file__).parents[2]
CARD = 'name = "net"\ndomain = "toys"\nnetwork = {network!r}\noptions = {options}\n'


def card(folder: Path, network: str, options: str = "{}") -> Path:
    path = folder / "net.toml"
    path.write_text(CARD.format(network=network, options=options))
    return path


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ("os:system", "{{ command = 'touch {}/ran' }}"),
        ("shutil:rmtree", "{{ path = '{}/kept' }}"),
        ("features.machine.files:write_text", "{{ path = '{}/ran', text = '' }}"),
        ("features.networks.small:torch", "{{}}"),
        ("features.networks.gilnet:nn", "{{}}"),
        ("features.networks.caffenet:_block", "{{}}"),
        ("features.networks..os:system", "{{}}"),
        ("features.networks_of_mine:build", "{{}}"),
        ("torch.hub:load", "{{}}"),
    ],
)
def test_what_is_no_network_is_not_called(tmp_path: Path, named: str, options: str) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(InputError, match="line 3: "):
        build(read_file(card(tmp_path, named, options.format(tmp_path))))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "net.toml"]


@pytest.mark.parametrize(
    ("named", "option"),
    [
        ("timm:resnet18", "checkpoint_path = 'evil.pth'"),
        ("timm:resnet18", "pretrained = true"),
        ("torchvision:resnet18", "weights = 'DEFAULT'"),
        ("torchvision:resnet18", "weights_backbone = 'DEFAULT'"),
    ],
)
def test_options_load_no_weights(tmp_path: Path, named: str, option: str) -> None:
    with pytest.raises(InputError, match=r"line 4: the option .* loads weights or files by itself"):
        build(read_file(card(tmp_path, named, f"{{ {option} }}")))


def test_an_installed_package_registers_its_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_nets.py").write_text("from torch import nn\ndef build(): return nn.Flatten()\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = card(tmp_path, "my_nets:build")
    with pytest.raises(InputError, match="nor registered by an installed package"):
        build(read_file(path))
    entry = EntryPoint("mine", "my_nets:build", network.PLUGINS)
    monkeypatch.setattr(network, "entry_points", lambda group: [entry] * (group == network.PLUGINS))
    assert type(build(read_file(path))).__name__ == "Flatten"


@pytest.mark.parametrize(
    "name", ["", " ", ".", ".. ", "..", "a/b", "..\\\\b", "a\\u0000b", "a\\nb"]
)
def test_a_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "net.toml"
    path.write_text(f'name = "{name}"\ndomain = "toys"\nnetwork = "torchvision:resnet18"\n')
    with pytest.raises(InputError, match=r"line 1: .* cannot name a file"):
        read_file(path)


def test_removing_weights_stays_in_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "precious").write_text("stays")
    for name in ("..", ".", ""):
        with pytest.raises(InputError, match="no weights of it are stored"):
            remove(name)
        assert file_name(name).strip("_") == ""
    assert (tmp_path / "precious").read_text() == "stays"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A card whose network is code, where nothing is allowed yet."""
    path = toys.write_card(tmp_path / "cards")
    monkeypatch.setenv("PROBE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PROBE_TRUST")
    return path


def test_code_is_allowed_once_and_a_changed_file_is_asked_about_again(asked: Path) -> None:
    file = asked.parent / "tiny.py"
    with pytest.raises(trust.Untrusted, match=r"tiny\.py: is code, .* give --trust") as refused:
        build(read_file(asked))
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)
    trust.trust(file.read_bytes())
    build(read_file(asked))
    file.write_text(file.read_text() + "\n# changed\n")
    with pytest.raises(trust.Untrusted):
        build(read_file(asked))


def test_the_program_names_the_option_and_remembers_it(asked: Path, tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        return Probe(["layers", asked, *words], tmp_path).end()

    code, _, errors = run()
    assert code == 3
    assert "give --trust, once for the file as it is now." in errors
    assert run("--trust")[0] == 0
    assert run()[0] == 0


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 3)])
def test_a_person_at_a_terminal_is_asked(
    asked: Path, tmp_path: Path, answer: bytes, code: int
) -> None:
    ours, theirs = pty.openpty()
    running = Probe(["layers", asked], tmp_path, os.ttyname(theirs))
    os.write(ours, answer)
    ended, output, _ = running.end()
    os.close(theirs)
    os.close(ours)
    assert ended == code
    assert ("conv" in output) == (code == 0)
