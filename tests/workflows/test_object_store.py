"""The whole loop in an object store: the same data as on a file system, whatever the server does on the way."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from actors.storage import Folder
from genprm.errors import UserError
from tests.actors.scripts import CALLS
from tests.workflows.scripted_loop import all_stages, configuration, rows
from tests.workflows.stage.test_row_stage import begin_in, stage
from workflows import evaluation, search, training
from workflows.benchmarks.s3_server import Server
from workflows.stage import lock, parts
from workflows.stage.graph import run_stage, run_stages
from workflows.stage.ledger import Ledger
from workflows.stage.links import DONE
from workflows.stage.lock import locked
from workflows.stage.run import Run

pytestmark = pytest.mark.ray


class Faults(threading.Thread):
    """What the server does while a stage runs: fails, is slow, is dead, each for half a second, and then well for one."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._over = threading.Event()
        self.num_faults = 0

    def run(self) -> None:
        while not self._over.is_set():
            for fault in ("503", "slow", "dead"):
                self._server.control(fault)
                self._over.wait(0.5)
                self._server.control("ok")
                self.num_faults += 1
                self._over.wait(1.0)

    def end(self) -> None:
        self._over.set()
        self.join()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_whole_loop_with_two_models_in_an_object_store(calm: Folder, s3: Server, tmp_path: Path, local_ray: None) -> None:
    run = Folder(s3.make_bucket("loop")) / "runs" / "one"
    run.create()
    configuration(tmp_path, run)  # writes the files
    inputs = run / "inputs"
    inputs.upload("problems.jsonl", tmp_path / "problems.jsonl")
    inputs.upload("benchmark.json", tmp_path / "benchmark.json")
    changes = [
        f"problems.path={inputs.uri}/problems.jsonl",
        f"benchmarks={{sums={{path='{inputs.uri}/benchmark.json'}}}}",
        f"search_problems={{sums={{path='{inputs.uri}/problems.jsonl'}}}}",
        *("train.num_workers=1", "train.epochs=1", "train.batch_size=4", "train.checkpoint_every_steps=2"),
        "models={small={conversations='rpe'},large={conversations='rpe',learning_rate=0.002}}",
    ]
    config = configuration(tmp_path, run, changes)
    calls = Path(os.environ[CALLS])
    faults = Faults(s3)
    faults.start()
    try:
        stages = all_stages(config, run)
        run_stages(stages, Run.untracked(run), [stage.name for stage in stages if stage.name != "estimates/thrifty"])
        before = calls.stat().st_size
        run_stages(training.stages(config), Run.untracked(run))
        assert calls.stat().st_size == before > 0  # a second model costs no engine call
    finally:
        faults.end()
    assert faults.num_faults > 3
    for name in ("rollouts", "solutions", "estimates/paper", "labels/rpe", "rationales", "conversations/rpe", "evaluate/genprm/sums"):
        assert rows(run, name) == rows(calm, name)
        assert (run / name).read_json(DONE)["contents"] == (calm / name).read_json(DONE)["contents"]
    assert evaluation.scores(run, "genprm", "sums") == evaluation.scores(calm, "genprm", "sums")
    assert search.scores(run, "genprm", "sums") == search.scores(calm, "genprm", "sums")
    losses = {}
    for model in ("small", "large"):
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(training.export_folder(run, model).names())
        losses[model] = [row["loss"] for row in parts.read_rows(run, f"train/{model}")]
        assert len(losses[model]) == 6
        assert (run / f"train/{model}/checkpoints").read_bytes("latest").decode() == "step-6"
    assert losses["small"][0] == pytest.approx(losses["large"][0], rel=1e-4)  # the same model and rows before the first step
    assert losses["small"][-1] != pytest.approx(losses["large"][-1], rel=1e-3)


def test_a_block_costs_two_puts_and_no_listing(s3: Server, tmp_path: Path, local_ray: None) -> None:
    run = begin_in(Folder(s3.make_bucket("blocks")) / "run", tmp_path, rows=200)
    made, made_in = stage(tmp_path), run.folder / "doubled"
    before = s3.counts()
    run_stage(made, run)
    used = s3.counts() - before
    num_blocks = Ledger.read(made_in).num_commits
    assert num_blocks >= 20
    assert num_blocks <= used["PUT"] <= 2 * num_blocks + 8  # and the plan, the record, the merged file and ledger
    assert used["LIST"] <= 3  # of what is deleted at the end


def test_a_lock_in_an_object_store(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEW_S", 0.2)
    monkeypatch.setattr(lock, "EXPIRE_S", 2.0)
    run = Folder(s3.make_bucket("lock")) / "run"
    said: list[str] = []
    with locked(run):
        time.sleep(0.6)  # renewed meanwhile
        with pytest.raises(UserError, match=r"another job \(process \d+ on .*\) is running there"), locked(run, say=said.append):
            pass
    assert "is locked by process" in said[0]
    assert not run.exists(lock.LOCK)  # given back

    dead: dict[str, Any] = {"holder": "process 1 on a-host-that-is-gone", "id": "0", "renewed": 0.0}
    run.write_bytes(lock.LOCK, json.dumps(dead).encode())
    began = time.monotonic()
    with locked(run, say=said.append):
        assert 1.5 < time.monotonic() - began < 10
        assert run.read_json(lock.LOCK)["id"] != "0"
    assert "a-host-that-is-gone" in said[1]


def test_of_two_that_wait_for_a_dead_holder_one_gets_the_lock(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "EXPIRE_S", 1.0)
    run = Folder(s3.make_bucket("two")) / "run"
    run.write_bytes(lock.LOCK, b'{"holder": "h", "id": "0", "renewed": 0}')
    results: list[str] = []
    barrier = threading.Barrier(2)

    def compete() -> None:
        barrier.wait()
        try:
            with locked(run, say=lambda _: None):
                results.append("held")
                time.sleep(3)
        except UserError:
            results.append("refused")

    threads = [threading.Thread(target=compete) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["held", "refused"]


def test_a_holder_whose_lock_was_taken_over_ends_and_one_whose_answer_was_lost_goes_on(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEW_S", 0.1)
    signals: list[int] = []
    monkeypatch.setattr("workflows.stage.lock.os.kill", lambda _, number: signals.append(number))
    run = Folder(s3.make_bucket("taken")) / "run"
    with locked(run):
        unheard = run.read_json(lock.LOCK) | {"renewed": 1.0}  # its own write, whose answer was lost
        run.write_bytes(lock.LOCK, json.dumps(unheard).encode())
        time.sleep(0.5)
        assert run.read_json(lock.LOCK)["renewed"] > 1.0  # renewed since
        assert signals == []
        other = {"holder": "process 1 on another host", "id": "0", "renewed": 2.0}
        run.write_bytes(lock.LOCK, json.dumps(other).encode())
        time.sleep(0.5)
        assert signals == [signal.SIGTERM]
    assert run.read_json(lock.LOCK) == other  # which is not its to delete


def test_a_ledger_whose_answer_was_lost_is_no_other_job(s3: Server) -> None:
    from tests.workflows.stage.test_ledger import commit

    folder = Folder(s3.make_bucket("answer")) / "stage"
    ledger = Ledger.read(folder)
    ledger.commit(commit("a", ["1"]))
    data = ledger._waiting[0] + "\n"
    (folder / "_ledger").write_bytes("00000000.jsonl", data.encode())  # the write that was answered to nobody
    ledger.flush()
    assert Ledger.read(folder).rows_in == 1
