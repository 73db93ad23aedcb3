"""Under ``ray job submit``: no credentials in the job's environment, nothing in the working directory that goes with the job."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from cluster.submission import JOB, check_environment, check_place
from genprm.errors import UserError
from tests.jobs.running import PRESET, ROOT, job


def submitted(**env_vars: str) -> dict[str, str]:
    return {JOB: json.dumps({"runtime_env": {"env_vars": env_vars, "working_dir": "gcs://x.zip"}, "metadata": {}})}


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "db_password", "TOKEN"]
)
def test_credentials_in_the_runtime_environment_are_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=rf"^{name} came with the job's runtime_env, .* environment of the nodes") as caught:
        check_environment(submitted(OMP_NUM_THREADS="1", **{name: "hidden"}))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {JOB: ""},
        submitted(),
        submitted(TOKENIZERS_PARALLELISM="false", MONKEY="1"),
        {JOB: "{"},
        {JOB: "[]"},
        {JOB: '{"runtime_env": 3}'},
    ],
)
def test_what_is_no_credential_passes(environment: dict[str, str]) -> None:
    check_environment(environment)


def test_a_path_must_outlive_the_job() -> None:
    with pytest.raises(UserError, match=r"--run-dir = 'runs/x': a submitted job's working directory goes with the job"):
        check_place("runs/x", "--run-dir", submitted())
    for place, environment in (("/shared/x", submitted()), ("s3://b/x", submitted()), ("runs/x", {})):
        check_place(place, "--run-dir", environment)


@pytest.mark.parametrize(
    ("more", "env_vars", "message"),
    [
        ([], {}, "error: --run-dir = 'runs/test': a submitted job's working directory"),
        (
            ["--run-dir", "/tmp/never", "--set", "tracking.uri=sqlite:///runs/mlflow.db"],
            {},
            "error: tracking.uri = 'runs/mlflow.db': a sub",
        ),
        (["--run-dir", "/tmp/never"], {"HF_TOKEN": "x"}, "error: HF_TOKEN came with the job's runtime_env"),
    ],
)
def test_a_job_refuses_them(more: list[str], env_vars: dict[str, Any], message: str) -> None:
    command = job("synthesize", "--config", PRESET, *more)
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **submitted(**env_vars)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.startswith(message)) == (2, True), done.stderr
