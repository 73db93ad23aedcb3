"""The whole loop with real engines, as a user starts it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.jobs.running import run_job


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

    names = {row[0] for row in sqlite3.connect(tmp_path / "mlflow.db").execute("select name from runs")}
    assert {"rollouts", "estimates/paper", "train/genprm", "search/trained/heldout"} <= names

    again = run_job("demo", *arguments, *tracked, timeout=30)
    assert again.returncode == 0
    assert "finished before" in again.stdout
    other = run_job("demo", *arguments, *tracked, "--set", "labels.rpe.epsilon=0.5", timeout=30)
    assert other.returncode == 2
    assert "other settings" in other.stderr
