"""What a run holds of the cluster: counted by stage in its ledger, and held against the run's budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from pydantic import Field

from cluster.plan import Demand
from genprm.section import Placement, Section
from workflows.stage.ledger import Ledger, Usage


class BudgetConfig(Section):
    """``gpu_hours`` that a run may spend in all its stages and jobs; None: no limit.

    When they are spent, rows that are being processed are finished and the job stops. Training is not begun any more; one that runs goes
    on to its end.
    """

    gpu_hours: Placement[float | None] = Field(default=None, gt=0)


class Budget:
    """What a run has spent, in GPU seconds, and what it may."""

    def __init__(self, config: BudgetConfig, *, spent_gpu_s: float = 0.0) -> None:
        self._limit_s = None if config.gpu_hours is None else 3600 * config.gpu_hours
        self._spent_s = spent_gpu_s
        self._lock = threading.Lock()

    def spend(self, gpu_s: float) -> None:
        with self._lock:
            self._spent_s += gpu_s

    @property
    def is_spent(self) -> bool:
        return self._limit_s is not None and self._spent_s >= self._limit_s

    def __str__(self) -> str:
        limit = 0.0 if self._limit_s is None else self._limit_s / 3600
        return (
            f"budget.gpu_hours = {limit:g} are spent ({self._spent_s / 3600:.3g} in this run so far); raise it and run the same command "
            "again: it resumes"
        )


class Meter:
    """Counts what the actors of a stage hold. ``worker`` is what each worker reserves, ``services`` what the others do, all together."""

    def __init__(self, *, ledger: Ledger, budget: Budget, worker: Sequence[Demand], services: Sequence[Demand]) -> None:
        self._ledger = ledger
        self.budget = budget
        self._worker = worker
        self._services = services
        self._read_at = time.monotonic()

    def count(self, worker_s: float) -> Usage:
        """Add what was held since the last call, and give it; workers lived ``worker_s`` meanwhile, all together."""
        now = time.monotonic()
        usage = held(self._worker, worker_s) + held(self._services, now - self._read_at)
        self._read_at = now
        self._ledger.use(usage)
        self.budget.spend(usage.gpu_s)
        return usage


def held(demands: Sequence[Demand], seconds: float) -> Usage:
    """Usage of all demands at the same time, for so long."""
    return Usage(cpu_s=seconds * sum(demand.cpus for demand in demands), gpu_s=seconds * sum(demand.gpus for demand in demands))
