"""One stage: a dataset in, a pool of actors, a dataset out.

Flow: the driver reads the input with Ray Data, leaves out the rows that committed parts already finish, cuts the rest into
small blocks and maps them over a pool of ``StageActor``s, which write each finished block as a Parquet part (data and
checkpoint in one) and hand the driver its account. When all are in, the driver writes ``_stage.json``.

Invariants: an input row is in exactly one part, as output rows or as a counted reject; a part depends on its own input rows
and the configuration only; a finished stage is never written to again.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
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
from cluster.plan import READING, Demand, shortfall
from genprm.records import Record
from workflows.stage import parts
from workflows.stage.parts import PartAccount, RejectedRow, StageSummary
from workflows.stage.pool import Pool
from workflows.stage.actor import SETUP_ERROR, RowWorker, StageActor
from workflows.stage.progress import StageProgress
from workflows.stage.record import StageFailed, announce_finished, check_plan, columns, finish, jsonable
from workflows.stage.folder import Folder
from workflows.stage.tracking import Tracker

UNFINISHED_CPUS = 0.5
"""Not what the next operators ask for: else Ray Data fuses them, and all rows of a file go through one worker, block after block."""
LIGHT_BLOCK_ROWS = 1024
LIGHT_CPUS = 0.25
HOPELESS_ROWS = 32


class SetupFailed(ValueError):
    """A worker could not be built: no such model, no memory, no key. Nothing was spent."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What decides a stage's output, and how it is made.

    ``reads`` is the stage whose dataset it reads, ``key`` the column of that dataset that identifies a row, ``writes`` the
    record of its output; ``make_worker(handles)`` builds a worker inside an actor that reserves what ``engine``, the
    one that it opens, needs; with no ``pool`` the work is light and needs no actors, only Ray tasks. ``config`` holds every setting that
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
    engine: EngineConfig | None = None
    services: Services = field(default_factory=Services)

    @property
    def worker_demand(self) -> Demand:
        """What one worker reserves."""
        if self.engine is None:
            return Demand(cpus=LIGHT_CPUS)
        return Demand(cpus=self.engine.num_cpus, gpus=self.engine.num_gpus)


def run_stage(stage: Stage, run: Folder, tracker: Tracker) -> StageSummary:
    """Bring a stage to its end, from wherever it stands; a finished one is only reported.

    Raises StageRefused for a changed configuration or input, SetupFailed if no worker can be built, StageFailed else.
    """
    interrupts.check()
    folder = run / stage.name
    if not (run / stage.reads).exists(parts.DONE):
        raise StageFailed(f"{stage.name} reads {stage.reads}, which is not finished in {run.uri}")
    source = (run / stage.reads).read_json(parts.DONE)
    plan = {
        "config": jsonable(stage.config),
        "inputs": {stage.reads: source["contents"], **stage.inputs},
        "columns": columns(stage.writes.schema()),
    }
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
    interrupts.check()
    plan = {**jsonable(plan), "columns": columns(writes.schema())}
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
        rejected={f"in-{len(rows) + index}": reject.reason for index, reject in enumerate(rejects)},
        session="driver",
        began=began,
        committed=time.time(),
    )
    parts.write_part(run, name, rows, writes.schema(), account, rejects)
    return finish(name, writes.schema(), run, plan, rows_in, tracker)


def demand(stage: Stage) -> Demand:
    """All that must be there at once for the stage to run."""
    total = READING
    if stage.pool is not None:
        total += stage.worker_demand.times(stage.pool.num_workers)
    if stage.services.executors is not None:
        executors = stage.services.executors
        total += Demand(cpus=executors.num_cpus, custom=executors.resources).times(executors.num_executors)
    for engine in stage.services.engines.values():
        total += Demand(cpus=engine.num_cpus, gpus=engine.num_gpus)
    return total


def check_resources(stages: Sequence[Stage]) -> None:
    """SetupFailed, with the remedy, for a stage that the cluster as it is could never run."""
    available = ray.cluster_resources()
    for stage in stages:
        missing = shortfall(demand(stage), available)
        if missing:
            raise SetupFailed(f"stage {stage.name} {missing}")


def _process_rows(stage: Stage, run: Folder, done: set[str], rows_in: int) -> None:
    folder = run / stage.name
    check_resources([stage])
    with contextlib.suppress(FileNotFoundError):
        folder.delete(SETUP_ERROR)
    source = run / stage.reads
    handles = Handles()
    try:
        handles = remote.start(stage.services)
        files = [source.path_of(name) for name in parts.part_names(run, stage.reads)]
        rows = ray.data.read_parquet(files, override_num_blocks=len(files))  # else small files are cut into uneven blocks
        if done:
            finished = pa.array(sorted(done), type=pa.string())
            unfinished = _Unfinished(stage.key, finished)
            rows = rows.map_batches(unfinished, batch_format="pyarrow", batch_size=None, num_cpus=UNFINISHED_CPUS)
        commits = _map(rows, rows_in - len(done), stage, (stage, run, handles, uuid.uuid4().hex[:8], time.time()))
        commits.set_name(stage.name)  # what the dashboard calls it
        with StageProgress(stage.name, len(done), rows_in) as progress:
            for commit in commits.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                progress.add(commit)
                interrupts.check()
                if progress.num_rejected_only >= HOPELESS_ROWS and parts.all_failed(run, stage.name):
                    break
    except RayError as error:
        if folder.exists(SETUP_ERROR):
            failure = folder.read_json(SETUP_ERROR)
            raise SetupFailed(f"stage {stage.name} can't start: {failure['message']}") from error
        if handles.is_empty and not stage.services.is_empty:
            raise SetupFailed(f"stage {stage.name} can't start its engines or executors: {str(error).strip().splitlines()[-1]}") from error
        raise StageFailed(f"stage {stage.name} stopped: {error}; run the same command again to go on") from error
    finally:
        remote.stop(handles)
    if progress.num_rejected_only and parts.all_failed(run, stage.name):
        detail = parts.read_rejects(run, stage.name)[0]["detail"].strip().splitlines()[-1]
        for name in parts.part_names(run, stage.name):
            folder.delete(name)
        raise StageFailed(f"stage {stage.name} stopped, because every row failed: {detail}; mend that and run the same command again")


def blocks_in_flight(pool: Pool, num_rows: int) -> int:
    """How many blocks an actor takes at a time: no more than its share, so that the first to be ready does not take all."""
    num_blocks = -(-num_rows // pool.block_rows)
    return max(1, min(pool.rows_in_flight // pool.block_rows, -(-num_blocks // pool.num_workers)))


def _map(rows: Any, num_rows: int, stage: Stage, arguments: tuple[Any, ...]) -> Any:
    """The dataset of part accounts: blocks of rows through an actor pool, or through tasks where the work is light."""
    name = "".join(word.capitalize() for word in stage.name.split("_"))
    if stage.pool is None:
        light = _LightStage(arguments, name)
        blocks = rows.repartition(target_num_rows_per_block=LIGHT_BLOCK_ROWS)
        return blocks.map_batches(light, batch_format="pyarrow", batch_size=None)
    in_flight = blocks_in_flight(stage.pool, num_rows)
    return rows.repartition(target_num_rows_per_block=stage.pool.block_rows).map_batches(
        type(name, (StageActor,), {}),
        fn_constructor_args=arguments,
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=stage.worker_demand.cpus,
        num_gpus=stage.worker_demand.gpus,
        compute=ActorPoolStrategy(
            size=stage.pool.num_workers,
            max_tasks_in_flight_per_actor=in_flight,
            max_concurrent_calls_per_actor=in_flight,
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
