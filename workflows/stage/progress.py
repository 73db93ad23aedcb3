"""How far a stage is: rows done of all, rejects, tokens, rate, time left."""

from __future__ import annotations

import time
from collections import Counter


class StageProgress:
    """``done`` of ``total`` rows (or steps) when this job began; tokens, rate and failed tries of rows are those of this job."""

    def __init__(self, name: str, *, done: int, total: int) -> None:
        self.name, self.done, self.total = name, done, total
        self.rejects = self.tokens = 0
        self.num_workers = 0
        self.failures: Counter[str] = Counter()
        self.detail = ""
        self._done_before = done
        self._began = time.monotonic()

    @property
    def num_left(self) -> int:
        return self.total - self.done

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / max(1e-9, time.monotonic() - self._began)

    @property
    def rows_per_s(self) -> float | None:
        """At the rate of this job; None before there is one."""
        finished = self.done - self._done_before
        return finished / max(1e-9, time.monotonic() - self._began) if finished else None

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at that rate."""
        rate = self.rows_per_s
        return None if rate is None else self.num_left / rate

    def add(self, *, rows: int, rejects: int, tokens: int) -> None:
        """Count committed rows."""
        self.done += rows
        self.rejects += rejects
        self.tokens += tokens

    def advance(self, *, tokens: int = 0, detail: str = "") -> None:
        """Count one more step; ``detail`` is shown beside it (the loss of a training step)."""
        self.done += 1
        self.tokens += tokens
        self.detail = detail

    def line(self) -> str:
        """``estimates/paper: 96/236, 0 rejected, 8,080 tokens/s, 40 s left``"""
        pieces = [f"{self.name}: {self.done:,}/{self.total:,}", f"{self.rejects} rejected"]
        if self.failures:
            pieces.append(f"{sum(self.failures.values()):,} tries failed")
        if self.tokens:
            pieces.append(f"{self.tokens_per_s:,.0f} tokens/s")
        if self.detail:
            pieces.append(self.detail)
        pieces.append(self.time_left())
        return ", ".join(pieces)

    def time_left(self) -> str:
        return "starting" if self.eta_s is None else f"{duration(self.eta_s)} left"


def duration(seconds: float) -> str:
    """``40 s``, ``3:05``, ``2:03:05``"""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
