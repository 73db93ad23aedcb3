"""A job's log file: whatever libraries print, from this process and from Ray's workers, goes there and not to the terminal.

Ray prints its workers' lines in the driver, so the driver's descriptors 1 and 2 are enough. The log of a run in an object store is
written to a local file first, and copied when the job ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from actors.storage import Folder

LOGS = "logs"


@contextlib.contextmanager
def captured(run: Folder, job: str) -> Iterator[tuple[IO[str], IO[str], str]]:
    """Send standard output and error to ``<run>/logs/<job>-<time>.log``; gives streams to where they went before, and the log's name."""
    name = f"{job}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    folder = Path(run.uri) / LOGS if run.is_local else Path(tempfile.mkdtemp(prefix="genprm-log-"))
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    with (folder / name).open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    output, errors = (os.fdopen(os.dup(number), "w", buffering=1, encoding="utf-8", errors="replace") for number in before)
    try:
        yield output, errors, f"{run.uri}/{LOGS}/{name}"
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
            os.close(old)
        output.close()
        errors.close()
        if not run.is_local:
            (run / LOGS).write_bytes(name, (folder / name).read_bytes())
