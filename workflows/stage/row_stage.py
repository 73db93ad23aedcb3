"""A stage of rows: a dataset in, a pool of actors, a dataset out.

Flow: the driver reads the input with Ray Data, leaves out the rows that committed parts already finish, joins what else the rows need,
cuts the rest into small blocks and maps them over a pool of ``StageActor``s, which write each finished block as a Parquet part (data
and checkpoint in one) and hand the driver its account. When all are in, the driver writes ``_stage.json``.

Invariants: an input row is in exactly one part, as output rows or as a counted reject; a part depends on its own input rows
and the settings only; a finished stage is never written to again.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy
from ray.exceptions import RayError

from actors import remote
from actors.engine import EngineConfig
from actors.remote import Handles, Services
from cluster import interrupts
from cluster.plan import READ_TASK, Demand
from workflows.stage import parts
from workflows.stage.actor import SETUP_ERROR, RowWorker, StageActor, Work
from workflows.stage.errors import SetupFailed, StageFailed
from workflows.stage.parts import StageSummary
from workflows.stage.pool import Pool
from workflows.stage.record import finish
from workflows.stage.run import Run
from workflows.stage.stage import Stage

UNFINISHED_CPUS = 0.5
"""Not what the next operators ask for: else Ray Data fuses them, and all rows of a file go through one worker, block after block."""
LIGHT_BLOCK_ROWS = 1024
LIGHT_CPUS = 0.25
HOPELESS_ROWS = 32
ROWS_PER_READ = 5_000
"""A task reads so many rows, of many small parts: Ray starts a process (1 s) for every task that is there at the same time."""
ROWS_PER_PARTITION = 50_000
"""Of a join: what one task holds in memory."""


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

    @property
    def worker_demand(self) -> Demand:
        """What one worker reserves."""
        if self.engine is None:
            return Demand(cpus=LIGHT_CPUS)
        return Demand(cpus=self.engine.num_cpus, gpus=self.engine.num_gpus)

    @property
    def demand(self) -> Demand:
        total = READ_TASK
        if self.pool is not None:
            total += self.worker_demand.times(self.pool.num_workers)
        if self.services.executors is not None:
            executors = self.services.executors
            total += Demand(cpus=executors.num_cpus, custom=executors.resources).times(executors.num_executors)
        for engine in self.services.engines.values():
            total += Demand(cpus=engine.num_cpus, gpus=engine.num_gpus)
        return total

    def make(self, run: Run, plan: Mapping[str, Any]) -> StageSummary:
        folder = run.folder / self.name
        done = {key for account in parts.read_accounts(run.folder, self.name).values() for key in account.keys}
        rows_in = int(parts.read_record(run.folder, self.reads[0])["rows_out"])
        with contextlib.suppress(FileNotFoundError):
            folder.delete(SETUP_ERROR)
        if len(done) < rows_in:
            self._process_rows(run, done, rows_in)
        return finish(self.name, self.writes.schema(), run, plan, rows_in)

    def _process_rows(self, run: Run, done: set[str], rows_in: int) -> None:
        folder = run.folder / self.name
        handles = Handles()
        try:
            with run.terminal.stage(self.name, done=len(done), total=rows_in) as progress:
                handles = remote.start(self.services)
                rows = self._rows(run, done, rows_in)
                work = Work(
                    stage=self.name,
                    key=self.key,
                    writes=self.writes,
                    settings=self.settings,
                    make_worker=self.make_worker,
                    counts_tokens=self.pool is not None,
                )
                commits = self._map(rows, rows_in - len(done), (work, run.folder, handles, uuid.uuid4().hex[:8], time.time()))
                commits.set_name(self.name.replace("/", "."))  # what the dashboard calls it; Ray names a file by it
                for commit in commits.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                    progress.add(commit)
                    interrupts.check()
                    if progress.num_rejected_only >= HOPELESS_ROWS and parts.all_failed(run.folder, self.name):
                        break
        except RayError as error:
            if folder.exists(SETUP_ERROR):
                failure = folder.read_json(SETUP_ERROR)
                raise SetupFailed(f"stage {self.name} can't start: {failure['message']}") from error
            if handles.is_empty and not self.services.is_empty:
                reason = str(error).strip().splitlines()[-1]
                raise SetupFailed(f"stage {self.name} can't start its engines or executors: {reason}") from error
            raise StageFailed(f"stage {self.name} stopped: {error}; run the same command again to resume") from error
        finally:
            remote.stop(handles)
        if progress.num_rejected_only and parts.all_failed(run.folder, self.name):
            detail = parts.read_rejects(run.folder, self.name)[0]["detail"].strip().splitlines()[-1]
            for name in parts.part_names(run.folder, self.name):
                folder.delete(name)
            raise StageFailed(f"stage {self.name} stopped, because every row failed: {detail}; fix that and run the same command again")

    def _rows(self, run: Run, done: set[str], rows_in: int) -> Any:
        """The rows that are still to be processed, with what is joined to them."""
        rows = _read(run, self.reads[0])
        if done:
            finished = pa.array(sorted(done), type=pa.string())
            unfinished = _Unfinished(self.key, finished)
            rows = rows.map_batches(unfinished, batch_format="pyarrow", batch_size=None, num_cpus=UNFINISHED_CPUS)
        if self.join is None:
            return rows
        join = self.join
        others = _read(run, join.stage, columns=[join.key, *join.columns]).rename_columns({join.key: self.key, **join.columns})
        return rows.join(others, join_type="left_outer", num_partitions=1 + rows_in // ROWS_PER_PARTITION, on=(self.key,))

    def _map(self, rows: Any, num_rows: int, arguments: tuple[Any, ...]) -> Any:
        """The dataset of part accounts: blocks of rows through an actor pool, or through tasks where the work is light."""
        name = "".join(word.capitalize() for word in self.name.replace("/", "_").replace("-", "_").split("_"))
        if self.pool is None:
            light = _LightStage(arguments, name)
            blocks = rows.repartition(target_num_rows_per_block=LIGHT_BLOCK_ROWS)
            return blocks.map_batches(light, batch_format="pyarrow", batch_size=None)
        in_flight = blocks_in_flight(self.pool, num_rows)
        return rows.repartition(target_num_rows_per_block=self.pool.block_rows).map_batches(
            type(name, (StageActor,), {}),
            fn_constructor_args=arguments,
            batch_format="pyarrow",
            batch_size=None,
            num_cpus=self.worker_demand.cpus,
            num_gpus=self.worker_demand.gpus,
            compute=ActorPoolStrategy(
                size=self.pool.num_workers,
                max_tasks_in_flight_per_actor=in_flight,
                max_concurrent_calls_per_actor=in_flight,
                enable_true_multi_threading=True,
            ),
        )


def _read(run: Run, stage: str, columns: list[str] | None = None) -> Any:
    num_rows = int(parts.read_record(run.folder, stage)["rows_out"])
    files = parts.part_paths(run.folder, stage)
    return ray.data.read_parquet(files, columns=columns, override_num_blocks=min(len(files), 1 + num_rows // ROWS_PER_READ))


def blocks_in_flight(pool: Pool, num_rows: int) -> int:
    """How many blocks an actor takes at a time: no more than its share, so that the first to be ready does not take all."""
    num_blocks = -(-num_rows // pool.block_rows)
    return max(1, min(pool.rows_in_flight // pool.block_rows, -(-num_blocks // pool.num_workers)))


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
