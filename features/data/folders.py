"""A folder of class folders, or of a split with class folders below; `levels` names other levels."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from features.data.imagefiles import Listing, list_images
from features.data.kinds import needed
from features.data.manifest import Manifest
from features.data.tasks import Task, order
from features.errors import InputError

SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
_IGNORED = "-"
_FOLD = re.compile(r"(fold|split|part|cv|batch|set)s?[ _-]*\d+|\d+", re.IGNORECASE)
_PERSON = re.compile(
    r"(person|people|subject|subj|patient|participant|user|case|id|p|s)[ _-]*\d+", re.IGNORECASE
)
_BESIDE = ("labels", "label", "masks", "annotations", "json", "xml", "xmls", "txt")
_NAMED = 3


def read_folders(folder: Path, levels: str | None = None) -> Manifest:
    """One row per image file under `folder`, in order of path; the task is called `label`.

    The first folder of a path is its label. A single folder around all others is skipped, and where the
    first folders are a split, for example `train` and `test`, the label is the second.

    Args:
        folder: The folder.
        levels: The meaning of the folders of a path, from the outermost: names of columns with slashes
            between them, such as `fold/label`; `-` is no column. None: decided by the names.

    Raises:
        InputError: There is no image, no image is in a class folder, or the meaning of the folders is
            not clear.
    """
    listing = list_images(folder)
    if not listing.images:
        raise InputError(
            f"{folder}: there are no image files in it{_kinds(listing)}; {_instead(folder)}."
        )
    if levels is not None:
        return _by_levels(folder, listing, levels)
    base = _around(listing.images)
    tops: dict[str, list[str]] = defaultdict(list)
    for path in listing.images:
        if path.startswith(base) and "/" in path[len(base) :]:
            tops[path[len(base) :].partition("/")[0]].append(path[len(base) :])
    if not tops:
        _refuse_pairs(folder, listing, "")
        raise InputError(
            f"{folder}: its {len(listing.images)} images lie in no class folder; sort them into one folder "
            "per class, or write a CSV manifest with the columns path and label."
        )
    _refuse_pairs(folder, listing, base)
    if all(name.casefold() in SPLITS for name in tops):
        return _split(folder, listing, base, tops)
    _refuse_others(folder, tops)
    left_out = []
    for name in [name for name in tops if name.casefold() in SPLITS]:
        below = {path.split("/")[1] for path in tops[name] if path.count("/") > 1}
        if below & set(tops):
            raise InputError(
                f"{folder}: {name} has class folders and lies beside class folders; put those into a "
                f"folder train beside {name}, or give --levels label if {name} is a class."
            )
        if not below and len(tops) > 2:
            left_out.append((base + name, f"{len(tops.pop(name))} images in no class folder"))
    paths = sorted(base + path for several in tops.values() for path in several)
    columns = {"path": paths, "label": [path[len(base) :].partition("/")[0] for path in paths]}
    left_out += _loose(listing, [base + name + "/" for name in tops], left_out)
    left_out += _empty(listing, [base])
    return _manifest(folder, columns, left_out, listing, _unused(folder, tops))


def _instead(folder: Path) -> str:
    """What to give where a folder holds no image files."""
    table = min(folder.rglob("*.parquet"), default=None)
    if table is not None:
        return f"give one of its Parquet files, such as {table}, or hf:DIR of all by `save_to_disk`"
    archive = min(folder.rglob("*.tar"), default=None)
    if archive is not None:
        return f"give its archives as 'webdataset:{archive.parent}/*.tar'"
    return "give a folder with one folder of images per class"


def _split(folder: Path, listing: Listing, base: str, tops: dict[str, list[str]]) -> Manifest:
    """The manifest of a split with class folders below."""
    rows, left_out, names = [], [], []
    for name, paths in tops.items():
        inside = [path for path in paths if path.count("/") > 1]
        rows += [(base + path, path.split("/")[1], name) for path in inside]
        names += [name] if inside else []
        if len(inside) < len(paths):
            left_out.append((base + name, f"{len(paths) - len(inside)} images in no class folder"))
    if not rows:
        raise InputError(
            f"{folder}: {_and(tops)} are named as a split and hold no class folders; write a CSV manifest "
            "with the columns path, label and split, or give --levels label if they are the classes."
        )
    rows.sort()
    columns = {"path": [path for path, _, _ in rows], "label": [label for _, label, _ in rows]}
    if len(names) > 1:
        columns["split"] = [name for *_, name in rows]
    left_out += _loose(listing, [base + name + "/" for name in tops], left_out)
    left_out += _empty(listing, [f"{base}{name}/" for name in tops])
    note = (
        f"{folder}: {_and(names)} are the split and the folders below them the classes; --levels label "
        "takes them for classes"
    )
    return _manifest(folder, columns, left_out, listing, (note,) if len(names) > 1 else ())


def _by_levels(folder: Path, listing: Listing, levels: str) -> Manifest:
    names = [name.strip() for name in levels.split("/")]
    named = [name for name in names if name != _IGNORED]
    if "" in named or len(set(named)) < len(named) or {"path", "use"} & set(named) or not named:
        raise InputError(
            f"--levels {levels}: name a column for every level of folders, each once, such as "
            "split/label, fold/label or subject/label; - is no column."
        )
    kept = [path for path in listing.images if path.count("/") >= len(names)]
    if not kept:
        raise InputError(
            f"--levels {levels}: no image in {folder} lies in so many folders; name fewer levels."
        )
    columns = {"path": kept}
    for level, name in enumerate(names):
        if name != _IGNORED:
            columns[name] = [path.split("/")[level] for path in kept]
    left_out = [
        (path, f"in fewer folders than {levels} has")
        for path in sorted(set(listing.images) - set(kept))
    ]
    made = _manifest(folder, columns, left_out, listing, ())
    return (
        made if "label" in columns else Manifest(made.source, made.root, columns, {}, made.left_out)
    )


def _manifest(
    folder: Path,
    columns: dict[str, list[str]],
    left_out: Iterable[tuple[str, str]],
    listing: Listing,
    notes: tuple[str, ...],
) -> Manifest:
    classes = order(set(columns.get("label", ())))
    tasks = {"label": Task("label", classes)} if len(classes) > 1 else {}
    everything = (*sorted(left_out), *listing.left_out, *listing.not_read())
    return Manifest(
        str(folder.resolve()), folder.resolve(), columns, tasks, everything, notes=notes
    )


def _around(paths: Sequence[str]) -> str:
    """The path of the folders around all others, such as `images/`; empty where there are none."""
    base = ""
    while True:
        inside = [path[len(base) :] for path in paths if path.startswith(base)]
        heads = {path.partition("/")[0] for path in inside if "/" in path}
        if len(heads) != 1:
            return base if heads else ""
        base += f"{heads.pop()}/"


def _refuse_others(folder: Path, tops: dict[str, list[str]]) -> None:
    """Refuse folders that are named like folds or persons: `levels` must give their meaning."""
    below = Counter(
        name
        for paths in tops.values()
        for name in {path.split("/")[1] for path in paths if path.count("/") > 1}
    )
    repeated = len(tops) > 1 and sum(count > 1 for count in below.values()) > 1
    named = [name for name in tops if not name.isdigit()]
    folds = all(_FOLD.fullmatch(name) for name in tops) and len(tops) > 1
    persons = all(_PERSON.fullmatch(name) for name in tops)
    if folds and (repeated or (named and not below)):
        meaning, levels = ("folds", "fold/label") if named else ("folds or persons", "fold/label")
    elif persons and repeated:
        meaning, levels = "persons", "subject/label"
    else:
        return
    other = ", --levels subject/label" if not named else ""
    raise InputError(
        f"{folder}: its folders {_and(sorted(tops))} look like {meaning} and not like classes; give "
        f"--levels {levels}{other}, or --levels label if they are the classes."
    )


def _unused(folder: Path, tops: dict[str, list[str]]) -> tuple[str, ...]:
    """A sentence where all classes have the same folders inside, which may be the classes as well."""
    inside = [{p.split("/")[1] for p in paths if p.count("/") > 1} for paths in tops.values()]
    if len(inside) < 2 or len(inside[0]) < 2 or any(names != inside[0] for names in inside):
        return ()
    classes, below = _and(sorted(tops)), _and(sorted(inside[0]))
    return (
        f"{folder}: {classes} are the classes, and {below} in each of them mean nothing; --levels "
        "subject/label or label/view, for example, gives both levels a meaning",
    )


def _refuse_pairs(folder: Path, listing: Listing, base: str) -> None:
    """Refuse images in one folder with their annotations in another, as detectors are trained with."""
    inside = [name[len(base) :] for name in listing.folders if name.startswith(base)]
    parents: dict[str, set[str]] = defaultdict(set)
    for name in [base.rstrip("/"), *inside]:
        parents[name.rpartition("/")[0].casefold()].add(name.rpartition("/")[2].casefold())
    for names in parents.values():
        beside = names & set(_BESIDE)
        if "images" in names and beside and not _has_classes(listing.images):
            raise InputError(
                f"{folder}: the images are in images and their annotations in {beside.pop()}, so that no "
                "folder is a class; write a CSV manifest with the columns path and label, or give "
                "--levels label if they are the classes."
            )


def _has_classes(paths: Sequence[str]) -> bool:
    """Whether folders called `images` hold several folders of images."""
    below = set()
    for path in paths:
        parts = path.split("/")
        lower = [part.casefold() for part in parts[:-1]]
        if "images" in lower and lower.index("images") + 1 < len(lower):
            below.add(lower[lower.index("images") + 1])
    return len(below) > 1


def _loose(
    listing: Listing, inside: Sequence[str], known: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Images outside the folders `inside` and outside those that are named already."""
    taken = (*inside, *(f"{name}/" for name, _ in known))
    return [(p, "in no class folder") for p in listing.images if not p.startswith(taken)]


def _empty(listing: Listing, bases: Sequence[str]) -> list[tuple[str, str]]:
    """Folders at the level of classes without a readable image, each with the reason."""
    holding = set()
    for path in listing.images:
        parts = path.split("/")[:-1]
        holding |= {"/".join(parts[: i + 1]) for i in range(len(parts))}
    empty = []
    for name in listing.folders:
        parent = name[: name.rfind("/") + 1]
        if name not in holding and parent in bases:
            why = _kinds(listing, name)
            empty.append((name, f"no class, for there are no images in it{why}"))
    return empty


def _kinds(listing: Listing, below: str = "") -> str:
    """The kinds of images below a folder that cannot be read, as the end of a clause."""
    counts: Counter[str] = Counter()
    for (where, kind), count in listing.unread.items():
        if not below or where == below or where.startswith(f"{below}/"):
            counts[kind] += count
    several = [
        f"{count} {kind or 'without an ending'}, {needed(kind)}"
        for kind, count in sorted(counts.items())
    ]
    return f" that are read ({'; '.join(several)})" if several else ""


def _and(names: Iterable[str]) -> str:
    several = list(names)
    if len(several) > _NAMED + 1:
        several = [*several[:_NAMED], f"{len(several) - _NAMED} more"]
    return " and ".join([", ".join(several[:-1]), several[-1]]) if len(several) > 1 else several[0]
