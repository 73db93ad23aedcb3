"""What a stage does, as Ray metrics: Ray's metrics endpoint of the driver's node has them under ``ray_genprm_...``.

All are written by the driver, so that each has one series a stage, whatever workers come and go. Labels: ``run`` (the run directory's
last name), ``stage``. Code executors write their own (`actors.remote`), vLLM its own (``engines.<role>.log_stats``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ray.util.metrics import Counter, Gauge

from workflows.stage.ledger import Commit, Usage

LABELS = ("run", "stage")


@cache
def _counter(name: str, description: str, *labels: str) -> Counter:
    return Counter(f"genprm_{name}", description, tag_keys=(*LABELS, *labels))


@cache
def _gauge(name: str, description: str) -> Gauge:
    return Gauge(f"genprm_{name}", description, tag_keys=LABELS)


class StageMetrics:
    """The metrics of one stage of one run."""

    def __init__(self, run: str, stage: str) -> None:
        self._labels = {"run": run.rstrip("/").rpartition("/")[2], "stage": stage}

    def commit(self, commit: Commit) -> None:
        """``rows_in`` by outcome, ``rows_out``, ``tokens``."""
        rows_in = _counter("rows_in", "Input rows that are finished", "outcome")
        rejected = len(commit.rejected)
        for outcome, number in (("done", commit.rows_in - rejected), ("rejected", rejected)):
            if number:
                rows_in.inc(number, {**self._labels, "outcome": outcome})
        if commit.rows_out:
            _counter("rows_out", "Output rows").inc(commit.rows_out, self._labels)
        self.spend_tokens(commit.tokens)

    def spend_tokens(self, number: int) -> None:
        if number:
            _counter("tokens", "Tokens generated, or trained on").inc(number, self._labels)

    def fail(self, reason: str) -> None:
        """``failed_tries``: of rows, which are tried again."""
        _counter("failed_tries", "Tries of rows that failed and are made again", "reason").inc(1, {**self._labels, "reason": reason})

    def use(self, usage: Usage) -> None:
        """``gpu_seconds`` and ``cpu_seconds`` held by workers and services."""
        for name, seconds in (("gpu_seconds", usage.gpu_s), ("cpu_seconds", usage.cpu_s)):
            if seconds > 0:
                _counter(name, "Held by the stage's workers and services").inc(seconds, self._labels)

    def show(self, values: Mapping[str, float]) -> None:
        """Gauges: ``workers``, ``rows_in_flight``, ``rows_left``, ``train_loss``, ..."""
        for name, value in values.items():
            _gauge(name, "At present").set(value, self._labels)
