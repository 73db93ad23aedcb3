"""Three machines and `ray start`: submit, stop, submit again, lose a machine on the way; the data are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.storage import Folder
from tests.jobs.running import PRESET, ROOT, settings
from tests.on_hosts.hosts import Host, hosts
from workflows.stage import parts
from workflows.stage.ledger import Ledger
from workflows.status import read_status

pytestmark = pytest.mark.hosts

BIN = Path(sys.executable).parent
ENVIRONMENT = {
    "PATH": f"{BIN}:{os.environ['PATH']}",
    "HOME": "/root",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
    # a host that is gone is noticed in seconds (docs/cluster.md)
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}
NUM_PROBLEMS = 80
STAGES = ("rollouts", "solutions", "estimates/paper", "labels/rpe")
SMALL = ["--memory", "2000000000", "--object-store-memory", "200000000", "--disable-usage-stats", "--block"]


class Cluster:
    """A head that takes no work, and workers."""

    def __init__(self, head: Host, workers: list[Host]) -> None:
        self.head, self.workers = head, workers
        head.run(
            [str(BIN / "ray"), "start", "--head", "--num-cpus", "0", "--node-ip-address", head.address, "--port", "6379",
             "--dashboard-host", head.address, *SMALL],
            ENVIRONMENT,
        )  # fmt: skip
        self._environment = {**ENVIRONMENT, "RAY_API_SERVER_ADDRESS": f"http://{head.address}:8265"}
        self._wait("the head", lambda: self.ray("job", "list").returncode == 0)
        for worker in workers:
            self.add(worker)
        self._wait("the workers", lambda: self.ray("status").stdout.count(" node_") == 1 + len(workers))

    def add(self, worker: Host) -> None:
        address = f"{self.head.address}:6379"
        worker.run(
            [str(BIN / "ray"), "start", "--address", address, "--num-cpus", "3", "--node-ip-address", worker.address, *SMALL], ENVIRONMENT
        )

    def ray(self, *arguments: str):  # type: ignore[no-untyped-def]
        return self.head.execute([str(BIN / "ray"), *arguments], self._environment, folder=ROOT)

    def submit(self, name: str, *command: str, wait: bool) -> int:
        options = ["--submission-id", name, "--working-dir", ".", *([] if wait else ["--no-wait"])]
        done = self.ray("job", "submit", *options, "--", "python", *command)
        self.last = done.stdout + done.stderr
        return int(done.returncode)

    def state(self, name: str) -> str:
        status = self.ray("job", "status", name)
        said = (status.stdout + status.stderr).upper()
        return next((state for state in ("SUCCEEDED", "STOPPED", "FAILED", "RUNNING") if state in said), "PENDING")

    def wait(self, name: str, *states: str) -> str:
        self._wait(f"{name}: {states}", lambda: self.state(name) in states, 240)
        return self.state(name)

    def _wait(self, what: str, is_so: Callable[[], bool], patience_s: float = 90) -> None:
        until = time.monotonic() + patience_s
        while not is_so():
            assert time.monotonic() < until, f"no sign of {what}\n{self.head.log()[-2000:]}"
            time.sleep(0.5)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with hosts(tmp_path, "head", "one", "two") as (head, *workers):
        yield Cluster(head, workers)


def command(folder: Path, run: Folder) -> list[str]:
    """Synthesis with an engine that takes its time, as a user submits it."""
    problems = folder / "problems.jsonl"
    problems.write_text(
        "".join(json.dumps({"problem": f"What is {n} plus {n + 1}?", "answer": str(2 * n + 1)}) + "\n" for n in range(NUM_PROBLEMS))
    )
    engine = "{type='scripted', script='workflows.benchmarks.simulated:gpu', num_cpus=1}"
    changes = [
        *(f"engines.{role}={engine}" for role in ("policy", "completer")),
        "policy.prompt={problem}",
        f"problems.path={problems}",
        "problems.limit=1000",
        "problems.benchmarks=[]",
        *(f"pools.{pool}={{num_workers='1-2', rows_in_flight=8, commit_rows=4}}" for pool in ("rollouts", "estimates")),
    ]
    return ["-m", "jobs.synthesize", "--config", PRESET, *settings(*changes), "--until", "labels", "--run-dir", run.uri]


def finished(run: Folder, stage: str) -> int:
    return Ledger.read(run / stage).rows_in


@pytest.mark.timeout(900)
def test_stopped_submitted_again_and_a_machine_lost_it_ends_with_the_same_data(cluster: Cluster, tmp_path: Path) -> None:
    calm, rough = Folder(str(tmp_path / "calm")), Folder(str(tmp_path / "rough"))
    assert cluster.submit("calm", *command(tmp_path, calm), wait=True) == 0, cluster.last

    assert cluster.submit("rough-1", *command(tmp_path, rough), wait=False) == 0, cluster.last
    while finished(rough, "rollouts") < 16:
        assert cluster.state("rough-1") in ("PENDING", "RUNNING")
        time.sleep(0.3)
    assert cluster.ray("job", "stop", "rough-1").returncode == 0
    assert cluster.wait("rough-1", "STOPPED", "FAILED", "SUCCEEDED") == "STOPPED"
    done = finished(rough, "rollouts")
    assert 16 <= done < NUM_PROBLEMS
    assert {job.outcome for job in read_status(rough).jobs} == {"interrupted"}

    assert cluster.submit("rough-1", *command(tmp_path, rough), wait=False) != 0  # an id is taken once
    assert cluster.submit("rough-2", *command(tmp_path, rough), wait=False) == 0, cluster.last
    while finished(rough, "rollouts") < done + 16:
        assert cluster.state("rough-2") in ("PENDING", "RUNNING")
        time.sleep(0.3)
    cluster.workers[1].kill()
    assert cluster.wait("rough-2", "SUCCEEDED", "FAILED", "STOPPED") == "SUCCEEDED", cluster.ray("job", "logs", "rough-2").stdout[-3000:]

    for stage in STAGES:
        records = [parts.read_record(run, stage) for run in (calm, rough)]
        assert records[0]["contents"] == records[1]["contents"], stage
        assert records[0]["rejects"] == records[1]["rejects"], stage
    lost = parts.read_record(rough, "rollouts")["rows_repeated"]
    assert 0 < lost <= 2 * 2 * 8  # what was in flight in two workers, twice


@pytest.mark.timeout(300)
def test_a_path_or_a_credential_that_goes_with_the_job_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    run = Folder(str(tmp_path / "run"))
    wrong = [item if item != run.uri else "runs/mine" for item in command(tmp_path, run)]
    assert cluster.submit("relative", *wrong, wait=True) != 0
    assert "--run-dir = 'runs/mine': a submitted job's working directory goes with the job" in cluster.last
    secret = cluster.ray(
        "job", "submit", "--submission-id", "secret", "--working-dir", ".", "--runtime-env-json", '{"env_vars": {"HF_TOKEN": "hidden"}}',
        "--", "python", *command(tmp_path, run),
    )  # fmt: skip
    assert secret.returncode != 0
    assert "HF_TOKEN came with the job's runtime_env" in secret.stdout + secret.stderr
