"""A short soak: nothing comes out wrong and nothing stays behind while executors are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HOSTILE = [
    {"name": "loop", "code": "while True: pass", "status": ["timeout"]},
    {"name": "fork", "code": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "status": ["timeout"]},
    {"name": "memory", "code": "l = []\nwhile True: l.append(bytearray(10**7))", "status": ["error"]},
    {"name": "exit", "code": ["x = 1", "import os; os._exit(3)", "print(x)"], "status": ["ok"]},
    {"name": "flood", "code": "while True: print('x' * 10**5)", "status": ["output_limit"]},
]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("namespaces", ["true", "false"])
def test_a_short_soak(tmp_path: Path, namespaces: str) -> None:
    snippets = tmp_path / "snippets.jsonl"
    rows = [{"name": row["name"], "category": "soak", "code": row["code"], "expectation": {"status": row["status"]}} for row in HOSTILE]
    snippets.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"num_executors": 2, "scratch_dir": tmp_path, "namespaces": namespaces}
    command = [
        sys.executable, "-m", "jobs.benchmark", "soak", "--config", "jobs/presets/test.toml", "--sessions", "50", "--kill-every", "3",
        "--snippets", str(snippets), "--set", "ray.dashboard=false",
        *(item for name, value in settings.items() for item in ("--set", f"executor.{name}={value}")),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result == {"benchmark": "soak", "sessions": 50, "wrong": 0, "left": 0}
    assert "executors killed" in done.stdout
