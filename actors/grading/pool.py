"""Comparison in worker processes with a hard wall clock: a hung comparison is killed and costs its own limit, once.

``GradingPool`` talks to ``python -m actors.grading.process`` over pipes, one JSON line a question and one an answer. The
processes are plain children without the caller's memory, so the pool works from threads of a Ray actor that holds an
engine, where signals and fork do not.
"""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

from genprm.records import Outcome

START_LIMIT_S = 60.0
_ROOT = Path(__file__).resolve().parent.parent.parent


class _Worker:
    """One child process; ``ask`` is called by one thread at a time."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def ask(self, answer: str, reference: str, timeout_s: float) -> Outcome:
        """The outcome; TIMED_OUT kills the child, and a child that dies while it compares counts as one, too."""
        question = json.dumps([answer, reference]).encode() + b"\n"
        child = self._ready_child()
        assert child.stdin is not None
        try:
            child.stdin.write(question)
            child.stdin.flush()
            line = self._read_line(time.monotonic() + timeout_s)
        except OSError:
            line = None
        if line is None:
            self.close()
            return Outcome.TIMED_OUT
        return Outcome(json.loads(line))

    def _ready_child(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = subprocess.Popen(
                [sys.executable, "-m", "actors.grading.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=_ROOT,
                env={"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
            self._buffer = b""
            if self._read_line(time.monotonic() + START_LIMIT_S) is None:
                self.close()
                raise RuntimeError("the grading process did not start: does `python -m actors.grading.process` run?")
        return self._child

    def _read_line(self, deadline: float) -> bytes | None:
        assert self._child is not None
        assert self._child.stdout is not None
        descriptor = self._child.stdout.fileno()
        while b"\n" not in self._buffer:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([descriptor], [], [], remaining)[0]:
                return None
            chunk = os.read(descriptor, 65536)
            if not chunk:
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    pipe.close()
            self._child = None


class GradingPool:
    """``num_processes`` comparison processes, started when first needed; repeated pairs are answered from memory."""

    def __init__(self, num_processes: int = 1, remembered: int = 100_000) -> None:
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._workers = [_Worker() for _ in range(num_processes)]
        for worker in self._workers:
            self._idle.put(worker)
        self._known: dict[tuple[str, str], Outcome] = {}
        self._remembered = remembered
        self._lock = threading.Lock()

    def compare(self, answer: str, reference: str, *, timeout_s: float = 5.0) -> Outcome:
        """``genprm.grading.compare`` with a wall clock of ``timeout_s`` seconds; thread-safe; blocks."""
        key = (answer, reference)
        with self._lock:
            if key in self._known:
                return self._known[key]
        worker = self._idle.get()
        try:
            outcome = worker.ask(answer, reference, timeout_s)
        finally:
            self._idle.put(worker)
        with self._lock:
            if len(self._known) >= self._remembered:
                self._known.clear()
            self._known[key] = outcome
        return outcome

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
