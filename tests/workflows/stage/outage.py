"""How stages of 2,000 rows bear outages: ``python -m tests.workflows.stage.outage`` (5 minutes; docs/scale.md has the figures).

An endpoint refuses connections for two minutes; the S3 server of the run directory answers 503 for one; then its requests are counted.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from actors.storage import Folder
from workflows.benchmarks import s3_server
from workflows.benchmarks.free_port import free_port
from workflows.stage.ledger import Ledger

NUM_ROWS = 2000


def measure(name: str, run_folder: Folder, seconds: float, begin_fault: Callable[..., object], end_fault: Callable[..., object]) -> None:
    """Print what became of the rows; the fault begins when 600 are answered."""
    from tests.workflows.stage.endpoint import Asker, serving
    from tests.workflows.stage.test_row_stage import begin_in, stage
    from workflows.stage.graph import run_stage
    from workflows.stage.limits import FailureLimits
    from workflows.stage.pool import Pool

    with tempfile.TemporaryDirectory() as folder, serving(free_port(), latency_s=0.2) as endpoint:
        run = begin_in(run_folder, Path(folder), rows=NUM_ROWS)
        pool = Pool(rows_in_flight=16, commit_rows=16)
        asking = stage(Path(folder), make_worker=partial(Asker, endpoint.url), pool=pool, limits=FailureLimits())
        ended = [0.0]

        def outage() -> None:
            while len(endpoint.answered) < 600:
                time.sleep(0.05)
            begin_fault(endpoint)
            time.sleep(seconds)
            end_fault(endpoint)
            ended[0] = time.monotonic()

        thread = threading.Thread(target=outage)
        thread.start()
        summary = run_stage(asking, run)
        thread.join()
        print(
            f"{name}: {summary.rows_out:,} of {summary.rows_in:,} rows, rejects {summary.rejects}, answered twice "
            f"{sum(number > 1 for number in endpoint.answered.values())}, ended {time.monotonic() - ended[0]:.0f} s after",
            flush=True,
        )


def main() -> None:
    port = free_port()
    os.environ |= s3_server.environment(port)
    from cluster.session import RayConfig, connect, disconnect

    connect(RayConfig(num_cpus=8, dashboard=False))
    with tempfile.TemporaryDirectory() as folder, s3_server.serving(port) as server:
        run = Folder(folder) / "run"
        measure("endpoint down for 120 s", run, 120, lambda endpoint: endpoint.down(), lambda endpoint: endpoint.up())
        store = Folder(server.make_bucket("outage"))
        measure("S3 server 503 for 60 s", store / "failing", 60, lambda _: server.control("503"), lambda _: server.control("ok"))
        before = server.counts()
        measure("S3 server as usual", store / "usual", 0, lambda _: None, lambda _: None)
        used = dict(server.counts() - before)
        print(f"requests {used} for {Ledger.read(store / 'usual' / 'doubled').num_commits} blocks", flush=True)
    disconnect()


if __name__ == "__main__":
    main()
