"""One job at a time in a run directory: two would make the same rows twice."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from workflows.stage.folder import Folder


@contextlib.contextmanager
def locked(run: Folder) -> Iterator[None]:
    """Hold the run directory; ValueError if another process does. The lock ends with its process, however that ends, and leaves no
    file behind.

    Directories in object stores can't be locked; nothing is checked there.
    """
    if not run.is_local:
        yield
        return
    descriptor = os.open(run.uri, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(descriptor)
            raise ValueError(
                f"--run-dir = {run.uri!r}: another job (process {holder or 'unknown'}) is running there; wait for it, or take another "
                "directory"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str | None:
    """The process that holds the lock, where the kernel lists it."""
    inode = os.fstat(descriptor).st_ino
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            if found := re.search(rf"FLOCK\s+\S+\s+\S+\s+(\d+)\s+\S+:{inode}\b", line):
                return found[1]
    return None
