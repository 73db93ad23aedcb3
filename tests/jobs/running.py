"""Jobs as a user starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
