"""What a stage holds is counted in its ledger; a run whose budget is spent stops between rows, and resumes."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.storage import Folder
from cluster.plan import Demand
from tests.workflows.stage.endpoint import Asker, serving
from tests.workflows.stage.test_row_stage import begin, ids, stage
from workflows.benchmarks.free_port import free_port
from workflows.stage import ledger as ledgers
from workflows.stage import parts
from workflows.stage import usage as usages
from workflows.stage.errors import StageFailed
from workflows.stage.graph import run_stage
from workflows.stage.ledger import Commit, Ledger, Usage
from workflows.stage.links import DONE
from workflows.stage.pool import Pool
from workflows.stage.run import Run
from workflows.stage.usage import Budget, BudgetConfig, Meter
from workflows.status import usage_of


def test_workers_and_services_are_counted_for_as_long_as_they_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(usages, "time", SimpleNamespace(monotonic=lambda: now[0]))
    ledger, budget = Ledger(Folder(str(tmp_path))), Budget(BudgetConfig(gpu_hours=1), spent_gpu_s=3580)
    worker, services = Demand(cpus=1, gpus=2), Demand(cpus=3)
    meter = Meter(ledger=ledger, budget=budget, worker=[worker], services=[services, services])
    now[0] += 4
    meter.count(worker_s=9)  # three workers for three seconds, say
    assert ledger.usage == Usage(cpu_s=9 + 4 * 6, gpu_s=18)
    assert not budget.is_spent
    meter.count(worker_s=1)
    assert budget.is_spent
    assert str(budget).startswith("budget.gpu_hours = 1 are spent (1 in this run so far)")
    assert not Budget(BudgetConfig(), spent_gpu_s=1e9).is_spent


def test_costs_are_written_with_commits_and_alone_only_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(str(tmp_path))
    ledger = Ledger(folder)
    ledger.use(Usage(cpu_s=2.0, gpu_s=1.5))
    for _ in range(3):
        ledger.fail("EngineError")
    ledger.flush(if_due=True)
    assert not Ledger.is_begun(folder)  # an object store would get a file a second
    ledger.commit(Commit(part="p", rows_in=1, rows_out=1, keys=["a"]))
    ledger.use(Usage(gpu_s=0.5))
    ledger.flush()
    ledger.flush()
    assert (folder / ledgers.LEDGER).names() == ["00000000.jsonl"]
    monkeypatch.setattr(ledgers, "COST_EVERY_S", 0.0)
    ledger.fail("ActorLost")
    ledger.flush(if_due=True)
    for found in (ledger, Ledger.read(folder)):
        assert found.usage == Usage(cpu_s=2.0, gpu_s=2.0)
        assert found.failures == {"EngineError": 3, "ActorLost": 1}
    assert usage_of(Folder(str(tmp_path.parent)), tmp_path.name) == Usage(cpu_s=2.0, gpu_s=2.0)


@pytest.mark.ray
def test_a_run_whose_budget_is_spent_stops_between_rows_and_resumes(tmp_path: Path, local_ray: None) -> None:
    begun = begin(tmp_path, rows=60)
    run = Run(
        folder=begun.folder, tracker=begun.tracker, terminal=begun.terminal, budget=Budget(BudgetConfig(gpu_hours=1), spent_gpu_s=3599)
    )
    with serving(free_port(), latency_s=0.1) as endpoint:
        asking = stage(tmp_path, make_worker=partial(Asker, endpoint.url), pool=Pool(rows_in_flight=4, commit_rows=4))

        def spend() -> None:
            while len(endpoint.answered) < 10:
                time.sleep(0.01)
            run.budget.spend(1.0)

        thread = threading.Thread(target=spend)
        thread.start()
        with pytest.raises(StageFailed, match=r"stage doubled stopped with \d+ rows left: budget.gpu_hours = 1 are spent .*it resumes"):
            run_stage(asking, run)
        thread.join()
        ledger = Ledger.read(run.folder / "doubled")
        assert 10 <= ledger.rows_in < 60
        assert ledger.rows_in == len(endpoint.answered)  # what was begun was finished, nothing is to be repeated
        assert ledger.lost.rows == 0
        assert not parts.is_finished(run.folder, "doubled")

        summary = run_stage(asking, begun)
        assert (summary.rows_in, len(set(ids(begun)))) == (60, 60)
        assert len(endpoint.answered) == 60
    assert summary.cpu_seconds > ledger.usage.cpu_s > 0
    assert (run.folder / "doubled").read_json(DONE)["cpu_seconds"] == summary.cpu_seconds
