"""What this machine has, and what is wrong with the install."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from rich.filesize import decimal

from features.images import jpeg
from features.machine.device import cores
from features.machine.home import home, offline

_DECODE = "for JPEGs in half the time: pip install 'transfer-probe[decode]'"


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    found: str
    advice: str = ""
    wrong: bool = False


def examine() -> list[Finding]:
    """Look at the machine, the libraries and the names that could clash."""
    import torch

    found = [
        Finding("python", platform.python_version()),
        Finding("cores", str(cores())),
        Finding("memory", decimal(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))),
        Finding("disk here", f"{decimal(shutil.disk_usage('.').free)} free"),
        Finding("cache", str(home()), "PROBE_OFFLINE is set" if offline() else ""),
    ]
    for name in ("torch", "torchvision", "h5py", "scikit-learn", "numpy", "pillow", "typer"):
        found.append(_installed(name))
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found.append(Finding("gpu", ", ".join(names)))
    else:
        found.append(Finding("gpu", "none", "extraction runs on the processor"))
    found.append(_faiss())
    found.append(_optional("timm", "for timm:NAME: pip install 'transfer-probe[timm]'"))
    found.append(Finding("decoder", jpeg.name(), "" if "torchcodec" in jpeg.name() else _DECODE))
    found += _clashes()
    return found


def _installed(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "missing", "install transfer-probe again", wrong=True)


def _optional(name: str, advice: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "not installed", advice)


def _faiss() -> Finding:
    owners = sorted(set(packages_distributions().get("faiss", [])))
    if len(owners) > 1:
        return Finding(
            "faiss",
            " and ".join(owners),
            "they overwrite each other: uninstall all, then install one extra, [cpu] or [gpu]",
            wrong=True,
        )
    if not owners:
        return Finding("faiss", "not installed", "knn uses torch, with the same neighbours")
    try:
        import faiss
    except (ImportError, OSError) as error:
        return Finding("faiss", f"{owners[0]} fails: {error}", "install it again", wrong=True)
    kind = "with GPU" if hasattr(faiss, "StandardGpuResources") else "CPU"
    return Finding("faiss", f"{owners[0]} {version(owners[0])}, {kind}")


def _clashes() -> list[Finding]:
    """Our top-level names are common words: say whose they are if not ours alone."""
    owners = packages_distributions()
    found = []
    for name in ("probe", "features", "cli"):
        others = sorted(set(owners.get(name, [])) - {"transfer-probe"})
        if others:
            advice = "uninstall it, or keep transfer-probe in an environment of its own"
            found.append(
                Finding(f"package {name}", f"also in {', '.join(others)}", advice, wrong=True)
            )
    return found
