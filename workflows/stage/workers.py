"""The actors of a stage's pool: started, replaced when they die or when nothing works there, ended when there is no more work.

The pool grows while there is room in the cluster and shrinks when nodes leave. One that can't be started does not end the stage while
others work.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from cluster.nodes import alive_nodes, free_resources, growable
from cluster.plan import Demand, room_for
from workflows.stage.errors import SetupFailed, StageFailed
from workflows.stage.limits import FailureLimits
from workflows.stage.pool import Pool
from workflows.stage.worker import Report, StageWorker, Work

GROW_EVERY_S = 5.0
WAITING_EVERY_S = 60.0
END_S = 10.0
"""A worker has so long to end by itself."""


@dataclass(eq=False, kw_only=True)
class Slot:
    """A worker and what the driver knows of it. ``tickets`` are the rows that it has, ``finished`` those of them that are processed and
    not committed yet; in a ``probe`` they are all that it has, since one may kill it."""

    number: int
    handle: Any
    call: Any = None
    asked_at: float = field(default_factory=time.monotonic)
    node: str | None = None
    tickets: dict[int, Any] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    probe: bool = False
    num_queued: int = 0
    num_succeeded: int = 0
    failures_in_a_row: int = 0
    retry_at: float = 0.0
    is_failing: bool = False
    num_backoffs: int = 0
    is_broken: bool = False
    """It failed with so many single rows that it is to be replaced."""

    @property
    def is_busy(self) -> bool:
        return self.call is not None

    @property
    def may_retry(self) -> bool:
        return time.monotonic() >= self.retry_at

    def ask(self, rows: Sequence[tuple[int, dict[str, Any]]], **how: Any) -> None:
        self.call = self.handle.exchange.remote(rows, **how)
        self.asked_at = time.monotonic()

    def succeed(self) -> None:
        self.num_succeeded += 1
        self.failures_in_a_row = self.num_backoffs = 0
        self.is_failing = self.is_broken = False

    def fail(self, rows: int, limits: FailureLimits) -> None:
        self.failures_in_a_row += rows
        if self.failures_in_a_row >= limits.worker_failures:
            self.is_failing = True
            self.num_backoffs += 1
            self.is_broken = self.num_backoffs > limits.worker_failures
            self.retry_at = time.monotonic() + limits.pause(self.num_backoffs)

    def remove_tickets(self) -> list[Any]:
        """The rows that it has, in the order in which it got them; it has none from here on."""
        tickets = list(self.tickets.values())
        self.tickets.clear()
        self.finished.clear()
        return tickets


class WorkerSilent(RayError):
    """A worker did not answer for too long; Ray notices a process that ended, not one that is stopped."""


class Workers:
    """The slots of a pool. ``warn`` tells a person."""

    def __init__(self, *, name: str, work: Work, pool: Pool, demand: Demand, limits: FailureLimits, warn: Callable[[str], None]) -> None:
        self.pool = pool
        self._work = work
        self._demand = demand
        self._limits = limits
        self._warn = warn
        self._actor = ray.remote(type(name, (StageWorker,), {})).options(
            num_cpus=demand.cpus, num_gpus=demand.gpus, resources=dict(demand.custom) or None, max_restarts=0
        )
        self._starting: dict[Any, Slot] = {}
        self.ready: list[Slot] = []
        self._next_number = 0
        self._grown_at = 0.0
        self._was_ready = False
        self._failed_starts = 0
        self._deaths_in_a_row = 0
        self._not_before = 0.0
        self._is_shrinking = False
        self._waiting_since: float | None = None
        self._counted_at = time.monotonic()
        self._start_s = 0.0

    @property
    def num_expected(self) -> int:
        """Workers that are there, and those that are about to be."""
        return len(self.ready) + len(self._starting)

    def lived_s(self) -> float:
        """Seconds that workers lived since the last call, all together, those of their start included."""
        now = time.monotonic()
        lived_s = self._start_s + (now - self._counted_at) * len(self.ready)
        self._counted_at, self._start_s = now, 0.0
        return lived_s

    def scale(self, num_waiting: int) -> None:
        """Start workers for the rows that wait, end those for which there are none."""
        now = time.monotonic()
        if num_waiting == 0:
            for slot in [slot for slot in self.ready if not slot.tickets and not slot.is_busy]:
                if len(self.ready) > 1:
                    self._is_shrinking = True
                    self._end(slot)
            return
        if now < self._not_before:
            return
        for _ in range(self._num_missing(num_waiting)):
            self._start()
        self._say_what_is_waited_for(now)

    def _num_missing(self, num_waiting: int) -> int:
        if self._is_shrinking and self.num_expected:
            return 0
        busy = sum(bool(slot.tickets) for slot in self.ready)
        useful = busy + num_waiting
        missing = min(self.pool.least, useful) - self.num_expected
        if missing > 0 or self.pool.most == self.pool.least:
            return max(0, missing)
        if time.monotonic() - self._grown_at < GROW_EVERY_S or self._starting:
            return 0
        self._grown_at = time.monotonic()
        room = room_for(self._demand, free_resources()) or min(1, room_for(self._demand, growable()))
        most = useful if self.pool.most is None else min(self.pool.most, useful)
        return max(0, min(room, most - self.num_expected))

    def _start(self) -> None:
        slot = Slot(number=self._next_number, handle=self._actor.remote(self._work, self.pool, self._limits))
        self._next_number += 1
        self._starting[slot.handle.open.remote()] = slot

    def _say_what_is_waited_for(self, now: float) -> None:
        if self.ready:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        elif now - self._waiting_since > WAITING_EVERY_S:
            self._waiting_since = now
            self._warn(f"{self._work.stage}: waiting for a worker to start, which needs {self._demand}")

    def results(self, timeout_s: float) -> Iterator[tuple[Slot, Report | Exception]]:
        """What workers reported, and how those that died did."""
        calls = {slot.call: slot for slot in self.ready if slot.call is not None}
        everything = [*calls, *self._starting]
        if not everything:
            time.sleep(timeout_s)
            return
        done, _ = ray.wait(everything, num_returns=1, timeout=timeout_s)
        if done:  # and whatever else there is just now
            done, _ = ray.wait(everything, num_returns=len(everything), timeout=0)
        for call in done:
            if call in self._starting:
                self._take_start(self._starting.pop(call), call)
                continue
            slot = calls[call]
            slot.call = None
            try:
                yield slot, ray.get(call)
            except RayTaskError:  # not the worker but our own code
                raise
            except RayError as error:
                yield slot, error
        now = time.monotonic()
        for call, slot in calls.items():
            if slot.call is call and now - slot.asked_at > self._limits.silence_s:
                slot.call = None
                yield slot, WorkerSilent(f"it said nothing for failures.silence_s = {self._limits.silence_s:g} s")

    def _take_start(self, slot: Slot, call: Any) -> None:
        try:
            slot.node, start_s = ray.get(call)
        except RayError as error:
            self._start_failed(slot, error)
            return
        self._was_ready = True
        self._failed_starts = 0
        self._start_s += start_s
        self.ready.append(slot)

    def _start_failed(self, slot: Slot, error: RayError) -> None:
        """Fatal before anything was spent; else others go on, and it is tried again later."""
        with contextlib.suppress(RayError):
            ray.kill(slot.handle)
        self._failed_starts += 1
        cause = getattr(error, "cause", None) or error
        message = str(cause).strip()
        if isinstance(error, RayTaskError) and not isinstance(cause, RayTaskError):
            message = f"{cause}" if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
        if not self.ready and not self._starting and not self._was_ready:
            raise SetupFailed(f"stage {self._work.stage} can't start: {message}") from error
        self._not_before = time.monotonic() + self._limits.pause(self._failed_starts)
        if not self.ready and not self._starting and self._failed_starts * self._limits.longest_pause_s > self._limits.patience_s:
            raise StageFailed(f"stage {self._work.stage} stopped: no worker can be started any more, last with {message}") from error
        first_line = message.splitlines()[0] if message else type(error).__name__
        self._warn(f"{self._work.stage}: a worker can't start ({first_line}); {len(self.ready)} are at work, it is tried again")

    def remove_dead(self, slot: Slot, death: Exception) -> str | None:
        """Take a dead worker out; gives why it is dead, if that is known and has nothing to do with its rows."""
        self.ready.remove(slot)
        self._is_shrinking = False
        with contextlib.suppress(RayError):
            ray.kill(slot.handle)  # one that can't be reached may live
        if isinstance(death, ActorUnavailableError):
            cause: str | None = "it can't be reached"
        elif isinstance(death, RayActorError) and death.preempted:
            cause = "its node was preempted"
        elif isinstance(death, WorkerSilent):
            cause = str(death)
        elif slot.node not in alive_nodes():
            cause = "its node is gone"
        else:
            cause = None
        self._deaths_in_a_row = 0 if slot.num_succeeded else self._deaths_in_a_row + 1
        self._not_before = time.monotonic() + (self._limits.pause(self._deaths_in_a_row) if self._deaths_in_a_row > 1 else 0.0)
        self._warn(
            f"{self._work.stage}: worker {slot.number} died ({cause or str(death).strip().splitlines()[0]}); its rows are done again"
        )
        return cause

    def replace(self, slot: Slot, reason: str) -> None:
        """End a worker; another is started in its place."""
        self._warn(f"{self._work.stage}: worker {slot.number} is replaced: {reason}")
        self.ready.remove(slot)
        with contextlib.suppress(RayError):
            ray.kill(slot.handle)

    def _end(self, slot: Slot) -> None:
        self.ready.remove(slot)
        slot.handle.__ray_terminate__.remote()

    def close(self) -> None:
        """End all: those without a call in flight by themselves, which spares Ray a failure."""
        ending = [slot.handle.__ray_terminate__.remote() for slot in self.ready if not slot.is_busy]
        for slot in (*self._starting.values(), *(slot for slot in self.ready if slot.is_busy)):
            with contextlib.suppress(RayError):
                ray.kill(slot.handle)
        if ending:
            ray.wait(ending, num_returns=len(ending), timeout=END_S)
        self.ready.clear()
        self._starting.clear()
