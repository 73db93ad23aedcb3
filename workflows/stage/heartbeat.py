"""What a job does at present, written into the run directory every so often, for those who have access to nothing else.

``status/<job>.json`` names the job's stages and how far the running ones are. A job whose heartbeat has stopped without an outcome was
killed, or its node is gone. The rows that are done stand in the ledgers, not here.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from actors.storage import Folder
from workflows.stage.progress import StageProgress
from workflows.stage.terminal import Terminal

STATUS = "status"
BEAT_S, REMOTE_BEAT_S = 5.0, 30.0
"""On a file system, in an object store."""
Outcome = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """What a heartbeat says; times are seconds since the epoch, ``every_s`` is between two beats."""

    job: str
    holder: str
    began: float
    updated: float
    every_s: float
    stages: list[str]
    running: list[dict[str, Any]]
    outcome: Outcome | None = None
    error: str = ""

    @property
    def is_alive(self) -> bool:
        return self.outcome is None and time.time() - self.updated < 4 * self.every_s


class Heartbeat:
    """Beats as long as it is entered."""

    def __init__(self, run: Folder, job: str, stages: Sequence[str], terminal: Terminal) -> None:
        self._folder = run / STATUS
        self._job = job
        self._stages = list(stages)
        self._terminal = terminal
        self._began = time.time()
        self._every_s = BEAT_S if run.is_local else REMOTE_BEAT_S
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_over, name="heartbeat", daemon=True)
        self._has_warned = False

    def __enter__(self) -> Self:
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._over.set()
        self._thread.join()
        if error is None:
            self._beat("finished")
        elif isinstance(error, KeyboardInterrupt):
            self._beat("interrupted")
        else:
            self._beat("failed", str(error))

    def _beat_until_over(self) -> None:
        while not self._over.wait(self._every_s):
            self._beat()

    def _beat(self, outcome: Outcome | None = None, error: str = "") -> None:
        status = {
            "job": self._job,
            "holder": f"process {os.getpid()} on {socket.gethostname()}",
            "began": self._began,
            "updated": time.time(),
            "every_s": self._every_s,
            "stages": self._stages,
            "running": [_live(progress) for progress in list(self._terminal.running)],
            "outcome": outcome,
            "error": error[:2000],
        }
        try:
            self._folder.write_json(f"{self._job}.json", status)
        except OSError as problem:  # what matters is written elsewhere, and fails there
            if not self._has_warned:
                self._has_warned = True
                self._terminal.warn(f"warning: the status of this job can't be written: {problem}")


def _live(progress: StageProgress) -> dict[str, Any]:
    return {
        "stage": progress.name,
        "done": progress.done,
        "total": progress.total,
        "rows_per_s": progress.rows_per_s,
        "eta_s": progress.eta_s,
        "tokens_per_s": progress.tokens_per_s if progress.tokens else None,
        "num_workers": progress.num_workers,
        "detail": progress.detail,
    }


def read_jobs(run: Folder) -> list[JobStatus]:
    """The last job of each name that worked in a run directory, by their beginning."""
    found = [JobStatus(**(run / STATUS).read_json(name)) for name in (run / STATUS).names(suffix=".json")]
    return sorted(found, key=lambda status: status.began)
