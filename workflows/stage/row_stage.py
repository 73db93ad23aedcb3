"""A stage of rows: a dataset in, workers, a dataset out.

Flow: the driver reads the input with Ray Data, leaves out the rows that the ledger has as done, and joins what else the rows need. With a
pool, each row then goes to one of its actors (`workflows.stage.dispatch`); light work is mapped over blocks as Ray tasks. Either way
parts are written where the work is, and the driver records each in the ledger. When all rows are in, the stage is finished
(`workflows.stage.record`).

Invariants: an input row is in exactly one part that the ledger names, as output rows or as a counted reject; a part depends on its own
input rows and the settings only; a finished stage is never written to again.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError

from actors import remote
from actors.engine import EngineConfig
from actors.engine.config import process_gpus
from actors.remote import Handles, Services
from cluster import interrupts
from cluster.plan import READ_TASK, Demand
from genprm.errors import UserError
from workflows.stage import parts
from workflows.stage.dispatch import Dispatcher
from workflows.stage.errors import SetupFailed, StageFailed
from workflows.stage.failures import UNKNOWN, Failure, Kind
from workflows.stage.ledger import Commit, Ledger, key_hash
from workflows.stage.limits import FailureLimits
from workflows.stage.metrics import StageMetrics
from workflows.stage.parts import RejectedRow
from workflows.stage.pool import Pool
from workflows.stage.progress import StageProgress
from workflows.stage.record import finish
from workflows.stage.rows import Rows
from workflows.stage.run import Run
from workflows.stage.stage import Stage
from workflows.stage.summary import StageSummary
from workflows.stage.usage import Meter
from workflows.stage.worker import Done, RowWorker, Work, process_block
from workflows.stage.workers import Workers

UNFINISHED_CPUS = 0.5
"""Not what the next operators ask for: else Ray Data fuses them, and all rows of a file go through one worker, block after block."""
LIGHT_BLOCK_ROWS = 4096
LIGHT_CPUS = 0.25
ROWS_PER_READ = 5_000
"""A task reads so many rows, of small files: Ray starts a process (1 s) for every task that is there at the same time."""
ROWS_PER_PARTITION = 50_000
"""Of a join: what one task holds in memory."""
READ_ROWS = 256
"""A pool's rows reach the driver so many at a time."""


@dataclass(frozen=True, kw_only=True)
class Join:
    """Columns of a second stage, ``stage``, for the row with the same ``key`` (None where there is none): ``columns`` maps each to its
    name in the row that the worker gets."""

    stage: str
    key: str
    columns: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RowStage(Stage):
    """``reads[0]`` is the stage whose rows are processed, ``key`` its column that identifies a row, ``join`` what else a row gets.

    ``make_worker(settings, handles)`` builds a worker inside an actor that reserves what ``engine``, the one that it opens, needs.
    With no ``pool`` the work is light and needs no actors, only Ray tasks.
    """

    key: str
    make_worker: Callable[[Any, Handles], RowWorker] = field(repr=False)
    join: Join | None = None
    pool: Pool | None = None
    engine: EngineConfig | None = None
    services: Services = field(default_factory=Services)
    limits: FailureLimits = field(default_factory=FailureLimits)

    @property
    def worker_demand(self) -> Demand:
        """What one worker reserves."""
        if self.engine is None:
            return Demand(cpus=LIGHT_CPUS)
        return Demand(cpus=self.engine.num_cpus, gpus=process_gpus(self.engine))

    @property
    def demands(self) -> tuple[Demand, ...]:
        """ValueError where a pool that grows has engines over several nodes."""
        workers = self.pool.least if self.pool is not None else 0
        one = [self.worker_demand] if self.engine is None else _engine_demands(self.engine)
        if len(one) > 1 and self.pool is not None and self.pool.most != self.pool.least:
            raise UserError(
                f"pools.{self.name.partition('/')[0]}.num_workers = {self.pool.num_workers!r}: engines over several nodes "
                "(num_nodes) are not started and ended with the rows; give a number"
            )
        return (READ_TASK, *one * workers, *_demands(self.services))

    @property
    def is_row_by_row(self) -> bool:
        return True

    @property
    def is_incremental(self) -> bool:
        """Whether rows that are added to what it reads leave its other rows as they are."""
        return self.join is None and len(self.reads) == 1

    def make(self, run: Run, plan: Mapping[str, Any]) -> StageSummary:
        ledger = Ledger.read(run.folder / self.name)
        rows_in = int(parts.read_record(run.folder, self.reads[0])["rows_out"])
        if ledger.rows_in < rows_in:
            self._process_rows(run, ledger, rows_in)
        return finish(self.name, self.writes.schema(), run, plan, rows_in, ledger)

    def _process_rows(self, run: Run, ledger: Ledger, rows_in: int) -> None:
        handles = remote.launch(self.services)
        try:
            with run.terminal.stage(self.name, done=ledger.rows_in, total=rows_in) as progress:
                rows = self._rows(run, ledger, rows_in)
                work = Work(
                    stage=self.name,
                    folder=run.folder / self.name,
                    key=self.key,
                    writes=self.writes,
                    settings=self.settings,
                    make_worker=self.make_worker,
                    handles=handles,
                    counts_tokens=self.pool is not None,
                    session=uuid.uuid4().hex[:8],
                    began=time.time(),
                )
                if self.pool is None:
                    self._wait_for(handles)
                    _LightWork(work, self.limits, ledger, progress, StageMetrics(run.folder.uri, self.name)).run(rows)
                else:
                    self._dispatch(run, work, rows, rows_in - ledger.rows_in, ledger, progress)
        except RayError as error:
            raise StageFailed(f"stage {self.name} stopped: {error}; run the same command again to resume") from error
        finally:
            remote.stop(handles)

    def _dispatch(self, run: Run, work: Work, rows: Any, num_rows: int, ledger: Ledger, progress: StageProgress) -> None:
        assert self.pool is not None
        worker = [self.worker_demand] if self.engine is None else _engine_demands(self.engine)
        meter = Meter(ledger=ledger, budget=run.budget, worker=worker, services=_demands(self.services))
        workers = Workers(
            name=_class_name(self.name), work=work, pool=self.pool, demand=self.worker_demand, limits=self.limits, warn=run.terminal.warn
        )
        source = Rows(rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0), READ_ROWS)
        dispatcher = Dispatcher(
            work=work,
            rows=source,
            num_rows=num_rows,
            workers=workers,
            limits=self.limits,
            ledger=ledger,
            progress=progress,
            meter=meter,
            metrics=StageMetrics(run.folder.uri, self.name),
        )
        try:
            workers.scale(num_rows)  # they start beside the engines and executors that they will use
            self._wait_for(work.handles)
            dispatcher.run()
        finally:
            workers.close()

    def _wait_for(self, handles: Handles) -> None:
        try:
            remote.wait_until_ready(handles)
        except RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise SetupFailed(f"stage {self.name} can't start its engines or executors: {reason}") from error

    def _rows(self, run: Run, ledger: Ledger, rows_in: int) -> Any:
        """The rows that are still to be processed, with what is joined to them."""
        rows = _read(run, self.reads[0])
        if ledger.done:
            unfinished = _Unfinished(self.key, pa.array(list(ledger.done), type=pa.binary(16)))
            rows = rows.map_batches(unfinished, batch_format="pyarrow", batch_size=None, num_cpus=UNFINISHED_CPUS)
        if self.join is None:
            return rows
        join = self.join
        others = _read(run, join.stage, columns=[join.key, *join.columns]).rename_columns({join.key: self.key, **join.columns})
        return rows.join(others, join_type="left_outer", num_partitions=1 + rows_in // ROWS_PER_PARTITION, on=(self.key,))


def _engine_demands(engine: EngineConfig) -> list[Demand]:
    """What an engine reserves, on one node or on several."""
    process = Demand(cpus=engine.num_cpus, gpus=process_gpus(engine))
    return [process] if engine.num_nodes == 1 else [process, *[Demand(gpus=engine.num_gpus)] * engine.num_nodes]


def _demands(services: Services) -> list[Demand]:
    """What each of the actors reserves."""
    found = [demand for role in services.engines.values() for _ in range(role.number) for demand in _engine_demands(role.config)]
    if services.executors is not None:
        found += [Demand(cpus=services.executors.reserved_cpus, custom=services.executors.resources)] * services.executors.num_executors
    return found


def _class_name(stage: str) -> str:
    """What the dashboard and a process list call the workers."""
    return "".join(word.capitalize() for word in stage.replace("/", "_").replace("-", "_").split("_"))


def _read(run: Run, stage: str, columns: list[str] | None = None) -> Any:
    num_rows = int(parts.read_record(run.folder, stage)["rows_out"])
    files = parts.paths(run.folder, stage)
    return ray.data.read_parquet(files, columns=columns, override_num_blocks=1 + num_rows // ROWS_PER_READ)


class _LightWork:
    """A stage's work as Ray tasks over blocks: a worker is made for every block, which is cheap for those that have no engine."""

    def __init__(self, work: Work, limits: FailureLimits, ledger: Ledger, progress: StageProgress, metrics: StageMetrics) -> None:
        self._work, self._limits, self._ledger, self._progress, self._metrics = work, limits, ledger, progress, metrics

    def run(self, rows: Any) -> None:
        block = _Block(self._work, _class_name(self._work.stage))
        commits = rows.repartition(target_num_rows_per_block=LIGHT_BLOCK_ROWS).map_batches(block, batch_format="pyarrow", batch_size=None)
        commits.set_name(self._work.stage.replace("/", "."))  # what the dashboard calls it; Ray names a file by it
        failed: list[tuple[str, Failure]] = []
        try:
            for batch in commits.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for result in batch["result"].to_pylist():
                    found = json.loads(result)
                    self._record(Commit(**found["commit"]))
                    failed += [(key, Failure(**failure)) for key, failure in found["failures"]]
                interrupts.check()
                self._ledger.flush(if_due=True)
                if len(failed) > self._limits.unknown_rows:
                    break
            self._judge(failed)
        finally:
            self._ledger.close()

    def _record(self, commit: Commit) -> None:
        repeated = [key for key in commit.keys if key_hash(key) in self._ledger.done]
        if len(repeated) == len(commit.keys):  # of a block that Ray made again after a node died
            return
        if repeated:
            raise StageFailed(
                f"stage {self._work.stage} stopped: a block was made again in other bounds after a node died; run the same command again "
                "to resume"
            )
        self._ledger.commit(commit)
        self._metrics.commit(commit)
        self._progress.add(rows=commit.rows_in, rejects=len(commit.rejected), tokens=commit.tokens)

    def _judge(self, failed: list[tuple[str, Failure]]) -> None:
        """Light work needs nothing that could be back later: an exception that nobody foresaw is the row's, if there are few."""
        if not failed:
            return
        key, last = failed[-1]
        known = self._ledger.num_rejects(UNKNOWN)
        if any(failure.kind != Kind.UNKNOWN for _, failure in failed) or known + len(failed) > self._limits.unknown_rows:
            raise StageFailed(
                f"stage {self._work.stage} stopped: {len(failed)} rows failed for no fault of theirs (failures.unknown_rows = "
                f"{self._limits.unknown_rows}), among them {key}:\n{last.detail.strip()}\n"
                "Fix that and run the same command again: it resumes."
            )
        rejects = [RejectedRow(id=key, reason=failure.reason, detail=failure.detail) for key, failure in failed]
        done = [Done(ticket=0, key=reject.id, result=reject) for reject in rejects]
        self._record(self._work.write(done, time.time()))


class _Block:
    """Runs as a Ray Data task."""

    def __init__(self, work: Work, name: str) -> None:
        self._work = work
        self.__name__ = name

    def __call__(self, block: pa.Table) -> dict[str, Any]:
        if not len(block):
            return {"result": pa.array([], type=pa.string())}
        commit, failures = process_block(self._work, block.to_pylist())
        return {
            "result": pa.array([json.dumps({"commit": asdict(commit), "failures": [(key, asdict(failure)) for key, failure in failures]})])
        }


class _Unfinished:
    """Leaves out the rows whose key is done."""

    def __init__(self, key: str, done: pa.Array) -> None:
        self._key = key
        self._done = done
        self.__name__ = "Unfinished"

    def __call__(self, table: pa.Table) -> pa.Table:
        import pyarrow.compute as pc

        hashes = pa.array([key_hash(str(key)) for key in table[self._key].to_pylist()], type=pa.binary(16))
        return table.filter(pc.invert(pc.is_in(hashes, value_set=self._done)))
