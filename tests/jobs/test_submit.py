"""A job that is submitted to a cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.jobs.running import ROOT, SCRIPTED, additions
from workflows.stage import parts
from workflows.stage.folder import Folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_is_submitted_to_a_cluster_with_a_token(tmp_path: Path) -> None:
    ray = str(Path(sys.executable).parent / "ray")
    ports = {name: free_port() for name in ("port", "dashboard", "client", "agent")}
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
        str(ports["client"]), "--dashboard-agent-listen-port", str(ports["agent"]),
        "--disable-usage-stats", "--temp-dir", "/tmp/genprm-ray",
    ]  # fmt: skip
    head = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    data = additions(tmp_path / "p.jsonl", 4)
    try:
        submit = [
            ray, "job", "submit", "--address", f"http://127.0.0.1:{ports['dashboard']}", "--working-dir", ".", "--",
            "python", "-m", "jobs.synthesize", *SCRIPTED, "--set", f"problems.path={data}", "--until", "solutions",
            "--run-dir", str(tmp_path / "run"),
        ]  # fmt: skip
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", ports["dashboard"])) == 0:
                    break
            time.sleep(0.2)
        for _ in range(120):  # the dashboard listens before its agent can take jobs
            done = subprocess.run(submit, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False)
            if "No available agent" not in done.stderr + done.stdout:
                break
            time.sleep(0.5)
        assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-3000:]
        assert len(parts.read_rows(Folder(str(tmp_path / "run")), "solutions")) == 8
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
