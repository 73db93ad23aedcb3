"""What a stage says of itself in the terminal while it runs."""

from __future__ import annotations

import threading
import time

import pyarrow as pa
import pyarrow.compute as pc


class StageProgress:
    """A line now and then: rows done of all, rejects, tokens a second since the stage began; a sign of life while rows take long."""

    def __init__(self, name: str, done: int, total: int, *, every_s: float = 5.0, silent_s: float = 60.0) -> None:
        self._name, self._done, self._total = name, done, total
        self._every_s, self._silent_s = every_s, silent_s
        self._rejects = self._tokens = 0
        self._began = self._said = time.monotonic()
        self._over = threading.Event()
        self._silence = threading.Thread(target=self._break_silence, name="progress", daemon=True)

    def __enter__(self) -> StageProgress:
        self._silence.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._silence.join()

    @property
    def num_rejected_only(self) -> int:
        """How many rows were tried if all of them were rejected, else 0."""
        return self._done if self._rejects == self._done else 0

    def add(self, commit: pa.Table) -> None:
        self._done += pc.sum(commit["rows_in"]).as_py()
        self._rejects += pc.sum(commit["rejects"]).as_py()
        self._tokens += pc.sum(commit["tokens"]).as_py()
        now = time.monotonic()
        if now - self._said >= self._every_s:
            self._said = now
            rate = self._tokens / (now - self._began)
            print(f"{self._name}: {self._done}/{self._total} rows, {self._rejects} rejected, {rate:,.0f} tokens/s", flush=True)

    def _break_silence(self) -> None:
        while not self._over.wait(min(1.0, self._silent_s)):
            now = time.monotonic()
            if now - self._said >= self._silent_s:
                self._said = now
                minutes = (now - self._began) / 60
                print(f"{self._name}: {self._done}/{self._total} rows after {minutes:.0f} min, others in the making", flush=True)
