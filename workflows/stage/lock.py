"""One job at a time in a run directory: two would make the same rows twice."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from workflows.stage.folder import Folder

FILE = "_lock"


@contextlib.contextmanager
def locked(run: Folder) -> Iterator[None]:
    """Hold the run directory; ValueError if another process does. The lock ends with its process, however that ends.

    Directories in object stores can't be locked; nothing is checked there.
    """
    if not run.is_local:
        yield
        return
    with (Path(run.uri) / FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ValueError(
                f"--run-dir = {run.uri!r}: another job (process {file.read().strip() or 'unknown'}) is at work there; wait for it, or take "
                "another directory"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
