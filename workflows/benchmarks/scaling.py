"""Rollouts on 1 to 8 engines, each on a node of its own: parallel efficiency, the first row, and what the loss of a node costs.

Nodes are raylets of this machine, engines take the time of a slow GPU and leave the CPUs free; all else is real.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.engine.config import ScriptedEngineConfig
from actors.storage import Folder
from genprm.records import Problem
from genprm.section import Section
from workflows import synthesis
from workflows.benchmarks.overhead import SAMPLES, TOKENS, problems, with_engine
from workflows.benchmarks.scale import driver_mib
from workflows.benchmarks.simulated import SLOW_SEQUENCES, SLOW_STEP_S
from workflows.config import Config
from workflows.stage.graph import run_stage
from workflows.stage.ledger import Ledger
from workflows.stage.run import Run
from workflows.stage.stage import TableStage
from workflows.stage.summary import StageSummary

SIZES = (1, 2, 4, 8)
ROWS_IN_FLIGHT = 2 * SLOW_SEQUENCES // SAMPLES
LOST_AT = 1 / 3
"""Of the rows, when a node is taken away."""
MEMORY_ROWS = 30_000


@contextlib.contextmanager
def local_cluster() -> Iterator[tuple[Any, list[Any]]]:
    """A head and a node of one CPU for each engine, as Ray's own tests make them; both."""
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield cluster, [cluster.add_node(num_cpus=1) for _ in range(SIZES[-1])]
    finally:
        cluster.shutdown()


def scaling_benchmark(config: Config, folder: Path, seconds: float, cluster: Any, nodes: list[Any]) -> dict[str, object]:
    """Each size is measured for about ``seconds``, on a `local_cluster`."""
    throughput = {}
    for number in SIZES:
        rows = int(seconds * number * SLOW_SEQUENCES / SLOW_STEP_S / TOKENS["rollouts"])
        summary, first_s = rollouts(config, folder / f"size-{number}", rows, number, "slow_gpu")
        throughput[number] = summary.tokens / summary.work_seconds
        ideal = number * SLOW_SEQUENCES / SLOW_STEP_S
        rate = throughput[number]
        print(
            f"{number} nodes: {rows:,} rows, {summary.work_seconds:.1f} s, {rate:,.0f} tokens/s, {rate / ideal:.3f} of the ideal, "
            f"{rate / number / throughput[SIZES[0]]:.3f} of one node's a node; first row after {first_s:.1f} s",
            flush=True,
        )
    undisturbed_s = summary.work_seconds
    lost = with_loss(config, folder / "loss", rows, cluster, nodes)
    node_loss_s = lost.work_seconds - undisturbed_s
    print(f"a node is lost, another comes: {lost.work_seconds:.1f} s, {lost.rows_repeated} rows repeated", flush=True)
    before = driver_mib()
    rollouts(config, folder / "memory", MEMORY_ROWS, SIZES[-1], "instant")
    return {
        "benchmark": "scaling",
        "efficiency_8": round(throughput[8] / 8 / throughput[1], 3),
        "first_row_s": round(first_s, 1),
        "driver_mb_per_100k_rows": round((driver_mib() - before) * 100_000 / MEMORY_ROWS, 1),
        "node_loss_s": round(node_loss_s, 1),
        "node_loss_rows_repeated": lost.rows_repeated,
    }


def rollouts(config: Config, folder: Path, rows: int, number: int, engine: str) -> tuple[StageSummary, float]:
    """Rollouts of so many problems on so many engines; and the seconds from the stage's beginning to its first commit."""
    scripted = ScriptedEngineConfig(script=f"workflows.benchmarks.simulated:{engine}", num_cpus=1)
    placed = with_engine(config, scripted, number)
    pool = placed.pools.rollouts.model_copy(update={"rows_in_flight": ROWS_IN_FLIGHT, "commit_rows": ROWS_IN_FLIGHT})
    placed = placed.model_copy(update={"pools": placed.pools.model_copy(update={"rollouts": pool})})
    run = Run.untracked(Folder(str(folder)))
    run_stage(TableStage(name="problems", writes=Problem, settings=Section(), make_rows=lambda _: problems(rows)), run)
    began = time.monotonic()
    first: list[float] = []

    def watch() -> None:
        while not Ledger.is_begun(run.folder / "rollouts"):
            time.sleep(0.05)
        first.append(time.monotonic() - began)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    summary = run_stage(synthesis.rollouts(placed), run)
    watcher.join()
    return summary, first[0]


def with_loss(config: Config, folder: Path, rows: int, cluster: Any, nodes: list[Any]) -> StageSummary:
    """The same on all nodes, one of which is taken away on the way, and another comes."""

    found: list[StageSummary] = []
    thread = threading.Thread(target=lambda: found.append(rollouts(config, folder, rows, SIZES[-1], "slow_gpu")[0]))
    thread.start()
    while Ledger.read(Folder(str(folder)) / "rollouts").rows_in < LOST_AT * rows:
        time.sleep(0.2)
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    nodes.append(cluster.add_node(num_cpus=1))  # in the main thread: Ray sets signal handlers
    thread.join()
    return found[0]
