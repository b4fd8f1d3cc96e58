"""A whole study from one file: what may stand in it, in which order it runs, and that it runs once."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from forkserver import Probe
from PIL import Image
from typer.testing import CliRunner

from cli.app import Terminated, app
from cli.run import _STUDIES as STUDIES
from cli.run_file import ORDER, read_run_file
from features.errors import InputError
from features.machine.home import home

pytestmark = pytest.mark.usefixtures("svg_alone")

KNOWN = dict.fromkeys(ORDER, ("backbone", "layer", "seed", "probe", "from-scratch", "weights"))
FILE = """study = "made"
data = "sample"

[[fit]]
probe = ["ridge", "knn"]

[[extract]]
limit = 40
each = { backbone = ["control:pixels", "control:tiny"] }

[report]
compare = ["control:pixels/best/ridge,control:tiny"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, on a machine that has measured nothing yet."""
    monkeypatch.chdir(tmp_path)
    for measured in home().glob("*-seconds.json"):
        measured.unlink()
    return tmp_path


def written(text: str) -> Path:
    path = Path("run.toml")
    path.write_text(text)
    return path


def test_a_table_is_a_command_and_only_each_makes_a_grid(folder: Path) -> None:
    file = written(
        '[[finetune]]\nbackbone = "net"\nfrom-scratch = true\n'
        '[[fit]]\nprobe = ["svm", "knn"]\n'
        '[[extract]]\nbackbone = ["a", "b"]\neach = { seed = [0, 1], weights = ["random"] }\n'
    )
    made = read_run_file(file, KNOWN)
    assert [" ".join(step.words) for step in made.steps] == [
        "extract --backbone a --backbone b --seed 0 --weights random",
        "extract --backbone a --backbone b --seed 1 --weights random",
        "fit --probe svm --probe knn",
        "finetune --backbone net --from-scratch",
    ]
    assert made.study == Path("study")


def test_false_is_the_option_that_says_no_where_there_is_one(folder: Path) -> None:
    file = written("[[fit]]\nsearch = false\nredo = false\n")
    known = {**KNOWN, "fit": ("search", "no-search", "redo")}
    assert [step.words for step in read_run_file(file, known).steps] == [["fit", "--no-search"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('study = "s"\n[[fit]]\nprobe = "svm"\n\n[[fit]]\nprobes = "knn"\n',
         r"run.toml, line 6: fit has no option --probes; did you mean probe"),
        ('[[fits]]\nprobe = "svm"\n', r"line 1: fits is no part of a study's file; did you mean fit"),
        ('[[fit]]\nprobe = "svm"\n\n[[fit]]\nprobe = "svm"\n',
         r"\[\[fit\]\] 2, line 4: is the same command as run.toml, \[\[fit\]\] 1, line 1"),
        ("[report]\n[report]\n", r"run.toml, line 2: \[report\] stands twice; put all its options"),
        ('[[report]]\n[[report]]\nseed = 1\n', r"2, line 2: \[report\] stands twice; put all"),
        ('[report]\neach = { seed = [1, 2] }\n', r"line 1: \[report\] stands twice; put all its options"),
        ('[fit]\n[fit]\n', r"line 2: \[fit\] stands twice; write \[\[fit\]\] for each of several\."),
        ('[[extract]]\neach = { seed = [' + ",".join(map(str, range(100))) + "], layer = ["
         + ",".join(f'"{i}"' for i in range(100)) + "] }\n",
         r"\[\[extract\]\] 1, line 2: each makes 10,000 commands, more than 1,000; make it smaller\."),
        ('[[extract]]\nbackbone = "a"\ndevice = "cuda"\n',
         r"line 3: device is about the machine, not the study; give --device to `probe run`"),
        ('[[extract]]\nstudy = "x"\n', r"line 2: study has no place in \[\[extract\]\] 1"),
        ('[[extract]]\nseed = 1\neach = { seed = [1] }\n', r"seed stands in each too"),
        ('[[extract]]\neach = [1]\n', r"each is a table of lists"),
        ("study = 5\n", r"line 1: study is one text in quotes"),
        ("extract = 3\n", r"line 1: extract is a table"),
        ('[[extract]]\nbackbone = [["a"]]\n', r"line 2: backbone is text, a number, true or a list"),
        ("", r"has no table"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named_with_its_line(
    folder: Path, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_run_file(written(text), KNOWN)


def run(*words: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["run", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def test_nothing_runs_where_the_last_table_is_wrong(folder: Path) -> None:
    code, _, err = run(written(FILE.replace('"ridge", "knn"', '"ridge", "knm"')))
    assert code == 3
    assert "error: run.toml, [[fit]] 1, line 4: Invalid value for '--probe'" in err
    assert not Path("made").exists()
    code, _, err = run(written(FILE + '\n[[extract]]\nbackbone = "gilnet"\nweights = "no.pth"\n'))
    assert code == 3
    assert err.splitlines() == [
        "error: run.toml, [[extract]] 2, line 14: no.pth: there is no such weights file."
    ]
    assert not Path("made").exists()
    assert run("nowhere.toml")[0] == 3


def test_weights_that_cannot_be_fetched_stop_a_run_before_its_first_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(FILE + '\n[[finetune]]\nbackbone = "torchvision:squeezenet1_1"\n')
    code, _, err = run(file)
    assert code == 3
    assert re.fullmatch(
        r"error: run.toml, \[\[finetune\]\] 1, line 14: the weights of torchvision:squeezenet1_1 are not "
        r"here; `probe weights add torchvision:squeezenet1_1 FILE` adds them from https://\S+, or give "
        r"--weights torchvision:squeezenet1_1=FILE\.\n",
        err,
    )
    assert not Path("made").exists()
    # On a machine that may fetch them a plan names the address and fetches nothing.
    monkeypatch.delenv("PROBE_OFFLINE")
    code, _, err = run(file, "--plan", "--limit", "20")
    assert code == 0, err
    assert "to fetch: the weights of torchvision:squeezenet1_1, from https://" in err
    assert not list(home().glob("weights/*squeezenet1_1*"))


def test_a_plan_changes_nothing_and_says_what_would_be_done(folder: Path) -> None:
    code, out, err = run(written(FILE), "--plan", "--limit", "50")
    assert code == 0, err
    lines = out.splitlines()
    assert [line for line in lines if line.startswith("probe ")] == [
        "probe extract --study made --limit 50 --backbone control:pixels --data sample",
        "probe extract --study made --limit 50 --backbone control:tiny",
        "probe fit --study made --probe ridge --probe knn",
        "probe report --study made --shortened '--limit 50' --compare "
        "control:pixels/best/ridge,control:tiny",
    ]
    assert lines[1].startswith("  control:pixels: 1 array of 50 rows: 0 kept, 50 images to do, ")
    # two tasks, two probes, two backbones of one layer
    tasks = len(set(re.findall(r"(\d+) results to do, 0 of them stale", out)))
    assert tasks == 1
    assert "GB free" in lines[-2]
    assert "1 command that nothing here has measured yet" in lines[-1]
    assert [path.name for path in folder.iterdir()] == ["run.toml"]


def test_a_run_is_the_typed_commands_and_a_second_one_computes_nothing(folder: Path) -> None:
    code, out, err = run(written(FILE))
    assert code == 0, err
    assert "control:pixels/best/ridge" in out  # the planned comparison
    first = Path("made/results.csv").read_bytes()
    for words in (
        "extract --study typed --data sample --limit 40 --backbone control:pixels --seed 3",
        "extract --study typed --limit 40 --backbone control:tiny",
        "fit --study typed --probe ridge --probe knn",
    ):
        assert CliRunner().invoke(app, words.split()).exit_code == 0
    assert Path("typed/results.csv").read_bytes() == first
    page = Path("made/report/index.html").read_text()
    assert "Planned comparisons" in page
    times = {path: path.stat().st_mtime_ns for path in Path("made").rglob("*.h5")}
    planned = run("run.toml", "--plan")[1]
    assert planned.count("40 kept, 0 images to do") == 2
    assert re.search(r"[1-9]\d* kept, 0 results to do, 0 of them stale", planned)
    assert planned.splitlines()[-1] == "time: about 0 s"
    # What fits took here is told of a study that does not exist yet.
    elsewhere = run("run.toml", "--plan", "--study", "other", "--data", "sample")[1]
    assert re.search(r"0 kept, \d+ results to do, 0 of them stale, .*B, about \d+ s", elsewhere)
    assert re.fullmatch(r"time: about \d+ s", elsewhere.splitlines()[-1])
    assert not Path("other").exists()
    # Other rows, and so every result, would be stale with more images.
    more = run("run.toml", "--plan", "--limit", "60")[1]
    assert more.count("40 kept, 20 images to do") == 2
    found = re.search(r"0 kept, (\d+) results to do, (\d+) of them stale", more)
    assert found is not None
    assert found[1] == found[2]
    code, _, err = run("run.toml")
    assert code == 0
    assert Path("made/results.csv").read_bytes() == first
    assert {path: path.stat().st_mtime_ns for path in Path("made").rglob("*.h5")} == times
    assert "0 images" in err


def test_the_papers_study_goes_on_without_the_weights_that_are_not_here(folder: Path) -> None:
    code, out, err = run("paper", "--plan", "--data", "sample", "--epochs", "1")
    assert code == 0, err
    assert "missing: the weights of vggface are not here; `probe weights add vggface FILE`" in err
    assert [line for line in out.splitlines() if line.startswith("probe")] == [
        "probe finetune --study paper --backbone gilnet --from-scratch --recipe gilnet --epochs 1 "
        "--data sample",
        "probe report --study paper --published paper --metric accuracy --metric one_off --shortened "
        "'--epochs 1'",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"ridge", "knn"]', '"ridge", "knn"]\nlayer = "pixel"'), r"\[\[fit\]\] 1.*--layer pixel: not "
         "extracted; did you mean pixels"),
        (('"ridge", "knn"]', '"ridge", "knn"]\ntask = "agee"'), r"\[\[fit\]\] 1.* agee.*did you mean age"),
        (('control:tiny"] }', 'control:tyny"] }'), "control:tyny.*did you mean"),
        (("limit = 40", 'limit = 40\nlayer = "nope"'), r"\[\[extract\]\] 1.*nope"),
        (("ridge,control:tiny", "ridge,control:tinny"), r"--compare .*no control:tinny here"),
        (('compare', 'published = "papr"\ncompare'), "--published papr: there is no such file"),
    ],
)  # fmt: skip
def test_cards_layers_tasks_and_results_are_checked_before_anything_runs(
    folder: Path, change: tuple[str, str], message: str
) -> None:
    code, out, err = run(written(FILE.replace(*change)))
    assert code in (2, 3), out
    assert re.search(f"error: run.toml, .*{message}", err.splitlines()[-1])
    assert len([line for line in err.splitlines() if line.startswith("error")]) == 1
    assert not Path("made").exists()


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(
            file, id=file.stem, marks=[pytest.mark.slow] if "backbones" in file.stem else []
        )
        for file in sorted(STUDIES.glob("*.toml"))
    ],
)
def test_every_file_that_ships_is_valid(folder: Path, file: Path) -> None:
    if file.stem not in ("paper", "paper-stand-in"):
        assert len(file.read_text().splitlines()) < 30
    images = Path("images")  # named as UTKFace names them; nothing reads them
    images.mkdir()
    for i in range(40):
        (images / f"{20 + i}_{i % 2}_0_2017{i:04}.jpg").touch()
    code, _, err = run(file.stem, "--plan", "--data", "utkface:images", "--limit", "20")
    assert code == 0, err
    assert list(folder.iterdir()) == [images.resolve()]


def test_the_file_of_a_study_makes_it_again(folder: Path) -> None:
    for words in (
        "extract --study typed --data sample --limit 40 --backbone sample-faces --layer conv3 --layer fc6 "
        "--pool avg --batch-size 4",
        "extract --study typed --limit 40 --backbone sample-faces --weights random --seed 1 --layer fc6",
        "extract --study typed --limit 40 --backbone control:pixels",
        "fit --study typed --task age --probe knn --probe ridge --seed 2 --shots 2 --draws 2",
        "fit --study typed --task light --probe logistic --backbone sample-faces --C 0.1,1 --scale l2",
        "finetune --study typed --backbone sample-faces --task age --epochs 1 --patience 0 "
        "--rate 0.001 --view center --no-augment",
    ):
        done = CliRunner().invoke(app, words.split())
        assert done.exit_code == 0, done.stderr
    code, _, err = run("again.toml", "--from-study", "typed")
    assert code == 0, err
    assert "note" not in err
    code, _, err = run("again.toml", "--study", "again")
    assert code == 0, err
    assert sorted(Path("again/results.csv").read_text().splitlines()) == sorted(
        Path("typed/results.csv").read_text().splitlines()
    )
    # Nothing that is not needed stands in it.
    text = Path("again.toml").read_text()
    assert 'layer = ["conv3", "fc6"]' in text
    assert "dtype" not in text
    code, _, err = run("again.toml", "--from-study", "typed")
    assert code == 3
    assert "again.toml: is already there" in err or "is there already" in err


def test_weights_are_named_on_the_command_line(folder: Path) -> None:
    written(FILE.replace("control:pixels", "sample-faces"))
    code, out, err = run("run.toml", "--plan", "--weights", "sample-faces=random")
    assert code == 0, err
    assert "--backbone sample-faces --weights sample-faces=random" in out
    assert "--backbone control:tiny\n" in out
    assert "--compare sample-faces@random/best/ridge,control:tiny" in out
    code, _, err = run("run.toml", "--weights", "sample-faces=no.pth")
    assert code == 3
    assert "no.pth: there is no such weights file" in err
    drawn = '[[extract]]\nbackbone = "sample-faces"\nweights = "random"\n\n[report]'
    written(FILE.replace("control:pixels", "sample-faces").replace("[report]", drawn))
    code, out, err = run("run.toml", "--plan", "--weights", "sample-faces=no.pth")
    assert code == 0, err
    assert "--backbone sample-faces --weights random" in out
    assert "without --plan this ends before its first command" in err
    code, _, err = run("run.toml", "--weights", "sample-face=no.pth")
    assert code == 2
    assert "no table has it; did you mean sample-faces" in err
    code, _, err = run("run.toml", "--stand-in")
    assert code == 2
    assert "run.toml has none" in err


def test_a_backbone_is_left_out_by_name_wherever_it_stands(folder: Path) -> None:
    written(
        'study = "made"\ndata = "sample"\n'
        '[[extract]]\nbackbone = ["control:pixels", "sample-faces"]\nweights = "sample-faces=random"\n'
        '[[extract]]\nbackbone = "sample-objects"\n'
        '[[finetune]]\nbackbone = "sample-faces"\n'
        '[report]\ncompare = ["sample-faces@random/best/ridge,control:pixels", '
        '"control:pixels/best/ridge,sample-objects"]\n'
    )
    code, out, err = run("run.toml", "--plan", "--limit", "20", "--without", "sample-faces")
    assert code == 0, err
    assert err.startswith("planning; ")
    assert [line for line in out.splitlines() if line.startswith("probe ")] == [
        "probe extract --study made --backbone control:pixels --limit 20 --data sample",
        "probe extract --study made --backbone sample-objects --limit 20",
        "probe report --study made --shortened '--limit 20' --compare "
        "control:pixels/best/ridge,sample-objects",
    ]
    code, _, err = run("run.toml", "--plan", "--without", "sample-face")
    assert (code, err) == (
        2, "error: --without sample-face: no table has it; did you mean sample-faces or "
        "sample-objects?\n",
    )  # fmt: skip
    every = ("control:pixels", "sample-faces", "sample-objects")
    code, _, err = run("run.toml", "--plan", *(w for name in every for w in ("--without", name)))
    assert code == 2
    assert "leaves nothing to do" in err


@pytest.mark.parametrize(("kind", "code"), [(Terminated, 4), (KeyboardInterrupt, 130)])
def test_a_signal_ends_the_run_in_its_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException], code: int
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise kind

    written(FILE)
    monkeypatch.setattr("probe.fitting.fit.fit", interrupted)
    ended, _, err = run("run.toml")
    assert ended == code
    assert err.splitlines()[-1].startswith("error: ")
    assert err.splitlines()[-1].endswith(
        "what was done is kept, run the same command again to go on."
    )


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_as_the_typed_commands(folder: Path, kills: int) -> None:
    for i in range(40):
        image = Path("images", "ab"[i % 2], f"{i}.png")
        image.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 200, (6, 6, 3)) + 40 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).resize((32, 32)).save(image)
    text = FILE[: FILE.index("[report]")].replace('"sample"', '"images"')
    written(text.replace("[[fit]]", "[[fit]]\nrepeats = 3"))
    for words in (
        "extract --study typed --data images --backbone control:pixels --limit 40",
        "extract --study typed --backbone control:tiny --limit 40",
        "fit --study typed --repeats 3 --probe ridge --probe knn",
    ):
        assert CliRunner().invoke(app, words.split()).exit_code == 0
    started = time.monotonic()
    assert Probe(["run", "run.toml", "--study", "whole"], folder).end()[0] == 0
    seconds = time.monotonic() - started
    chance, killed = np.random.default_rng(0), 0
    for _ in range(10 * kills):  # some moments lie after the end of what is left
        process = Probe(["run", "run.toml"], folder)
        time.sleep(chance.uniform(0, seconds))
        killed += process.poll() is None
        process.kill()
        if killed == kills:
            break
    assert killed == kills
    code, _, err = Probe(["run", "run.toml"], folder).end()
    assert code == 0, err
    for study in ("made", "whole"):
        assert Path(study, "results.csv").read_bytes() == Path("typed/results.csv").read_bytes()


def test_a_file_cannot_say_that_code_may_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is data, as a card is; a person says so on the command line."""
    monkeypatch.setenv("PROBE_TRUST", "")
    Path("evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    Path("evil.toml").write_text(
        'name = "evil"\ndomain = "x"\nnetwork = "./evil.py:build"\n[input]\nsize = [8, 8]\n'
    )
    steps = (
        '[[extract]]\nbackbone = "control:pixels"\nlimit = 4\n{}'
        '[[extract]]\nbackbone = "evil.toml"\nweights = "random"\n'
    )
    for more, wrong in (
        ("trust = true\n", "give --trust to `probe run`"),
        ("", "evil.py: is code"),
    ):
        file = written('data = "sample"\n' + steps.format(more))
        ended = CliRunner().invoke(app, ["run", str(file)])
        assert ended.exit_code == 3, ended.output
        assert wrong in ended.stderr.splitlines()[-1]
        assert not Path("ran").exists()
        assert os.environ["PROBE_TRUST"] == ""
    CliRunner().invoke(app, ["run", str(file), "--trust"])
    assert Path("ran").exists()


def test_a_file_that_is_nested_too_deeply_is_none(folder: Path) -> None:
    file = written(f"[extract]\nbackbone={'[' * 3000}{']' * 3000}")
    ended = CliRunner().invoke(app, ["run", str(file)])
    assert ended.exit_code == 3
    assert ended.stderr == f"error: {file}: not TOML: nested too deeply.\n"
