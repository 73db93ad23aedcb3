"""Jobs that are killed in the middle, or stopped by Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.jobs.running import ROOT, SCRIPTED, additions, job, run_job
from workflows.stage import parts
from workflows.stage.folder import Folder
from workflows.stage.links import DONE


def kill_worker(driver: psutil.Process) -> bool:
    """Kill one of the driver's stage workers, if there is one."""
    for process in driver.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::MapWorker(MapBatches("):  # one that died has none
                process.kill()
                return True
    return False


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_five_times_at_random_it_ends_with_the_same_counts(tmp_path: Path) -> None:
    num_problems, in_flight = 12, 4
    data = additions(tmp_path / "p.jsonl", num_problems)
    engine = "{type='scripted', script='tests.actors.scripts:chancy'}"
    changes = [
        *(f"engines.{role}={engine}" for role in ("policy", "completer")),
        *(f"pools.{stage}.rows_in_flight={in_flight}" for stage in ("rollouts", "estimates")),
        f"problems.path={data}",
        "problems.limit=1000",
    ]
    common = [*SCRIPTED, *(item for change in changes for item in ("--set", change)), "--until", "labels"]
    calm, rough = Folder(str(tmp_path / "calm")), Folder(str(tmp_path / "rough"))
    assert run_job("synthesize", *common, "--run-dir", calm.uri).returncode == 0

    chance = random.Random(0)
    victims = ["driver"] * 2 + ["worker"] * 3
    chance.shuffle(victims)
    driver: psutil.Popen | None = None
    finished: set[str] = set()
    for victim in victims:
        if driver is None:
            command = job("synthesize", *common, "--run-dir", rough.uri)
            driver = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = len(finished)
        while len(finished) == before:  # something new is finished since the last death
            assert driver.poll() is None
            time.sleep(0.02)
            finished = {part for stage in ("rollouts", "estimates/paper") for part in parts.part_names(rough, stage)}
        time.sleep(chance.uniform(0, 0.3))
        if victim == "worker":
            while not kill_worker(driver):
                assert driver.poll() is None
        else:
            driver.kill()
            driver.wait()
            driver = None
    if driver is not None:
        assert driver.wait(timeout=200) == 0
    assert run_job("synthesize", *common, "--run-dir", rough.uri).returncode == 0

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
    assert 0 < sum(record["rows_repeated"] for record in repeated) <= len(victims) * in_flight
    for record in repeated:
        assert (record["tokens_repeated"] > 0) == (record["rows_repeated"] > 0)
        assert record["tokens_repeated"] < record["tokens"]


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_says_how_to_resume(tmp_path: Path) -> None:
    data = additions(tmp_path / "p.jsonl", 40)
    run = Folder(str(tmp_path / "run"))
    child = subprocess.Popen(
        job("synthesize", *SCRIPTED, "--set", f"problems.path={data}", "--set", "problems.limit=40", "--run-dir", run.uri),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(3000):
        if parts.part_names(run, "rollouts"):
            break
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=90)
    assert child.returncode == 130
    assert "the same command resumes from here" in errors
