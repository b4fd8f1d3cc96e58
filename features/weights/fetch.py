"""Downloading a file of weights, continued where it was interrupted."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, url2pathname, urlopen

from features.errors import InputError
from features.formats.blobs import MOST
from features.machine.files import is_full
from features.machine.regular_files import check_regular

_BLOCK = 1 << 20
_SECONDS = 30
_TRIES = 3

Progress = Callable[[int, int], None]


def download(url: str, folder: Path, progress: Progress = lambda _done, _all: None) -> Path:
    """Download `url` into `folder`, continuing where an earlier attempt at the same address ended.

    Args:
        url: An http, https or file address.
        folder: Where the file is written, and what arrived of it stays when the connection breaks.
        progress: Called with bytes done and bytes in all, 0 where the server does not say.

    Raises:
        InputError: The address is of another kind.
        OSError: It could not be downloaded; the error has the reason.
    """
    parsed = urlparse(url)
    if parsed.scheme not in ("http", "https", "file"):
        raise InputError(f"{url}: not an http, https or file address; correct the card's url.")
    key = hashlib.sha256(url.encode()).hexdigest()[:12]
    partial = folder / f".download-{key}.part"
    for attempt in range(_TRIES):
        try:
            _continue(url, partial, progress)
        except (URLError, OSError, http.client.HTTPException) as error:
            if is_full(error):
                raise
            again = not isinstance(error, HTTPError) and partial.is_file()
            if not again or attempt == _TRIES - 1:
                raise OSError(_reason(error)) from error
            continue
        break
    return partial


def drop(partial: Path) -> None:
    """Delete what was downloaded."""
    partial.unlink(missing_ok=True)
    _version(partial).unlink(missing_ok=True)


def _continue(url: str, partial: Path, progress: Progress) -> None:
    if url.startswith("file:"):
        check_regular(Path(url2pathname(urlparse(url).path)))
    have = partial.stat().st_size if partial.is_file() else 0
    version = _version(partial)
    headers = {"User-Agent": "transfer-probe", "Accept-Encoding": "identity"}
    if have and version.is_file():
        # If-Range: should the file have changed meanwhile, the server sends it whole.
        headers |= {"Range": f"bytes={have}-", "If-Range": version.read_text()}
    try:
        response = urlopen(Request(url, headers=headers), timeout=_SECONDS)
    except HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # the file is complete
        drop(partial)  # longer than the file: begin again
        response = urlopen(Request(url), timeout=_SECONDS)
    with response:
        start = _start(response, have)
        left = int(response.headers.get("Content-Length") or 0)
        total = start + left if left else 0
        if total > MOST:
            raise OSError(f"it has {total:,} bytes, more than any weights")
        if total and shutil.disk_usage(partial.parent).free < left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial))
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if not start:
            drop(partial)
        first = response.read(_BLOCK)
        if first and tag and not tag.startswith("W/"):
            version.write_text(tag)
        _append(response, first, partial, start, total, progress)


def _append(
    response: Any, block: bytes, partial: Path, done: int, total: int, progress: Progress
) -> None:
    if not block and not done:
        raise OSError("the server sent nothing")
    with partial.open("ab") as file:
        while block:
            file.write(block)
            done += len(block)
            if done > MOST:
                raise OSError("it does not end")
            progress(done, total)
            block = response.read(_BLOCK)
    if done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


def _start(response: Any, have: int) -> int:
    """The offset of what the server sends: the end of what is here, or the beginning."""
    sent = response.headers.get("Content-Range") or ""
    return have if response.status == 206 and sent.startswith(f"bytes {have}-") else 0


def _version(partial: Path) -> Path:
    return partial.with_suffix(".version")


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(error).__name__
