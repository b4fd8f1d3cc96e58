"""An examination of this machine and of the install."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from rich.filesize import decimal

from features.images import jpeg
from features.machine.device import accelerator, cores, device_name
from features.machine.home import home, offline

_DECODE = "for JPEGs in half the time: pip install 'transfer-probe[decode]'"


@dataclass(frozen=True)
class Finding:
    """The state of one part of the machine or the install; its fields are the keys of `doctor --json`."""

    what: str
    state: str
    advice: str = ""
    wrong: bool = False
    """Whether this keeps the toolkit from working properly."""


def examine() -> list[Finding]:
    """The state of the machine, the installed libraries, and packages whose names clash."""
    import torch

    findings = [
        Finding("python", platform.python_version()),
        Finding("cores", str(cores())),
        Finding("memory", _memory()),
        Finding("disk here", f"{decimal(shutil.disk_usage('.').free)} free"),
        Finding("cache", str(home()), "PROBE_OFFLINE is set" if offline() else ""),
    ]
    for name in ("torch", "torchvision", "h5py", "scikit-learn", "numpy", "pillow", "typer"):
        findings.append(_installed(name))
    found = accelerator()
    if found is not None:
        count = torch.get_device_module(found).device_count()
        names = [device_name(torch.device(found.type, i)) for i in range(count)]
        findings.append(Finding("gpu", ", ".join(names)))
    else:
        findings.append(Finding("gpu", "none", "extraction runs on the processor"))
    findings.append(_faiss())
    findings.append(_optional("timm", "for timm:NAME: pip install 'transfer-probe[timm]'"))
    findings.append(_optional("transformers", "for hf:NAME: pip install 'transfer-probe[hf]'"))
    findings.append(_optional("onnxruntime", "for onnx:FILE: pip install 'transfer-probe[onnx]'"))
    findings.append(Finding("decoder", jpeg.name(), "" if "torchcodec" in jpeg.name() else _DECODE))
    return findings + _clashes()


def _memory() -> str:
    if not hasattr(os, "sysconf"):  # Windows
        return "unknown"
    return decimal(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


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
    """Other packages that have one of our top-level names, which are common words."""
    owners = packages_distributions()
    clashes = []
    for name in ("probe", "features", "cli"):
        others = sorted(set(owners.get(name, [])) - {"transfer-probe"})
        if others:
            advice = "uninstall it, or keep transfer-probe in an environment of its own"
            clashes.append(
                Finding(f"package {name}", f"also in {', '.join(others)}", advice, wrong=True)
            )
    return clashes
