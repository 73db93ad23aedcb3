"""What runs in a stage's actors: a plain worker fed with rows, its results written as parts.

Rows run side by side, each as a coroutine, ``rows_in_flight`` at a time; as soon as one is done the next begins. Results are committed
by count or by time. What failed for no fault of the row's is reported, not committed.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import ray

from actors.engine.base import EngineDied
from actors.remote import Handles
from actors.storage import Folder
from genprm.records import Record
from genprm.section import Section
from workflows.stage import parts
from workflows.stage.failures import Failure, Kind, failure_of
from workflows.stage.ledger import Commit
from workflows.stage.limits import FailureLimits
from workflows.stage.parts import RejectedRow
from workflows.stage.pool import Pool
from workflows.stage.versions import made_with

CANARY_ROWS = 4
"""So many rows are begun at first; the others when one has succeeded, or has not failed for a moment."""
CANARY_S = 0.25
SIDE_BY_SIDE = 256
"""Light rows."""
IDLE_COMMIT_S = 0.1
"""A worker without rows commits what it has, if none comes for so long."""

T = TypeVar("T")


class RowWorker(Protocol):
    """What a stage runs for every input row. Built once in each actor; ``process`` is called for many rows at a time."""

    async def process(self, row: dict[str, Any]) -> Sequence[Record]:
        """The output rows of an input row; Reject rejects it. Another exception says nothing about the row: it is tried again."""
        ...


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a worker needs of its stage: ``make_worker(settings, handles)`` builds it, ``key`` is the input column that identifies a row,
    ``writes`` the record of the output. Without ``counts_tokens`` tokens are those of an earlier stage's rows."""

    stage: str
    folder: Folder
    key: str
    writes: type[Record]
    settings: Section
    make_worker: Callable[[Any, Handles], RowWorker]
    handles: Handles
    counts_tokens: bool
    session: str
    began: float

    def build(self) -> RowWorker:
        return self.make_worker(self.settings, self.handles)

    def table(self, done: Sequence[Done]) -> pa.Table:
        """The output of finished rows."""
        return pa.Table.from_pylist(_output(done), schema=self.writes.schema())

    def write(self, done: Sequence[Done], ready: float) -> Commit:
        """Write finished rows as a part."""
        output = _output(done)
        return parts.write_part(
            self.folder,
            output,
            self.writes.schema(),
            rows_in=len(done),
            keys=[item.key for item in done],
            rejects=[item.result for item in done if isinstance(item.result, RejectedRow)],
            tokens=sum(row.get("num_tokens") or 0 for row in output) if self.counts_tokens else 0,
            session=self.session,
            began=self.began,
            ready=ready,
            committed=time.time(),
            versions=made_with(),
        )


@dataclass(frozen=True, kw_only=True)
class Done:
    """A processed row: its output, or why it is rejected; ``ticket`` is the number by which the driver knows it."""

    ticket: int
    key: str
    result: Sequence[Record] | RejectedRow

    @property
    def tokens(self) -> int:
        return 0 if isinstance(self.result, RejectedRow) else sum(getattr(record, "num_tokens", None) or 0 for record in self.result)


def _output(done: Sequence[Done]) -> list[dict[str, Any]]:
    return [record.row() for item in done if not isinstance(item.result, RejectedRow) for record in item.result]


@dataclass(kw_only=True)
class Report:
    """What happened in a worker since it reported last; rows by their tickets.

    ``commits`` come with the tickets of their rows and the tokens of each, ``failures`` with the row's. ``finished`` rows are processed
    and not committed yet, ``returned`` ones were not begun. ``num_queued`` rows are waiting.
    """

    commits: list[tuple[Commit, dict[int, int]]] = field(default_factory=list)
    failures: list[tuple[int, Failure]] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    num_queued: int = 0


async def run_row(worker: RowWorker, row: dict[str, Any], key: str, ticket: int = 0) -> Done | Failure:
    """Process one row; EngineDied goes on to the caller."""
    try:
        return Done(ticket=ticket, key=key, result=await worker.process(row))
    except EngineDied:
        raise
    except Exception as error:
        failure = failure_of(error)
        if failure.kind is Kind.DATA:
            return Done(ticket=ticket, key=key, result=RejectedRow(id=key, reason=failure.reason, detail=failure.detail))
        return failure


def exit_at_once() -> None:
    """Have this process end as soon as Python ends, without taking its objects apart.

    Ray has parted from the worker by then. With vLLM in the process the rest takes 3 to 5 s of CPU, which the next stage needs; and
    Ray's own teardown hangs when a call of the worker fails just then: it waits on a lock that it has destroyed (Publisher and its
    event loop), so that the process would outlive its job and keep its memory. Actors that are killed have no teardown.
    """

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    atexit.register(leave)


class StageWorker:
    """The adapter between the driver and a plain worker: takes rows, gives reports. One call at a time."""

    def __init__(self, work: Work, pool: Pool, limits: FailureLimits) -> None:
        exit_at_once()
        self._created = time.monotonic()
        self._work = work
        self._pool = pool
        self._limits = limits
        self._loop = asyncio.new_event_loop()
        self._report = Report()
        self._queue: deque[tuple[int, dict[str, Any]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._buffer: list[Done] = []
        self._buffered_at = 0.0
        self._writing = 0
        self._failures_in_a_row = 0
        self._has_succeeded = False
        self._opened_at = 0.0
        self._more = True
        self._at_once = False

    def open(self) -> tuple[str, float]:
        """Build the worker, which may take minutes; gives the id of the node, and the seconds since this actor has what it reserves.
        What it raises is why it can't be built."""
        self._worker = self._work.build()
        self._ready = time.time()
        self._news = asyncio.Event()
        threading.Thread(target=self._loop.run_forever, name="rows", daemon=True).start()
        return str(ray.get_runtime_context().get_node_id()), time.monotonic() - self._created

    def exchange(
        self,
        rows: Sequence[tuple[int, dict[str, Any]]],
        *,
        wait_s: float,
        more: bool = True,
        give_back: bool = False,
        at_once: bool = False,
    ) -> Report:
        """Take rows with their tickets; the report as soon as there is something to report, or after ``wait_s``.

        ``more`` rows may come. ``give_back`` those that were not begun. ``at_once`` commits every row as soon as it is done.
        """
        return self._on_loop(self._exchange(rows, wait_s, more, give_back, at_once))

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _exchange(
        self, rows: Sequence[tuple[int, dict[str, Any]]], wait_s: float, more: bool, give_back: bool, at_once: bool
    ) -> Report:
        self._more = more
        self._at_once = at_once
        if rows and not self._opened_at:
            self._opened_at = time.monotonic()
            self._loop.call_later(CANARY_S, self._begin_rows)
        if rows and self._failures_in_a_row >= self._limits.worker_failures:
            self._failures_in_a_row = self._limits.worker_failures - 1  # one more try
        self._queue.extend(rows)
        if give_back:
            self._return_queue()
        self._begin_rows()
        until = time.monotonic() + wait_s
        while True:
            self._commit_if_due()
            report = self._report
            left = until - time.monotonic()
            if report.commits or report.failures or report.returned or left <= 0 or self._is_idle() or self._has_room():
                break
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), min(left, max(0.001, self._commit_in())))
            except TimeoutError:
                pass
        self._report = Report()
        report.num_queued = len(self._queue)
        return report

    def _is_idle(self) -> bool:
        return not (self._queue or self._running or self._buffer or self._writing)

    def _has_room(self) -> bool:
        """Whether the driver should send more rows now."""
        return self._more and bool(self._report.finished) and len(self._queue) < self._pool.spare_rows

    def _begin_rows(self) -> None:
        is_canary = not self._has_succeeded and time.monotonic() < self._opened_at + CANARY_S
        most = min(CANARY_ROWS, self._pool.rows_in_flight) if is_canary else self._pool.rows_in_flight
        while self._queue and len(self._running) < most and self._failures_in_a_row < self._limits.worker_failures:
            ticket, row = self._queue.popleft()
            task = self._loop.create_task(self._run(ticket, row))
            self._running.add(task)
            task.add_done_callback(self._after_row)
        if not self._running and self._queue and self._failures_in_a_row >= self._limits.worker_failures:
            self._return_queue()

    def _return_queue(self) -> None:
        self._report.returned += [ticket for ticket, _ in self._queue]
        self._queue.clear()
        self._news.set()

    async def _run(self, ticket: int, row: dict[str, Any]) -> None:
        try:
            result = await run_row(self._worker, row, str(row[self._work.key]), ticket)
        except asyncio.CancelledError:  # by a library; the ticket must be reported all the same
            result = Failure(kind=Kind.TRANSIENT, reason="CancelledError", detail="the row's processing was cancelled")
        except EngineDied as error:
            print(f"{self._work.stage}: {error}; this worker exits and is replaced", file=sys.stderr, flush=True)
            os._exit(17)
        if isinstance(result, Failure):
            self._failures_in_a_row += 1
            self._report.failures.append((ticket, result))
        else:
            self._failures_in_a_row = 0
            self._has_succeeded = True
            self._buffered_at = self._buffered_at if self._buffer else time.monotonic()
            self._buffer.append(result)
            self._report.finished.append(ticket)

    def _after_row(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._begin_rows()
        self._commit_if_due()
        self._news.set()

    def _commit_in(self) -> float:
        """Seconds until a commit is due."""
        if not self._buffer:
            return self._pool.commit_s
        is_idle = not self._queue and not self._running
        wait = IDLE_COMMIT_S if is_idle else self._pool.commit_s
        return self._buffered_at + wait - time.monotonic()

    def _commit_if_due(self) -> None:
        is_last = not self._more and not self._queue and not self._running
        due = self._at_once or is_last or len(self._buffer) >= self._pool.commit_rows or self._commit_in() <= 0
        if self._buffer and due:
            done, self._buffer = self._buffer, []
            self._writing += 1
            self._loop.create_task(self._commit(done))

    async def _commit(self, done: list[Done]) -> None:
        try:
            commit = await asyncio.to_thread(self._work.write, done, self._ready)
            self._report.commits.append((commit, {item.ticket: item.tokens for item in done}))
        except Exception as error:  # storage that fails for longer than it is asked again, a row that Arrow can't hold
            failure = failure_of(error)
            if failure.kind is Kind.UNKNOWN and len(done) > 1:  # which row it is shows when each is written by itself
                self._writing += len(done)
                await asyncio.gather(*(self._commit([item]) for item in done))
            else:
                self._report.failures += [(item.ticket, failure) for item in done]
        finally:
            self._writing -= 1
            self._news.set()


def process_block(work: Work, rows: Sequence[dict[str, Any]]) -> tuple[Commit, list[tuple[str, Failure]]]:
    """Process a block of light rows in this process; the part that was written, and the rows that failed for no fault of theirs."""
    worker = work.build()

    async def process() -> list[tuple[str, Done | Failure]]:
        keys = [str(row[work.key]) for row in rows]
        results: list[Done | Failure] = []
        for first in range(0, len(rows), SIDE_BY_SIDE):
            chunk = slice(first, first + SIDE_BY_SIDE)
            results += await asyncio.gather(*(run_row(worker, row, key) for row, key in zip(rows[chunk], keys[chunk], strict=True)))
        return list(zip(keys, results, strict=True))

    results = asyncio.run(process())
    failures = [(key, result) for key, result in results if isinstance(result, Failure)]
    done = [result for _, result in results if isinstance(result, Done)]
    try:
        return work.write(done, work.began), failures
    except Exception as error:
        if failure_of(error).kind is not Kind.UNKNOWN:
            raise
    fitting = []
    for item in done:  # which row it is that Arrow can't hold shows when each is put into a table by itself
        try:
            work.table([item])
            fitting.append(item)
        except Exception as error:
            failures.append((item.key, failure_of(error)))
    return work.write(fitting, work.began), failures
