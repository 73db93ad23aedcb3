"""A cluster of two nodes of its own, one of which loses power while a stage runs: ``python -m tests.workflows.stage.node_death FOLDER``.

Prints a line of JSON: the totals, and which workers the driver gave up and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray

from actors.engine.config import ScriptedEngineConfig
from actors.remote import Handles
from actors.storage import Folder
from genprm.records import BenchmarkSolution
from genprm.section import Section
from tests.workflows.stage.test_row_stage import begin, stage
from workflows.stage import parts
from workflows.stage.graph import run_stage
from workflows.stage.ledger import Ledger
from workflows.stage.pool import Pool
from workflows.stage.run import Run
from workflows.stage.terminal import Mode, Terminal
from workflows.stage.tracking import Tracker, TrackingConfig

NUM_ROWS = 320


class Heard(Terminal):
    """Keeps what it is told."""

    def __init__(self, mode: Mode) -> None:
        super().__init__(mode)
        self.heard: list[str] = []

    def warn(self, text: str) -> None:
        self.heard.append(text)


class Marker:
    """Takes its time, and leaves a mark for every row that it has done: its id and the node."""

    def __init__(self, folder: str, _: Section, __: Handles) -> None:
        self._done = Path(folder) / "done"
        self._node = ray.get_runtime_context().get_node_id()

    async def process(self, row: dict[str, Any]) -> Sequence[BenchmarkSolution]:
        await asyncio.sleep(0.4)
        with self._done.open("a") as stream:
            stream.write(f"{row['id']} {self._node}\n")
        return [BenchmarkSolution(id=row["id"], problem=row["text"], steps=("a",), label=-1)]


def main() -> None:
    folder = Path(sys.argv[1])
    os.environ |= {
        "RAY_health_check_initial_delay_ms": "500",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "500",
        "RAY_health_check_failure_threshold": "3",
    }
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
    second = cluster.add_node(num_cpus=2)
    from cluster.session import RayConfig, connect, disconnect

    connect(RayConfig(address=cluster.address))
    terminal = Heard("quiet")
    run = Run(
        folder=begin(folder, rows=NUM_ROWS).folder,
        tracker=Tracker(TrackingConfig(uri="off"), job="t", run=Folder(str(folder)), resolved={}),
        terminal=terminal,
    )

    def lose_power() -> None:
        done = folder / "done"
        while Ledger.read(run.folder / "doubled").rows_in < 30 or second.node_id not in done.read_text():
            time.sleep(0.05)
        raylet = psutil.Process(next(iter(second.all_processes["raylet"])).process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:  # the raylet first: it must not tell of the others' deaths
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)

    threading.Thread(target=lose_power, daemon=True).start()
    pool = Pool(num_workers=2, rows_in_flight=8, commit_rows=4)
    engine = ScriptedEngineConfig(script="tests.actors.scripts:solver", num_cpus=2)
    summary = run_stage(stage(folder, make_worker=partial(Marker, str(folder)), pool=pool, engine=engine), run)
    done = (folder / "done").read_text().splitlines()
    result = {
        "rows": sorted(row["id"] for row in parts.read_rows(run.folder, "doubled")),
        "rejects": summary.rejects,
        "repeated": summary.rows_repeated,
        "done": len(done),
        "warnings": terminal.heard,
    }
    disconnect()
    cluster.shutdown()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
