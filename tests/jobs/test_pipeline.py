"""The jobs as a user starts them: whole, killed in the middle, submitted to a cluster, given bad input."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from workflows.stage import parts
from workflows.stage.folder import Folder
from workflows.stage.links import DONE

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTED = [
    "--config", "jobs/presets/test.toml",
    "--set", "engines.policy={type='scripted', script='tests.actors.scripts:slow'}",
    "--set", "policy.prompt={problem}",
    "--set", "ray.dashboard=false",
    "--set", "problems.benchmarks=[]",
]  # fmt: skip


def job(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"jobs.{name}", *arguments]


def run_job(name: str, *arguments: str, timeout: float = 500) -> subprocess.CompletedProcess[str]:
    return subprocess.run(job(name, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


def additions(file: Path, number: int) -> str:
    file.write_text("".join(json.dumps({"problem": f"{n} plus {n + 1}", "answer": str(2 * n + 1)}) + "\n" for n in range(number)))
    return str(file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "labels.rpe.epsilom=1"], "labels.rpe.epsilom: there is no such setting"),
        (["--set", "problems.path=nowhere.jsonl"], "problems.path = 'nowhere.jsonl': there is no such file"),
        (["--config", "nowhere.toml"], "--config = 'nowhere.toml'"),
        (["--run-dir", "/proc/run"], "--run-dir: can't write to '/proc/run'"),
        (["--set", "engines.policy.model=./nowhere"], "engines.policy.model = './nowhere'"),
    ],
)
@pytest.mark.ray
def test_a_users_mistake_is_one_line_and_status_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    given = ["--config", "jobs/presets/test.toml", "--run-dir", str(tmp_path / "run"), *arguments]
    done = run_job("synthesize", *given)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["synthesize", "train", "demo", "benchmark"])
def test_without_a_configuration_the_presets_are_named(name: str) -> None:
    done = run_job(name, *(["engine"] if name == "benchmark" else []))
    assert done.returncode == 2
    assert "--config is missing" in done.stderr
    assert "jobs/presets/laptop.toml" in done.stderr


def test_dry_run_prints_the_resolved_configuration_and_the_stages(tmp_path: Path) -> None:
    done = run_job("synthesize", "--config", "jobs/presets/paper.toml", "--dry-run", "--until", "labels")
    assert done.returncode == 0
    body, _, plan = done.stdout.rpartition("would run")
    assert json.loads(body)["rollouts"]["max_paths"] == 2048
    assert plan.strip().endswith("problems -> rollouts -> solutions -> estimates/paper -> labels/rpe")


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


@pytest.mark.ray
@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(1100)
def test_the_whole_loop_runs_and_a_second_time_only_shows(tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--config", "jobs/presets/test.toml", "--run-dir", str(run)]
    tracked = ["--set", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"]
    done = run_job("demo", *arguments, *tracked, timeout=1000)
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

    import sqlite3

    names = {row[0] for row in sqlite3.connect(tmp_path / "mlflow.db").execute("select name from runs")}
    assert {"rollouts", "estimates/paper", "train/genprm", "search/trained/heldout"} <= names

    again = run_job("demo", *arguments, *tracked, timeout=30)
    assert again.returncode == 0
    assert "finished before" in again.stdout
    other = run_job("demo", *arguments, *tracked, "--set", "labels.rpe.epsilon=0.5", timeout=30)
    assert other.returncode == 2
    assert "other settings" in other.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_is_submitted_to_a_cluster_with_a_token(tmp_path: Path) -> None:
    ray = str(Path(sys.executable).parent / "ray")
    ports = {name: free_port() for name in ("port", "dashboard", "client")}
    environment = (
        os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # jobs run the python that the head node finds
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
            "RAY_TMPDIR": str(tmp_path)[:60],
        }
    )
    command = [
        ray, "start", "--head", "--block", "--num-cpus", "6", "--node-ip-address", "127.0.0.1", "--port", str(ports["port"]),
        "--dashboard-host", "127.0.0.1", "--dashboard-port", str(ports["dashboard"]), "--ray-client-server-port",
        str(ports["client"]), "--disable-usage-stats", "--temp-dir", "/tmp/genprm-ray",
    ]  # fmt: skip
    head = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    data = additions(tmp_path / "p.jsonl", 4)
    try:
        submit = [
            ray, "job", "submit", "--address", f"http://127.0.0.1:{ports['dashboard']}", "--working-dir", ".", "--",
            "python", "-m", "jobs.synthesize", *SCRIPTED, "--set", f"problems.path={data}", "--until", "solutions",
            "--run-dir", str(tmp_path / "run"),
        ]  # fmt: skip
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports["dashboard"])) == 0:
                    break
            time.sleep(0.5)
        for _ in range(20):  # the dashboard listens before its agent can take jobs
            done = subprocess.run(submit, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False)
            if "No available agent" not in done.stderr + done.stdout:
                break
            time.sleep(3)
        assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-3000:]
        assert len(parts.read_rows(Folder(str(tmp_path / "run")), "solutions")) == 8
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
