"""What runs in a stage's actors: a plain worker fed with rows, its finished blocks written as parts.

Each actor keeps several blocks in flight on one event loop, one coroutine a row. A block that was in flight when a worker died is
retried, then row by row, and the row on which workers die is rejected.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from actors.code_executor import CodeRefused
from actors.engine.base import EngineDied, EngineError
from actors.remote import ActorLost, Handles
from genprm.records import Record
from genprm.section import Section
from workflows.stage import parts
from workflows.stage.errors import Reject
from workflows.stage.folder import Folder
from workflows.stage.parts import PartAccount, RejectedRow
from workflows.stage.versions import versions

MAX_BATCH_ATTEMPTS = 2
MAX_ROW_ATTEMPTS = 2
ROW_ATTEMPTS = 3
SETUP_ERROR = "_setup_error.json"


class RowWorker(Protocol):
    """What a stage runs for every input row. Built once in each actor; ``process`` is called for many rows at a time."""

    async def process(self, row: dict[str, Any]) -> Sequence[Record]:
        """The output rows of an input row; Reject rejects it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Work:
    """What an actor needs of its stage: ``make_worker(settings, handles)`` builds the worker, ``key`` is the input column that
    identifies a row, ``writes`` the record of the output. Without ``counts_tokens`` tokens are those of an earlier stage's rows."""

    stage: str
    key: str
    writes: type[Record]
    settings: Section
    make_worker: Callable[[Any, Handles], RowWorker]
    counts_tokens: bool


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


class StageActor:
    """The adapter between Ray Data and a plain worker; one instance in each actor of the pool."""

    def __init__(self, work: Work, run: Folder, handles: Handles, session: str, began: float) -> None:
        exit_at_once()
        self._work = work
        self._run = run
        self._session = session
        self._began = began
        self._attempts = run / work.stage / parts.ATTEMPTS
        self._alone = threading.Lock()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="rows", daemon=True).start()
        try:
            self._worker = work.make_worker(work.settings, handles)
        except Exception as error:
            message = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
            (run / work.stage).write_json(SETUP_ERROR, message)
            raise
        self._ready = time.time()

    def __call__(self, block: pa.Table) -> dict[str, Any]:
        rows = block.to_pylist()
        keys = [str(row[self._work.key]) for row in rows]
        name = parts.part_name(keys)
        if self._begin_attempt(name, keys) <= MAX_BATCH_ATTEMPTS:
            results = self._wait([self._process(row) for row in rows])
        else:
            results = [self._process_alone(row, key) for row, key in zip(rows, keys, strict=True)]
        produced = [result for result in results if not isinstance(result, RejectedRow)]
        rejects = [result for result in results if isinstance(result, RejectedRow)]
        output = [record.row() for records in produced for record in records]
        account = PartAccount(
            keys=keys,
            rows_per_key=[0 if isinstance(result, RejectedRow) else len(result) for result in results],
            rejected={reject.id: reject.reason for reject in rejects},
            tokens=sum(row.get("num_tokens") or 0 for row in output) if self._work.counts_tokens else 0,
            session=self._session,
            began=self._began,
            ready=self._ready,
            committed=time.time(),
            versions=versions(),
        )
        parts.write_part(self._run, self._work.stage, output, self._work.writes.schema(), account, rejects)
        self._end_attempt(name)
        return {
            "rows_in": pa.array([len(rows)]),
            "rows_out": pa.array([len(output)]),
            "rejects": pa.array([len(rejects)]),
            "tokens": pa.array([account.tokens]),
        }

    def _wait(self, coroutines: list[Any]) -> list[Any]:
        async def together() -> list[Any]:
            return list(await asyncio.gather(*coroutines))

        return asyncio.run_coroutine_threadsafe(together(), self._loop).result()

    async def _process(self, row: dict[str, Any]) -> Sequence[Record] | RejectedRow:
        key = str(row[self._work.key])
        for attempt in range(ROW_ATTEMPTS):
            try:
                return await self._worker.process(row)
            except Reject as reject:
                return RejectedRow(id=key, reason=reject.reason, detail=reject.detail)
            except EngineDied as error:
                print(f"{self._work.stage}: {error}; this worker exits and is restarted", file=sys.stderr, flush=True)
                os._exit(17)
            except EngineError as error:
                return RejectedRow(id=key, reason="engine error", detail=str(error)[:2000])
            except (ActorLost, CodeRefused) as error:
                if attempt + 1 == ROW_ATTEMPTS:
                    reason = "executor or engine lost" if isinstance(error, ActorLost) else "executor refused"
                    return RejectedRow(id=key, reason=reason, detail=str(error)[:2000])
            except Exception as error:  # one bad row must not end the run; it is rejected with its traceback
                detail = "".join(traceback.format_exception(error))[-2000:]
                return RejectedRow(id=key, reason=f"error: {type(error).__name__}", detail=detail)
        raise AssertionError("unreachable")

    def _process_alone(self, row: dict[str, Any], key: str) -> Sequence[Record] | RejectedRow:
        """One row of a block that was in flight when a worker died: the row on which workers die is rejected.

        One such row at a time in a worker, so that a death is blamed on no other.
        """
        name = f"row-{parts.part_name([key])}"
        with self._alone:
            if self._begin_attempt(name, [key]) > MAX_ROW_ATTEMPTS:
                return RejectedRow(id=key, reason="killed its worker", detail=f"{MAX_ROW_ATTEMPTS} workers died on this row alone")
            result: Sequence[Record] | RejectedRow = self._wait([self._process(row)])[0]
            self._end_attempt(name)
            return result

    def _begin_attempt(self, name: str, keys: Sequence[str]) -> int:
        """Count an attempt at a block or row since the job was started, before it begins; survives the death of the worker."""
        file = f"{self._session}-{name}.json"
        count = 1 + (self._attempts.read_json(file)["count"] if self._attempts.exists(file) else 0)
        self._attempts.write_json(file, {"count": count, "keys": list(keys)})
        return int(count)

    def _end_attempt(self, name: str) -> None:
        """Uncount an attempt that finished: those that stay counted were lost, and are repeated."""
        file = f"{self._session}-{name}.json"
        with contextlib.suppress(FileNotFoundError):  # one that was taken for dead may have finished as well
            attempt = self._attempts.read_json(file)
            if attempt["count"] == 1:
                self._attempts.delete(file)
            else:
                self._attempts.write_json(file, {**attempt, "count": attempt["count"] - 1})
