"""The totals of a stage."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.stage.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class StageSummary:
    """Totals of a finished stage. ``seconds`` counts every session's own work, up to its last committed part;
    ``work_seconds`` the same without the time until the first worker was ready (engine start). ``cpu_seconds`` and ``gpu_seconds`` are
    what the stage's workers and services held, whether they computed or not; ``failures`` counts tries of rows that failed and were made
    again, by reason. ``rows_repeated`` rows were in flight
    when a worker or the driver died and were repeated, ``tokens_repeated`` tokens of theirs at most twice (estimated from the mean of
    all rows where a driver died)."""

    stage: str
    rows_in: int
    rows_out: int
    rejects: dict[str, int]
    tokens: int
    seconds: float
    work_seconds: float
    cpu_seconds: float
    gpu_seconds: float
    failures: dict[str, int]
    rows_repeated: int
    tokens_repeated: int

    @classmethod
    def of(cls, stage: str, ledger: Ledger) -> StageSummary:
        spans = ledger.spans.values()
        return cls(
            stage=stage,
            rows_in=ledger.rows_in,
            rows_out=ledger.rows_out,
            rejects=dict(ledger.rejects),
            tokens=ledger.tokens,
            seconds=sum(committed - began for began, _, committed in spans),
            work_seconds=sum(committed - ready for _, ready, committed in spans),
            cpu_seconds=ledger.usage.cpu_s,
            gpu_seconds=ledger.usage.gpu_s,
            failures=dict(ledger.failures),
            rows_repeated=ledger.lost.rows,
            tokens_repeated=ledger.lost.tokens,
        )

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.work_seconds if self.work_seconds else 0.0
