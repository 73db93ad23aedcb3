"""The whole loop with real engines, submitted to a cluster that asks for a token, as a user does it; a trainer is killed on the way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from actors.storage import Folder
from actors.training.config import TrainConfig
from genprm.records import Conversation
from jobs.config import load
from tests.cluster.test_monitoring import metrics_used
from tests.jobs.running import PRESET, ROOT, run_job, settings
from tests.workflows.scripted_loop import killing, rows
from workflows.benchmarks.free_port import free_port
from workflows.stage import parts
from workflows.status import read_status

ENGINE_STAGES = ("rollouts", "estimates", "rationales", "train", "evaluate", "search")
RAY = str(Path(sys.executable).parent / "ray")


@contextlib.contextmanager
def head_node(folder: Path) -> Iterator[tuple[Mapping[str, str], set[str]]]:
    """A cluster of one node; gives the environment of those who use it, and the names of the metrics that it has had so far."""
    port, dashboard, client, agent, metrics = (str(free_port()) for _ in range(5))
    environment = (
        os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # jobs run the python that the head node finds
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
            "RAY_TMPDIR": str(folder)[:60],
            "RAY_metrics_report_interval_ms": "2000",
        }
    )
    command = [
        RAY, "start", "--head", "--block", "--num-cpus", "6", "--node-ip-address", "127.0.0.1", "--port", port,
        "--dashboard-host", "127.0.0.1", "--dashboard-port", dashboard, "--ray-client-server-port", client,
        "--dashboard-agent-listen-port", agent, "--metrics-export-port", metrics, "--disable-usage-stats", "--temp-dir", "/tmp/genprm-ray",
    ]  # fmt: skip
    head = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(dashboard))) == 0:
                    break
            time.sleep(0.2)
        with scraping(f"http://127.0.0.1:{metrics}/metrics") as names:
            yield {**environment, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}, names
    finally:
        head.terminate()  # it ends its processes
        try:
            head.wait(timeout=3)
        except subprocess.TimeoutExpired:  # Ray waits 30 s for actors of Ray Data that outlive their job
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()


@contextlib.contextmanager
def scraping(url: str) -> Iterator[set[str]]:
    """What Prometheus would find there, by names."""
    names: set[str] = set()
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(2):
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
                names.update(re.findall(r"^(ray_\w+)", answer.read().decode(), re.MULTILINE))

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield names
    finally:
        over.set()
        thread.join()


def submit(environment: Mapping[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    arguments = [RAY, "job", "submit", "--working-dir", ".", "--", *command]
    for _ in range(120):
        done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1000, check=False)
        if "No available agent" not in done.stderr + done.stdout:  # the dashboard listens before its agent can take jobs
            break
        time.sleep(0.5)
    return done


@pytest.mark.ray
@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(1100)
def test_the_whole_loop_runs_as_a_submitted_job_and_a_second_time_only_shows(tmp_path: Path, process_group: None) -> None:
    run = tmp_path / "run"
    changes = [f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}", "models.genprm.epochs=2", "engines.completer.log_stats=true"]
    arguments = ["--config", PRESET, "--run-dir", str(run), *settings(*changes)]
    checkpoint = run / "train" / "genprm" / "checkpoints" / "latest"
    with head_node(tmp_path) as (environment, metrics), killing(["ray::RayTrainWorker"], checkpoint.is_file) as killed:
        done = submit(environment, "python", "-m", "jobs.demo", *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = json.loads((run / "results.json").read_text())
    stages = {row["stage"]: row for row in results["stages"]}
    assert list(stages) == [
        "problems", "rollouts", "solutions", "estimates/paper", "estimates/thrifty", "labels/rpe", "rationales", "conversations/rpe",
        "train/genprm", "benchmarks/toy", "evaluate/trained/toy", "search_problems/heldout", "search/trained/heldout",
    ]  # fmt: skip
    for row in stages.values():
        assert row["rows_in"] >= 1
    assert stages["estimates/paper"]["rows_in"] == stages["solutions"]["rows_out"]
    labels = results["oracle"]["labels"]
    assert labels["paper"]["num_solutions"] == stages["labels/rpe"]["rows_out"]
    assert 0 < labels["thrifty"]["completions"] < labels["paper"]["completions"]
    assert (run / "train" / "genprm" / "export" / "model.safetensors").is_file()
    assert (run / "report.html").is_file()
    assert "finished before" not in done.stdout

    assert killed == ["ray::RayTrainWorker"]
    folder = Folder(str(run))
    steps = parts.read_rows(folder, "train/genprm")
    undisturbed = undisturbed_training(load(PRESET, changes, folder).models["genprm"], rows(folder, "conversations/rpe"))
    assert [row["step"] for row in steps] == [row["step"] for row in undisturbed]
    assert [row["loss"] for row in steps] == pytest.approx([row["loss"] for row in undisturbed], rel=1e-3)

    assert metrics_used() - metrics <= {"ray_genprm_failed_tries_total", "ray_genprm_gpu_seconds_total"}  # none failed, none is here
    status = read_status(folder)
    assert [stage.stage for stage in status.stages] == list(stages)
    assert {stage.state for stage in status.stages} == {"finished"}
    assert status.jobs[0].outcome == "finished"
    used = {stage.stage for stage in status.stages if stage.usage.cpu_s > 0}
    assert used == {stage for stage in stages if stage.partition("/")[0] in ENGINE_STAGES}

    names = {row[0] for row in sqlite3.connect(tmp_path / "mlflow.db").execute("select name from runs")}
    assert {"rollouts", "estimates/paper", "train/genprm", "search/trained/heldout"} <= names

    again = run_job("demo", *arguments, timeout=30)
    assert again.returncode == 0
    assert "finished before" in again.stdout
    other = run_job("demo", *arguments, "--set", "labels.rpe.epsilon=0.5", timeout=30)
    assert other.returncode == 2
    assert "other settings" in other.stderr


def undisturbed_training(config: TrainConfig, conversations: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The steps of the same training in this process alone."""
    import torch

    from actors.training.trainer import Trainer

    alone = config.model_copy(update={"num_workers": 1})
    return list(Trainer(alone, [Conversation.of(row) for row in conversations], device=torch.device("cpu")).train())
