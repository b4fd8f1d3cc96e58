"""Locks: one process at a time writes a file.

The lock is the operating system's, which releases it when its process ends in any way. Some file
systems have none (Lustre mounted without `-o flock`, some NFS): there `flock` fails, and a marker beside
the lock file, `NAME.owner`, names the process that holds it. A marker whose process ran on this host and
has died is taken over. Whether a process of another host still runs cannot be known here, so a message
names its marker, and a person decides.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, MarkerSoftFileLock, Timeout, lock_descriptor

from features.errors import InputError

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""The error numbers of a file system that has no locks."""

_POLL = 0.2  # seconds between two attempts
_SETTLE = 3.0  # seconds; a marker that its writer did not finish is taken over after two


def lock_of(path: Path) -> Path:
    """The lock file for writing `path`."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def locked(path: Path, name: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` for the block; it is released when the process ends.

    Args:
        path: The lock file, created if need be; a symbolic link is never followed.
        name: What the lock protects, as messages call it.
        wait: Seconds to wait for another process to release it.

    Raises:
        InputError: Another process holds it, or it is a symbolic link.
    """
    refusal = f"{name}: another process is writing it; wait until it has finished."
    lock = FileLock(path, timeout=wait, poll_interval=_POLL, fallback_to_soft=False)
    try:
        acquired = lock.acquire()
    except Timeout as error:
        raise InputError(refusal) from error
    except OSError as error:
        if path.is_symlink():
            raise InputError(f"{path}: a symbolic link, not a lock file; delete it.") from error
        if error.errno not in NO_LOCKS:
            raise
        with _marked(path, name, refusal, wait):
            yield
        return
    with acquired:
        yield


@contextmanager
def locked_open(handle: int, path: Path, refusal: str) -> Iterator[None]:
    """Hold the lock of the file or folder `path`, which is open as `handle`, for the block.

    HDF5 uses the same lock, so that its readers cannot open the file either.

    Raises:
        InputError: Another process holds it; `refusal` is the message.
    """
    try:
        free = lock_descriptor(handle, blocking=False)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        with _marked(lock_of(path), str(path), refusal, 0):
            yield
        return
    if not free:
        raise InputError(refusal)
    yield


@contextmanager
def _marked(path: Path, name: str, refusal: str, wait: float) -> Iterator[None]:
    """Hold a marker beside the lock file `path`, where the file system has no locks."""
    marker = path.with_name(f"{path.name}.owner")
    lock = MarkerSoftFileLock(marker, timeout=max(wait, _SETTLE), poll_interval=_POLL)
    try:
        acquired = lock.acquire()
    except Timeout as error:
        owner = lock.owner
        if owner is not None and owner.hostname == socket.gethostname():
            raise InputError(refusal) from error
        who = f"process {owner.pid} of the host {owner.hostname}" if owner else "another process"
        raise InputError(
            f"{name}: {who} is writing it; wait until it has finished, or delete {marker} if that "
            "process no longer runs."
        ) from error
    with acquired:
        yield
