"""The batch script for Slurm, as far as it can be checked without Slurm; tests/on_hosts runs it."""

from __future__ import annotations

import subprocess

from tests.cluster.tools import run_tool
from tests.jobs.running import ROOT

SCRIPT = "cluster/slurm/genprm.sbatch"


def test_shellcheck_finds_nothing() -> None:
    assert run_tool("shellcheck", SCRIPT) == ""


def test_without_a_job_it_says_how_it_is_used() -> None:
    done = subprocess.run(["bash", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith("usage: sbatch")) == (2, True)


def test_outside_of_the_repository_it_says_where_to_run_it(tmp_path: object) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / SCRIPT), "train"], cwd=str(tmp_path), env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "run sbatch from the root of the repository" in done.stderr) == (2, True)
