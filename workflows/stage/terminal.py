"""What a person sees of a job while it runs; progress is shown nowhere else.

- ``live``: bars that are redrawn in place, for a person at a terminal
- ``lines``: a line a stage every 30 s at most, for files and ``ray job submit``
- ``json``: one JSON object a line, for programs
- ``quiet``: nothing but results and warnings
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any, Literal

from workflows.stage.progress import StageProgress

Mode = Literal["live", "lines", "json", "quiet"]
LINE_EVERY_S = 30.0


class Terminal:
    """``output`` takes progress and results, ``errors`` warnings; both default to the standard streams as they are now."""

    def __init__(
        self, mode: Mode = "lines", *, output: IO[str] | None = None, errors: IO[str] | None = None, every_s: float = LINE_EVERY_S
    ) -> None:
        self.mode = mode
        self._output = output or sys.stdout
        self._errors = errors or sys.stderr
        self._every_s = every_s
        self._lock = threading.Lock()
        self._bars: Any = None
        self.running: list[StageProgress] = []
        """Of the stages that run."""

    def say(self, text: str, **facts: Any) -> None:
        """A line about the job; ``facts`` are what it says as values."""
        if self.mode == "json":
            self._event("message", {"text": text, **facts})
        elif self.mode != "quiet":
            self._print(text)

    def result(self, text: str, **facts: Any) -> None:
        """A result: shown in every mode; ``json`` gets ``facts`` in its place."""
        if self.mode == "json":
            self._event("result", facts or {"text": text})
        else:
            self._print(text)

    def warn(self, text: str) -> None:
        if self._bars is not None:
            self._bars.print(text)
        else:
            print(text, file=self._errors, flush=True)

    @contextlib.contextmanager
    def stage(self, name: str, *, done: int, total: int) -> Iterator[StageProgress]:
        """Show a stage as long as it runs, by what is counted in the progress that this gives."""
        progress = StageProgress(name, done=done, total=total)
        self.running.append(progress)
        try:
            with self._shown(progress):
                yield progress
        finally:
            self.running.remove(progress)

    @contextlib.contextmanager
    def _shown(self, progress: StageProgress) -> Iterator[None]:
        if self.mode == "live":
            with self._drawing() as bars, bars.showing(progress):
                yield
        elif self.mode == "quiet":
            yield
        else:
            over = threading.Event()
            thread = threading.Thread(target=self._report, args=(progress, over), name="progress", daemon=True)
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join()

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[Any]:
        """The bars, which are there as long as a stage runs."""
        from workflows.stage.bars import Bars

        with self._lock:
            if self._bars is None:
                self._bars = Bars(self._output)
            bars = self._bars
        try:
            yield bars
        finally:
            with self._lock:
                if bars.is_empty and self._bars is bars:
                    bars.close()
                    self._bars = None

    def _report(self, progress: StageProgress, over: threading.Event) -> None:
        while not over.wait(self._every_s):
            if self.mode == "json":
                facts = {"rows": progress.done, "total": progress.total, "rejects": progress.rejects, "tokens": progress.tokens}
                eta_s = progress.eta_s and round(progress.eta_s)
                self._event("progress", {"stage": progress.name, **facts, "tokens_per_s": round(progress.tokens_per_s), "eta_s": eta_s})
            else:
                self._print(progress.line())

    def _print(self, text: str) -> None:
        bars = self._bars
        if bars is not None:
            bars.print(text)
        else:
            with self._lock:
                print(text, file=self._output, flush=True)

    def _event(self, event: str, facts: dict[str, Any]) -> None:
        with self._lock:
            print(json.dumps({"event": event, "time": round(time.time(), 3), **facts}), file=self._output, flush=True)
