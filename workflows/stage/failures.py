"""Three kinds of failure of a row, and when there are too many of them.

- *Data*: the row can never be processed. It is committed as a reject, with its reason.
- *Transient*: something around the row failed (a connection, an actor, a disk). Nothing is committed; the row is tried again, elsewhere.
- *Unknown*: an exception that nobody foresaw. Tried again as well; a row that raises it every time is rejected with its traceback, but
  only a few rows in a stage may be.
"""

from __future__ import annotations

import enum
import time
import traceback
from collections import deque
from dataclasses import dataclass

from ray.exceptions import RayError, RayTaskError

from actors.code_executor import CodeRefused
from actors.engine.base import ContextOverflow, EngineError, RequestRefused
from actors.remote import ActorLost
from workflows.stage.errors import Reject, StageFailed
from workflows.stage.limits import FailureLimits

DETAIL_CHARACTERS = 2000
REFUSED = "engine refused"
KILLED = "killed its worker"
UNKNOWN = "error: "
"""How the reason of a row begins that was rejected for an exception nobody foresaw."""
HOPELESS_ROWS = 32
"""A stage stops where so many rows were tried and not one could be processed."""


class Kind(enum.StrEnum):
    DATA = "data"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a row was not processed; ``detail`` is for people, ``reason`` is counted."""

    kind: Kind
    reason: str
    detail: str


def failure_of(error: Exception) -> Failure:
    """What an exception from a row's processing says about the row."""
    if isinstance(error, Reject):
        return Failure(kind=Kind.DATA, reason=error.reason, detail=error.detail)
    cause = error.cause if isinstance(error, RayTaskError) else None
    if isinstance(cause, Exception) and not isinstance(cause, RayError):  # raised in an engine or executor that is another actor
        return failure_of(cause)
    text = str(error)[:DETAIL_CHARACTERS]
    if isinstance(error, ContextOverflow):
        return Failure(kind=Kind.DATA, reason="context overflow", detail=text)
    if isinstance(error, RequestRefused):
        return Failure(kind=Kind.DATA, reason=REFUSED, detail=text)
    if isinstance(error, EngineError | ActorLost | CodeRefused | RayError | OSError | TimeoutError):
        return Failure(kind=Kind.TRANSIENT, reason=type(error).__name__, detail=text)
    detail = "".join(traceback.format_exception(error))[-DETAIL_CHARACTERS:]
    return Failure(kind=Kind.UNKNOWN, reason=f"{UNKNOWN}{type(error).__name__}", detail=detail)


class Window:
    """Tries of rows in the last ``patience_s``; says when too many failed."""

    def __init__(self, limits: FailureLimits) -> None:
        self._limits = limits
        self._tries: deque[tuple[float, int, int]] = deque()
        self._began: float | None = None
        self._succeeded_at: float | None = None
        self.num_succeeded = self.num_failed = self.num_unknown = 0
        self.last: Failure | None = None

    def succeed(self, rows: int) -> None:
        self.num_succeeded += rows
        self._succeeded_at = time.monotonic()
        self._add(rows, 0)

    def fail(self, failure: Failure) -> None:
        self.num_failed += 1
        self.num_unknown += failure.kind is Kind.UNKNOWN
        self.last = failure
        self._add(0, 1)

    def _add(self, succeeded: int, failed: int) -> None:
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        if self._tries and now - self._tries[-1][0] < self._limits.patience_s / 100:
            when, before_succeeded, before_failed = self._tries.pop()
            self._tries.append((when, succeeded + before_succeeded, failed + before_failed))
        else:
            self._tries.append((now, succeeded, failed))

    def check(self, stage: str, *, stuck: bool, num_left: int) -> None:
        """StageFailed if too many rows failed for too long; ``stuck`` if every worker fails at present."""
        if self.last is None or self._began is None:
            return
        now = time.monotonic()
        while self._tries and self._tries[0][0] < now - self._limits.patience_s:
            self._tries.popleft()
        failed = sum(tries[2] for tries in self._tries)
        succeeded = sum(tries[1] for tries in self._tries)
        remedy = f"last with {self.last.reason}: {self.last.detail.strip()}\nFix that and run the same command again: it resumes."
        if self.last.kind is Kind.UNKNOWN and not self.num_succeeded and self.num_unknown >= HOPELESS_ROWS:
            raise StageFailed(f"stage {stage} stopped: the first {self.num_failed} tries of rows failed, {remedy}")
        if now - self._began < self._limits.patience_s or not failed:
            return
        if stuck and not succeeded:
            raise StageFailed(
                f"stage {stage} stopped: none of the {num_left:,} rows that are left could be processed for {self._limits.patience_s:g} s, "
                f"{remedy}"
            )
        share = failed / (failed + succeeded)
        if failed >= HOPELESS_ROWS and share > self._limits.max_share:
            raise StageFailed(
                f"stage {stage} stopped: {share:.0%} of {failed + succeeded} tries of rows in {self._limits.patience_s:g} s failed "
                f"(failures.max_share = {self._limits.max_share:g}), {remedy}"
            )
