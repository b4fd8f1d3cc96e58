"""What an accelerator proves and gives: `bash tests/bench/gpu.sh` says how it is called.

Sections in the order of their worth, each with the seconds that it may take; a figure that is begun is
finished, and what is left when the time is up is told as not reached. Pictures are drawn here: some hundred
JPEGs, each under many names. Networks have random weights. The processor's part of a comparison is measured
on one layer and multiplied, where the figure says so.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

NEEDED = {
    "torch": "2.11", "torchvision": "0.26", "h5py": "3", "scikit-learn": "1", "scipy": "1", "pillow": "11",
    "rich": "13", "tomlkit": "0.13", "filelock": "4.3",
}  # fmt: skip
"""The packages that the sections use, and from which version on."""


def lacking() -> str:
    """What this Python lacks, in one sentence; empty where it lacks nothing."""
    words = []
    for name, least in NEEDED.items():
        try:
            here = metadata.version(name)
        except metadata.PackageNotFoundError:
            words.append(f"has no {name}")
            continue
        if [int(n) for n in here.split(".")[:2]] < [int(n) for n in least.split(".")]:
            words.append(f"has {name} {here}, older than {least}")
    return f"{sys.executable} {', '.join(words)}; install or bring what is missing" if words else ""


if words := lacking():
    print(f"error: {words}.", file=sys.stderr)
    sys.exit(2)

import torch  # noqa: E402

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from gpu_run import FULL, TINY, Row, Run  # noqa: E402
from gpu_sections import (  # noqa: E402
    device_tests,
    extraction,
    fine_tuning,
    many_classes,
    many_layers,
    one_layer,
)

FIRST, REST, ALL = slice(0, 1), slice(1, None), slice(None)
SECTIONS: dict[str, tuple[float, Callable[[Run], Iterator[Row]]]] = {
    "device tests": (150, device_tests),
    "extraction, the first network and side": (60, extraction(FIRST, FIRST)),
    "probes, one layer": (90, one_layer),
    "fine-tuning": (60, fine_tuning),
    "extraction, the other side": (50, extraction(FIRST, REST)),
    "extraction, the other networks": (150, extraction(REST, ALL)),
    "probes, many layers": (60, many_layers),
    "probes, many classes": (60, many_classes),
}
"""By name: the seconds that a section may take, and the section."""


class OutOfTime(Exception):
    """A section has taken far more than its seconds."""


def _out_of_time(*_: object) -> None:
    raise OutOfTime


def main() -> None:
    """Run the sections, and write what they give after every figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes of a trial of the script itself")
    parser.add_argument("--seconds", type=float, default=515, help="for all sections together")
    parser.add_argument("--out", type=Path, default=Path())
    asked = parser.parse_args()
    begun = time.monotonic()
    switch = nullcontext()
    if asked.device == "simulated":
        import simulated_device

        switch = simulated_device.switched_on()  # type: ignore[assignment]
    from features.errors import InputError
    from features.images import jpeg
    from features.machine.device import cores, device_name, resolve

    with switch, tempfile.TemporaryDirectory() as scratch:
        try:
            device = resolve(asked.device)
        except InputError as error:
            parser.exit(2, f"error: {error}\n")
        report: Row = {
            "device": device_name(device),
            "machine": f"{platform.processor() or platform.machine()}, {cores()} cores",
            "torch": torch.__version__,
            "python": platform.python_version(),
            "decoder": jpeg.name(),
            "size": "tiny" if asked.tiny else "full",
            "sections": {name: {"state": "not reached", "rows": []} for name in SECTIONS},
        }
        run = Run(device, TINY if asked.tiny else FULL, Path(scratch), begun + asked.seconds)
        write(report, asked.out)
        signal.signal(signal.SIGALRM, _out_of_time)
        for name, (seconds, section) in SECTIONS.items():
            if time.monotonic() > run.ends - (0 if asked.tiny else 10):
                break
            here = report["sections"][name]
            started = time.monotonic()
            run.until = started + seconds
            signal.setitimer(signal.ITIMER_REAL, 1.3 * seconds + 15)
            here["state"] = "not finished"
            try:
                for row in section(run):
                    print(name, row, flush=True)
                    here["rows"].append(row)
                    write(report, asked.out)
                here["state"] = "measured"
            except OutOfTime:
                here["state"] = "not finished in its time"
            except Exception as error:  # the other sections go on
                here["state"] = f"failed: {type(error).__name__}: {error}"
                here["traceback"] = traceback.format_exc()
                print(here["traceback"], flush=True)
            signal.setitimer(signal.ITIMER_REAL, 0)
            here["seconds"] = time.monotonic() - started
            write(report, asked.out)
        print(table(report))


def write(report: Row, folder: Path) -> None:
    """gpu.json and gpu.md."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "gpu.json": json.dumps(finite(report), indent=1, allow_nan=False),
        "gpu.md": table(report),
    }
    for name, text in made.items():  # in one step: the time may be up at any moment
        (folder / f".{name}").write_text(text)
        (folder / f".{name}").replace(folder / name)


def finite(value: Any) -> Any:
    """What JSON can hold: None for a number that is not finite."""
    if isinstance(value, dict):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def table(report: Row) -> str:
    """The figures in Markdown, a line each."""
    lines = [
        f"{report['device']}, {report['machine']}, PyTorch {report['torch']}, {report['decoder']}"
        + (" (a trial of the script: no figures)" if report["size"] == "tiny" else ""),
        "", "| section | what | figures |", "| --- | --- | --- |",
    ]  # fmt: skip
    for name, section in report["sections"].items():
        if section["state"] != "measured":
            lines.append(f"| {name} | | {section['state'].splitlines()[0]} |")
        for row in section["rows"]:
            told = "; ".join(
                f"{k}: {shown(v)}" for k, v in row.items() if k not in ("what", "said")
            )
            lines.append(f"| {name} | {row['what']} | {told} |")
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    """A figure in four digits."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
