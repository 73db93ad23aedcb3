"""Jobs as a user starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PRESET = "jobs/presets/test.toml"


def scripted(script: str, *roles: str) -> list[str]:
    """Settings by which these roles are played by a script of tests/actors/scripts.py."""
    engines = [f"engines.{role}={{type='scripted', script='tests.actors.scripts:{script}'}}" for role in roles]
    return [*engines, "policy.prompt={problem}", "problems.benchmarks=[]", "ray.dashboard=false"]


def settings(*changes: str) -> list[str]:
    """Arguments of a job."""
    return [item for change in changes for item in ("--set", change)]


def job(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"jobs.{name}", *arguments]


def run_job(name: str, *arguments: str, timeout: float = 500) -> subprocess.CompletedProcess[str]:
    return subprocess.run(job(name, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


def additions(file: Path, number: int) -> str:
    file.write_text("".join(json.dumps({"problem": f"{n} plus {n + 1}", "answer": str(2 * n + 1)}) + "\n" for n in range(number)))
    return str(file)
