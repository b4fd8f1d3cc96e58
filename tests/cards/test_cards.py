import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from features.backbone import architecture_of, describe, load
from features.cards.card import Input
from features.cards.reading import find, read_file, shipped
from features.errors import InputError, nearest
from features.formats import FORMATS

TinyCard = Callable[..., Path]


def refused(card: Path, *, tried: Callable[[str], object] = describe) -> str:
    """The message with which the card is refused: one sentence or question and a way out."""
    with pytest.raises(InputError) as caught:
        tried(str(card))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(card)), message
    assert message.endswith((".", "?"))
    return message.removeprefix(str(card))


def test_a_card_is_read_as_it_stands(tiny_card: TinyCard) -> None:
    path = tiny_card(
        'domain = "toys"',
        'domain = "toys"\noptions = { num_classes = 3 }\npair = "other"\ntrained_on = ["a", "b"]\n'
        'licence = "free"',
        "scale = 255.0",
        "scale = 255\nresize = 9\ninterpolation = 'bicubic'\nchannel_order = 'bgr'\n"
        "mean = [1, 2.5, 3]\nstd = [4, 5, 6]",
    )
    card = find(str(path))
    assert (card.name, card.domain, card.network) == ("tiny", "toys", "./tiny.py:build")
    assert (card.options, card.pair, card.trained_on) == ({"num_classes": 3}, "other", ("a", "b"))
    assert (card.licence, card.citation, card.file) == ("free", None, path)
    assert card.input == Input((8, 8), 9, "bicubic", "bgr", 255, (1, 2.5, 3), (4, 5, 6))
    assert list(card.layers or ()) == ["pixels", "conv", "act", "pool", "fc"]
    assert [entry.path for entry in card.weights] == ["tiny.safetensors"]
    assert describe(str(path)).layers[-1].shape == (3,)


def test_every_shipped_card_is_found_by_its_name() -> None:
    names = ["alexnet", "gilnet", "mobilefacenet", "squeezenet1_1", "vgg16", "vggface"]
    assert {*names, "sample-faces", "sample-objects", "control:pixels", "control:tiny"} <= set(
        shipped()
    )
    for name, card in shipped().items():
        assert find(name) == card
        assert card.domain in ("faces", "objects", "control")
        if card.pair is not None:
            pair = shipped()[card.pair]
            assert pair.pair == name
            assert list(pair.layers or ()) == list(card.layers or ())


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('domain = "toys"', 'domian = "toys"', 2, "unknown key domian; did you mean domain?"),
        ("size = [8, 8]", "sise = [8, 8]", 6, "unknown key [input] sise; did you mean size"),
        ("path = ", "paht = ", 17, "unknown key [[weights]] paht; did you mean path?"),
        ('name = "tiny"', "name = 3", 1, "name = 3 is not a text in quotes."),
        ("size = [8, 8]", "size = 8", 6, "size = 8 is not [height, width] in pixels."),
        ("size = [8, 8]", "size = [8, 8, 3]", 6, "is not [height, width] in pixels."),
        ("size = [8, 8]", "size = [8.5, 8]", 6, "is not [height, width] in pixels."),
        ("scale = 255.0", "scale = true", 7, "scale = True is not a number."),
        ("scale = 255.0", "mean = [true]", 7, "is not a list of numbers or a path in quotes."),
        ("scale = 255.0", "mean = [1.0, 2.0]", 7, "mean is three numbers, one per channel."),
        ("scale = 255.0", "std = [1]", 7, "std is three numbers above 0, one per channel."),
        ("scale = 255.0", "std = [1, 0, 1]", 7, "std is three numbers above 0, one per channel."),
        ("scale = 255.0", "std = [1, nan, 1]", 7, "std is three numbers above 0, one per channel."),
        ("scale = 255.0", "mean = [1, inf, 1]", 7, "mean is three numbers, one per channel."),
        ("scale = 255.0", "scale = nan", 7, "scale is a number above 0"),
        (
            "scale = 255.0",
            "scale = 0",
            7,
            "scale is a number above 0: what a pixel of 255 becomes.",
        ),
        ("scale = 255.0", "resize = 7", 7, "resize is smaller than size [8, 8], the crop."),
        ("scale = 255.0", "resize = [9, 7]", 7, "resize is smaller than size [8, 8], the crop."),
        ("scale = 255.0", 'resize = "8"', 7, "pixels or one number."),
        (
            "scale = 255.0",
            'channel_order = "rbb"',
            7,
            "channel_order is rgb or bgr, or grey, rgba or bgra.",
        ),
        ("scale = 255.0", 'interpolation = "cubic"', 7, "interpolation is bilinear or bicubic."),
        ('domain = "toys"', 'domain = "toys"\noptions = 1', 3, "is not a table { key = value }."),
        ('conv = "conv"', "conv = 1", 11, 'a layer is NAME = "MODULE"'),
        ('conv = "conv"', '"a:b" = "conv"', 11, "its name without / and :."),
        ('conv = "conv"', '"a/b" = "conv"', 11, "its name without / and :."),
        ("[[weights]]", "[weights]", 16, "weights are [[weights]] tables, with two brackets."),
        (
            '"tiny.safetensors"',
            '"x"\nformat = "pytorh"',
            18,
            "unknown format pytorh; did you mean pytorch",
        ),
        ('path = "tiny.safetensors"', 'note = "?"', 16, "needs a path, a url or a checksum."),
        ('path = "tiny.safetensors"', "path = 'a'\nurl = 'b'", 16, "needs a path, a url or"),
    ],
)
def test_a_mistake_is_shown_with_its_line(
    tiny_card: TinyCard, old: str, new: str, line: int, said: str
) -> None:
    message = refused(tiny_card(old, new))
    assert message.startswith(f" line {line}: ")
    assert said in message


@pytest.mark.parametrize("key", ["name", "domain", "network", "size"])
def test_a_missing_key_is_named(tiny_card: TinyCard, key: str) -> None:
    path = tiny_card()
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key} =")]
    path.write_text("\n".join(lines))
    table = "[input] " if key == "size" else ""
    assert refused(path) == f": {table}{key} is missing; add it."


@pytest.mark.parametrize("text", ["name = ", "name = 'a'\nname = 'b'", "[layers\n", "\x00", "= 1"])
def test_bad_toml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    assert "not a TOML file" in refused(path)


def test_a_card_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\x89PNG\xff\xfe" * 9)
    refused(path)


@pytest.mark.parametrize("value", ['"conv"', '["conv"]', "3"])
def test_layers_that_are_no_table_are_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        f'name = "x"\ndomain = "y"\nnetwork = "torchvision:alexnet"\nlayers = {value}\n'
    )
    assert refused(path).startswith(" line 4: ")


@pytest.mark.parametrize("layer", ["", ".", "..", "all"])
def test_a_layer_name_that_cannot_be_stored_or_asked_for_is_refused(
    tiny_card: TinyCard, layer: str
) -> None:
    assert refused(tiny_card('conv = "conv"', f'"{layer}" = "conv"')).startswith(" line 11: ")


def test_a_layer_of_a_module_that_is_not_there(tiny_card: TinyCard) -> None:
    message = refused(tiny_card('conv = "conv"', 'conv = "convv"'))
    assert message.startswith(" line 11: layer conv reads the module convv, which ./tiny.py:build ")
    assert "did you mean conv?" in message


def test_a_layer_of_a_module_that_never_runs(tiny_card: TinyCard, tmp_path: Path) -> None:
    path = tiny_card('conv = "conv"', 'conv = "spare"')
    code = tmp_path / "cards" / "tiny.py"
    code.write_text(
        code.read_text().replace("    return nn.Sequential(", "    net = nn.Sequential(")
        + "    class Net(nn.Module):\n        def __init__(self):\n            super().__init__()\n"
        "            for name, child in net.named_children():\n"
        "                setattr(self, name, child)\n"
        "            self.spare = nn.Conv2d(1, 1, 1)\n"
        "        def forward(self, x):\n            return net(x)\n    return Net()\n"
    )
    message = refused(path)
    assert message.startswith(" line 11: layer conv reads the module spare, which never runs; ")


@pytest.mark.parametrize("size", ["[10, 8]", "[1, 1]", "[0, 8]", "[-8, 8]"])
def test_an_input_size_that_the_network_cannot_take(tiny_card: TinyCard, size: str) -> None:
    message = refused(tiny_card("size = [8, 8]", f"size = {size}"))
    assert message.startswith(" line 6: ")
    assert "size" in message


@pytest.mark.parametrize("error", ["AssertionError", "ValueError", "KeyError", "AttributeError"])
def test_a_network_that_fails_in_its_own_way_on_the_input(tiny_card: TinyCard, error: str) -> None:
    path = tiny_card()
    (path.parent / "tiny.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Conv2d):\n    def forward(self, x):\n"
        f"        if x.shape[2] != 16:\n            raise {error}('16 rows please')\n"
        "        return super().forward(x)\n\n\ndef build():\n    return Net(3, 4, 3)\n"
    )
    message = refused(path)
    assert message.startswith(" line 6: ./tiny.py:build fails on an image of 8 x 8 ")
    assert "16 rows please" in message


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("alexnet", "is not KIND:NAME; write torchvision:NAME"),
        ("torchvision:alexnett", "torchvision has no model alexnett; did you mean alexnet"),
        ("./gone.py:build", "gone.py does not exist; paths start from the card's folder."),
        ("./tiny.py:biuld", "tiny.py has no function biuld; did you mean build"),
        ("features.networks:giltne", "has no function giltne; did you mean gilnet"),
        ("features.networks.gilnte:gilnet", "there is no module features.networks.gilnte"),
        ("collections:OrderedDict", "is neither one of features.networks nor registered"),
    ],
)
def test_a_network_that_does_not_exist(tiny_card: TinyCard, network: str, said: str) -> None:
    message = refused(tiny_card("./tiny.py:build", network))
    assert message.startswith(" line 3: ")
    assert said in message


def test_options_that_the_network_does_not_know(tiny_card: TinyCard) -> None:
    message = refused(tiny_card('domain = "toys"', 'domain = "toys"\noptions = { classes = 3 }'))
    assert message.startswith(" line 4: ./tiny.py:build could not be built with options")
    assert "'classes'" in message


def test_a_file_that_fails_when_imported(tiny_card: TinyCard) -> None:
    path = tiny_card()
    (path.parent / "tiny.py").write_text("1 / 0\n")
    with pytest.raises(InputError, match=r"tiny\.py: importing it failed with ZeroDivisionError"):
        describe(str(path))


def test_an_unknown_name_gets_near_ones() -> None:
    with pytest.raises(InputError, match=r"vgface: there is no .*; did you mean vggface"):
        find("vgface")
    with pytest.raises(InputError, match=r"choose from alexnet, .*\. A card file"):
        find("xyzzy")
    with pytest.raises(InputError, match=r"there is no such card file"):
        find("./gone.toml")


def test_nearest() -> None:
    assert nearest("conv6", ["fc6", "conv5", "pool"]).startswith("did you mean conv5")
    assert nearest("qqq", ["a", "b"]) == "choose from a, b."
    assert nearest("qqq", [str(i) for i in range(99)]).endswith(", 11, ...")
    assert nearest("q", []) == "there are none."
    assert "caffe" in nearest("cafe", FORMATS)


def test_paths_start_from_the_cards_folder(
    tiny_card: TinyCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_card()
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    backbone = load("../cards/tiny.toml")
    assert (backbone.name, backbone.domain) == ("tiny", "toys")
    held = load_file(path.parent / "tiny.safetensors")
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, held[name])


def test_a_weights_file_with_another_checksum_is_refused(tiny_card: TinyCard) -> None:
    plain = tiny_card()
    weights = plain.parent / "tiny.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    entry = 'path = "tiny.safetensors"'
    card = tiny_card(entry, f'{entry}\nsha256 = "{digest}"')
    found = load(str(card)).weights
    assert found is not None
    assert (found.sha256, found.verified, found.published) == (digest, True, True)
    held = load_file(weights)
    held["fc.bias"] = held["fc.bias"] + 1
    save_file(held, weights)
    with pytest.raises(InputError, match=r"tiny\.safetensors: not the file that tiny's card desc"):
        load(str(card))


@pytest.mark.parametrize("kind", ["sha1", "md5"])
def test_older_checksums_count_too(tiny_card: TinyCard, kind: str) -> None:
    plain = tiny_card()
    digest = hashlib.new(kind, (plain.parent / "tiny.safetensors").read_bytes()).hexdigest()
    entry = 'path = "tiny.safetensors"'
    found = load(str(tiny_card(entry, f'{entry}\n{kind} = "{digest}"'))).weights
    assert found is not None
    assert found.verified
    with pytest.raises(InputError, match="checksum differs"):
        load(str(tiny_card(entry, f'{entry}\n{kind} = "{digest[::-1]}"')))


def test_a_file_without_a_published_checksum_is_marked_unverified(tiny_card: TinyCard) -> None:
    found = load(str(tiny_card())).weights
    assert found is not None
    assert (found.published, found.verified) == (True, False)
    assert found.sha256 == hashlib.sha256(found.path.read_bytes()).hexdigest()


def test_random_weights_make_a_name_of_their_own(tiny_card: TinyCard) -> None:
    card = str(tiny_card())
    named = [load(card, "random", seed) for seed in (0, 1, 12)]
    assert [b.name for b in named] == ["tiny@random", "tiny@random-1", "tiny@random-12"]
    assert {b.domain for b in named} == {"none"}


def test_another_file_makes_a_name_of_its_own(tiny_card: TinyCard, tmp_path: Path) -> None:
    card = tiny_card()
    own = card.parent / "tiny.safetensors"
    other = tmp_path / "epoch 3.safetensors"
    other.write_bytes(own.read_bytes())
    assert load(str(card), str(other)).name == "tiny@epoch 3"
    assert load(str(card), str(other)).domain == "toys"
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    listed = tiny_card("[[weights]]", f'[[weights]]\nsha256 = "{digest}"\n\n[[weights]]')
    assert load(str(listed), str(other)).name == "tiny"


def test_the_cards_own_file_given_by_its_path_keeps_the_name(tiny_card: TinyCard) -> None:
    card = tiny_card()
    assert load(str(card), str(card.parent / "tiny.safetensors")).name == "tiny"


def test_a_file_with_the_hash_of_its_published_name_is_the_cards_own(
    tiny_card: TinyCard, tmp_path: Path
) -> None:
    own = tiny_card().parent / "tiny.safetensors"
    short = hashlib.sha256(own.read_bytes()).hexdigest()[:8]
    card = tiny_card('path = "tiny.safetensors"', f'url = "https://example.org/tiny-{short}.pth"')
    brought = tmp_path / f"tiny-{short}.pth"
    brought.write_bytes(own.read_bytes())
    backbone = load(str(card), str(brought))
    assert backbone.name == "tiny"
    assert backbone.weights is not None
    assert backbone.weights.verified
    own.write_bytes(own.read_bytes()[:-4] + b"\0\0\0\0")
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(own.read_bytes())
    assert load(str(card), str(changed)).name == "tiny@changed"


def test_a_card_needs_preprocessing_or_a_publisher(tiny_card: TinyCard) -> None:
    path = tiny_card("[input]\nsize = [8, 8]\nscale = 255.0\n", "")
    assert "[input] is missing; add size, scale, mean and std" in refused(path)


def test_reading_a_card_builds_no_network(tiny_card: TinyCard) -> None:
    path = tiny_card()
    (path.parent / "tiny.py").write_text("1 / 0\n")
    assert read_file(path).name == "tiny"


def test_a_network_that_computes_while_it_is_built(tiny_card: TinyCard) -> None:
    path = tiny_card()
    code = path.parent / "tiny.py"
    code.write_text(
        code.read_text().replace("return nn.Seq", "net = nn.Seq")
        + "    assert float(net.fc.weight.abs().sum()) > 0\n    return net\n"
    )
    assert len(architecture_of(read_file(path)).layers) == 5
