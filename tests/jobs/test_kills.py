"""A job whose driver is killed, ended by Ctrl-C and SIGTERM, and whose workers are killed, ends with the data of an undisturbed run."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
import ray

from actors.storage import Folder
from jobs.config import load
from tests.jobs.running import PRESET, ROOT, additions, job, scripted, settings
from workflows import synthesis
from workflows.stage import parts
from workflows.stage.graph import run_stages
from workflows.stage.ledger import Ledger
from workflows.stage.links import DONE
from workflows.stage.run import Run

NUM_PROBLEMS, ROWS_IN_FLIGHT = 20, 4
WORKERS = ("ray::Rollouts", "ray::EstimatesPaper")


def kill_worker() -> bool:
    """Kill one of the workers of a stage on our Ray, if there is one."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(WORKERS):  # one that died has none
                process.kill()
                return True
    return False


def finished_rows(run: Folder) -> int:
    return sum(Ledger.read(run / stage).rows_in for stage in ("rollouts", "estimates/paper"))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_and_interrupted_at_random_it_ends_with_the_same_counts(tmp_path: Path, local_ray: None) -> None:
    changes = [
        *scripted("chancy", "policy", "completer"),
        *(f"pools.{stage}.rows_in_flight={ROWS_IN_FLIGHT}" for stage in ("rollouts", "estimates")),
        f"problems.path={additions(tmp_path / 'p.jsonl', NUM_PROBLEMS)}",
        "problems.limit=1000",
    ]
    calm, rough = Folder(str(tmp_path / "calm")), Folder(str(tmp_path / "rough"))
    calm.create()
    run_stages(synthesis.stages(load(PRESET, changes, calm), calm), Run.untracked(calm), ["labels/rpe"])

    address = f"ray.address={ray.get_runtime_context().gcs_address}"
    command = job("synthesize", "--config", PRESET, *settings(*changes, address), "--until", "labels", "--run-dir", rough.uri)
    chance = random.Random(0)
    victims = ["driver", "ctrl-c", "sigterm", "worker"]
    chance.shuffle(victims)
    driver: psutil.Popen | None = None
    output = tmp_path / "output"
    finished = 0
    for victim in [*victims, None]:
        if driver is None:
            with output.open("w") as log:
                driver = psutil.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            while "ray: cluster" not in output.read_text():  # workers of the killed one may still finish something
                assert driver.poll() is None, output.read_text()
                time.sleep(0.02)
            finished = finished_rows(rough)
        before = finished
        while victim is not None and finished == before:  # something new is finished since the last death
            assert driver.poll() is None
            time.sleep(0.02)
            finished = finished_rows(rough)
        if victim is not None:
            time.sleep(chance.uniform(0, 0.3))
        if victim == "worker":
            while not kill_worker():
                assert driver.poll() is None
            continue
        if victim == "driver":
            driver.kill()
        elif victim == "ctrl-c":
            driver.send_signal(signal.SIGINT)
        elif victim == "sigterm":
            driver.send_signal(signal.SIGTERM)
        status = driver.wait(timeout=200)
        assert status == {"driver": -signal.SIGKILL, "ctrl-c": 130, "sigterm": 143, None: 0}[victim], output.read_text()
        assert ("the same command resumes from here" in output.read_text()) == (victim in ("ctrl-c", "sigterm"))
        driver = None

    for stage in ("rollouts", "solutions", "estimates/paper", "labels/rpe"):
        first, second = (sorted(json.dumps(row, sort_keys=True) for row in parts.read_rows(run, stage)) for run in (calm, rough))
        assert first == second
        records = [(run / stage).read_json(DONE) for run in (calm, rough)]
        assert records[0]["contents"] == records[1]["contents"]
        assert records[0]["rejects"] == records[1]["rejects"]
        assert records[0]["rows_repeated"] == 0
    values = {row["start_counts"]["correct"] / 8 for row in parts.read_rows(rough, "estimates/paper")}
    assert len(values) > 2  # counts that chance decides
    repeated = [(rough / stage).read_json(DONE) for stage in ("rollouts", "estimates/paper")]
    assert (
        0 < sum(record["rows_repeated"] for record in repeated) <= len(victims) * 2 * ROWS_IN_FLIGHT
    )  # and those that were done and not committed
    for record in repeated:
        assert (record["tokens_repeated"] > 0) == (record["rows_repeated"] > 0)
        assert record["tokens_repeated"] < record["tokens"]
