"""Which row goes to which worker, and what becomes of rows whose try failed or whose worker died.

Flow: rows come from Ray Data, a few at a time. Each worker has one call in flight (`StageWorker.exchange`), which brings it rows and
brings back what happened; commits go into the ledger. Rows are known by tickets until they are committed.

Invariants: a row is in one worker at a time; a row is counted once, when the ledger has its commit; what a worker had and did not
report as committed is given to another when it dies.

A worker that dies may have died of a row. The rows that it had begun are then tried in groups, alone in a worker, halved each time one
dies; a row on which two workers died alone is rejected. A worker that went with its node is no row's fault.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import RayError

from cluster import interrupts
from workflows.stage.errors import StageFailed
from workflows.stage.failures import DETAIL_CHARACTERS, HOPELESS_ROWS, KILLED, REFUSED, UNKNOWN, Failure, Kind, Window
from workflows.stage.ledger import Commit, Ledger, Loss
from workflows.stage.limits import FailureLimits
from workflows.stage.metrics import StageMetrics
from workflows.stage.parts import RejectedRow
from workflows.stage.progress import StageProgress
from workflows.stage.rows import Rows
from workflows.stage.usage import Meter
from workflows.stage.worker import Done, Report, Work
from workflows.stage.workers import Slot, Workers

EXCHANGE_S = 1.0
"""A worker reports after so long, even if nothing happened."""
TICK_S = 0.2
COMMIT_FINISHED_S = 2.0
"""A stage that ends early waits so long for what its workers have done."""
DEATHS_ALONE = 2
"""So many workers may die on a row alone."""


@dataclass(kw_only=True)
class Ticket:
    """A row that is not committed yet, and what happened to it so far: ``attempts`` that failed, ``unknown`` ones among them with an
    exception that nobody foresaw; ``deaths`` of workers that had no other row; ``losses`` with workers that died."""

    number: int
    key: str
    row: dict[str, Any]
    attempts: int = 0
    unknown: int = 0
    deaths: int = 0
    losses: int = 0
    avoids: int | None = None


@dataclass(kw_only=True)
class _Late:
    """Rows that wait for their next try."""

    heap: list[tuple[float, int, Ticket]] = field(default_factory=list)

    def add(self, ticket: Ticket, after_s: float) -> None:
        heapq.heappush(self.heap, (time.monotonic() + after_s, ticket.number, ticket))

    def due(self) -> Iterator[Ticket]:
        while self.heap and self.heap[0][0] <= time.monotonic():
            yield heapq.heappop(self.heap)[2]


class Dispatcher:
    """Brings all rows of a stage through its workers."""

    def __init__(
        self,
        *,
        work: Work,
        rows: Rows,
        num_rows: int,
        workers: Workers,
        limits: FailureLimits,
        ledger: Ledger,
        progress: StageProgress,
        meter: Meter,
        metrics: StageMetrics,
    ) -> None:
        self._work = work
        self._rows = rows
        self._num_unread = num_rows
        self._workers = workers
        self._limits = limits
        self._ledger = ledger
        self._progress = progress
        self._meter = meter
        self._metrics = metrics
        self._is_draining = False
        self._window = Window(limits)
        self._numbers = itertools.count()
        self._ready: deque[Ticket] = deque()
        self._late = _Late()
        self._probes: deque[list[Ticket]] = deque()
        """Groups of rows of which one may kill workers: each is tried by itself in one worker."""
        self._num_unknown_rejects = ledger.num_rejects(UNKNOWN)
        self._num_killed = ledger.num_rejects(KILLED)
        self._num_refused = self._num_good = 0

    def run(self) -> None:
        """Until every row is committed; StageFailed where that can't be. Whatever ends it, what is done is recorded."""
        try:
            self._run()
            self._count()
            self._ledger.close()
        except BaseException as error:
            with contextlib.suppress(OSError, StageFailed, RayError):
                self._count()
                self._commit_finished()
            if isinstance(error, OSError):
                raise StageFailed(
                    f"stage {self._work.stage} stopped: what it did can't be written down: {error}\nFix that and run the same command "
                    "again: it resumes."
                ) from error
            raise
        finally:
            self._rows.close()

    def _run(self) -> None:
        while not self._is_over():
            interrupts.check()
            self._ready.extend(self._late.due())
            self._workers.scale(0 if self._is_draining else self._num_waiting())
            self._feed()
            for slot, result in self._workers.results(TICK_S):
                if isinstance(result, Report):
                    self._take(slot, result)
                else:
                    self._worker_died(slot, result)
            self._count()
            self._ledger.flush(if_due=True)
            slots = self._workers.ready
            stuck = bool(slots) and all(slot.is_failing for slot in slots)
            self._window.check(self._work.stage, stuck=stuck, num_left=self._num_waiting() + sum(len(slot.tickets) for slot in slots))
        if self._num_waiting():
            raise StageFailed(f"stage {self._work.stage} stopped with {self._num_waiting():,} rows left: {self._meter.budget}")

    def _count(self) -> None:
        self._metrics.use(self._meter.count(self._workers.lived_s()))
        self._is_draining = self._meter.budget.is_spent
        workers = self._workers.ready
        self._progress.num_workers = len(workers)
        in_flight = sum(map(self._num_begun, workers))
        self._metrics.show({"workers": len(workers), "rows_in_flight": in_flight, "rows_left": self._progress.num_left})

    def _commit_finished(self) -> None:
        """Have workers commit the rows that are done, if they can at once."""
        self._ledger.flush()
        until = time.monotonic() + COMMIT_FINISHED_S
        wanted = [slot for slot in self._workers.ready if slot.finished]
        while wanted and time.monotonic() < until:
            for slot in wanted:
                if not slot.is_busy:
                    slot.ask([], wait_s=TICK_S, more=False, give_back=True, at_once=True)
            for slot, result in self._workers.results(TICK_S):
                if isinstance(result, Report):
                    slot.finished.update(result.finished)
                    for commit, tokens in result.commits:
                        self._commit(slot, commit, tokens)
            wanted = [slot for slot in wanted if slot.finished]
        self._ledger.flush()

    def _num_waiting(self) -> int:
        """Rows that no worker has."""
        return self._num_unread + len(self._ready) + len(self._late.heap) + sum(map(len, self._probes))

    def _is_over(self) -> bool:
        if self._rows.is_empty:
            self._num_unread = 0
        return (self._is_draining or not self._num_waiting()) and not any(slot.tickets for slot in self._workers.ready)

    # --- giving rows ---

    def _feed(self) -> None:
        for slot in self._workers.ready:
            if slot.is_busy:
                continue
            if self._is_draining:
                if slot.tickets:
                    slot.ask([], wait_s=EXCHANGE_S, more=False, give_back=True)
                continue
            tickets = self._for_slot(slot)
            wants_back = not tickets and not slot.probe and self._others_idle(slot) and slot.num_queued > 0
            if not tickets and not slot.tickets:
                continue
            slot.tickets.update((ticket.number, ticket) for ticket in tickets)
            slot.ask(
                [(ticket.number, ticket.row) for ticket in tickets],
                wait_s=EXCHANGE_S,
                more=self._num_waiting() > 0,
                give_back=wants_back,
                at_once=slot.probe,
            )

    def _others_idle(self, slot: Slot) -> bool:
        return any(other is not slot and not other.tickets and not other.is_failing for other in self._workers.ready)

    def _for_slot(self, slot: Slot) -> list[Ticket]:
        """The rows that a worker is to get now."""
        if slot.probe and slot.tickets:
            return []
        slot.probe = False
        if slot.is_failing:
            if slot.tickets or not slot.may_retry:
                return []
            tickets = self._next(slot, 1)
            if not tickets and self._probes:  # nothing else is left
                slot.probe = True
                tickets = self._probes.popleft()
            return tickets
        if self._probes:
            if slot.tickets:  # one worker runs empty for it: a group is tried by itself
                first = next(other for other in self._workers.ready if not other.is_failing)
                return [] if slot is first else self._next(slot, self._room(slot))
            slot.probe = True
            return self._probes.popleft()
        return self._next(slot, self._room(slot))

    def _room(self, slot: Slot) -> int:
        """How many rows a worker can take: no more than its share of those left, so that the first to be ready does not take all."""
        room = self._workers.pool.rows_in_flight + self._workers.pool.spare_rows - (len(slot.tickets) - len(slot.finished))
        share = -(-(self._num_unread + len(self._ready)) // max(1, self._workers.num_expected))
        return max(0, min(room, share))

    def _next(self, slot: Slot, number: int) -> list[Ticket]:
        found: list[Ticket] = []
        elsewhere = any(not other.is_failing for other in self._workers.ready if other is not slot)
        skipped: list[Ticket] = []
        while self._ready and len(found) < number:
            ticket = self._ready.popleft()
            if elsewhere and ticket.avoids == slot.number:
                skipped.append(ticket)
            else:
                found.append(ticket)
        self._ready.extendleft(reversed(skipped))
        if number > len(found):
            for row in self._rows.take(number - len(found)):
                self._num_unread -= 1
                found.append(Ticket(number=next(self._numbers), key=str(row[self._work.key]), row=row))
        return found

    def _num_begun(self, slot: Slot) -> int:
        """How many rows a death would lose."""
        return len(slot.finished) + min(len(slot.tickets) - len(slot.finished), self._workers.pool.rows_in_flight)

    # --- taking reports ---

    def _take(self, slot: Slot, report: Report) -> None:
        slot.num_queued = report.num_queued
        slot.finished.update(report.finished)
        if report.finished:
            slot.succeed()
        elif report.failures:
            slot.fail(len(report.failures), self._limits)
        for commit, tokens in report.commits:
            self._commit(slot, commit, tokens)
        for number, failure in report.failures:
            ticket = slot.tickets.pop(number)
            slot.finished.discard(number)
            self._failed(slot, ticket, failure)
        for number in report.returned:
            self._ready.append(slot.tickets.pop(number))
        if slot.is_broken and any(other.num_succeeded and not other.is_failing for other in self._workers.ready if other is not slot):
            self._workers.replace(slot, "every row fails there, while others succeed")
            self._ready.extend(slot.remove_tickets())

    def _commit(self, slot: Slot, commit: Commit, tokens: Mapping[int, int]) -> None:
        for number, spent in tokens.items():
            ticket = slot.tickets.pop(number)
            slot.finished.discard(number)
            if ticket.losses:
                self._ledger.lose(Loss(rows=ticket.losses, tokens=ticket.losses * spent))
        self._record(commit)

    def _record(self, commit: Commit) -> None:
        self._ledger.commit(commit, in_flight=sum(self._num_begun(other) for other in self._workers.ready))
        self._metrics.commit(commit)
        self._progress.add(rows=commit.rows_in, rejects=len(commit.rejected), tokens=commit.tokens)
        self._window.succeed(commit.rows_in)
        self._num_good += commit.rows_in - len(commit.rejected)
        self._num_refused += sum(reason == REFUSED for reason in commit.rejected.values())
        if not self._num_good and not self._ledger.rows_out and self._num_refused >= HOPELESS_ROWS:
            raise StageFailed(
                f"stage {self._work.stage} stopped: the engine refused all {self._num_refused} rows so far; its rejects say why. "
                f"Fix that, and have them tried again: --retry {self._work.stage}"
            )

    def _failed(self, slot: Slot, ticket: Ticket, failure: Failure) -> None:
        self._window.fail(failure)
        self._ledger.fail(failure.reason)
        self._metrics.fail(failure.reason)
        self._progress.failures[failure.reason] += 1
        ticket.attempts += 1
        ticket.unknown += failure.kind is Kind.UNKNOWN
        ticket.avoids = slot.number
        if ticket.unknown >= self._limits.row_attempts:
            self._reject_unknown(ticket, failure)
        else:
            self._late.add(ticket, self._limits.pause(ticket.attempts))

    def _reject_unknown(self, ticket: Ticket, failure: Failure) -> None:
        self._num_unknown_rejects += 1
        if self._num_unknown_rejects > self._limits.unknown_rows:
            raise StageFailed(
                f"stage {self._work.stage} stopped: more than failures.unknown_rows = {self._limits.unknown_rows} rows failed with an "
                f"exception that is no fault of theirs:\n{failure.detail.strip()}\nThis is probably a bug. Rows that are rejected for it "
                f"are tried again with --retry {self._work.stage}:error"
            )
        self._reject(ticket, failure.reason, failure.detail)

    def _reject(self, ticket: Ticket, reason: str, detail: str) -> None:
        done = Done(ticket=ticket.number, key=ticket.key, result=RejectedRow(id=ticket.key, reason=reason, detail=detail))
        self._record(self._work.write([done], time.time()))

    # --- deaths ---

    def _worker_died(self, slot: Slot, death: Exception) -> None:
        """A worker died: find out whether of a row, and have its rows done again."""
        in_probe, finished = slot.probe, set(slot.finished)
        tickets = slot.remove_tickets()
        cause = self._workers.remove_dead(slot, death)
        unfinished = [ticket for ticket in tickets if ticket.number not in finished]
        suspects = unfinished[: self._workers.pool.rows_in_flight]
        others = [ticket for ticket in tickets if ticket.number in finished] + unfinished[len(suspects) :]  # the latter were not begun
        for ticket in (*suspects, *others[: len(finished)]):
            ticket.losses += 1
        self._ready.extend(others)
        if cause is not None or not suspects:
            self._ready.extend(suspects)
            return
        if len(suspects) > 1:
            half = (len(suspects) + 1) // 2
            self._probes.extend((suspects[:half], suspects[half:]))
            return
        (ticket,) = suspects
        ticket.deaths += in_probe  # else it may have died before, idle
        if ticket.deaths >= DEATHS_ALONE:
            self._num_killed += 1
            if self._num_killed > self._limits.unknown_rows:
                raise StageFailed(
                    f"stage {self._work.stage} stopped: more than failures.unknown_rows = {self._limits.unknown_rows} rows killed workers, "
                    f"last {ticket.key}: {death}\nFix that and run the same command again: it resumes."
                )
            self._reject(ticket, KILLED, f"{ticket.deaths} workers died on this row alone: {death}"[:DETAIL_CHARACTERS])
        else:
            self._probes.append([ticket])
