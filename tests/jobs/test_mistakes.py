"""Bad input is one line and status 2; a dry run says what would be done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.jobs.running import run_job


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
