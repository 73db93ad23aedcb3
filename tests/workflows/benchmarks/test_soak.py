"""A short soak: nothing comes out wrong and nothing stays behind while executors are killed, with namespaces and without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.code_executor import ExecutorConfig
from actors.code_executor.containment import read_cases
from workflows.benchmarks.soak import soak_benchmark

HOSTILE = [
    {"name": "loop", "code": "while True: pass", "status": ["timeout"]},
    {"name": "fork", "code": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "status": ["timeout"]},
    {"name": "memory", "code": "l = []\nwhile True: l.append(bytearray(10**7))", "status": ["error"]},
    {"name": "exit", "code": ["x = 1", "import os; os._exit(3)", "print(x)"], "status": ["ok"]},
    {"name": "flood", "code": "while True: print('x' * 10**5)", "status": ["output_limit"]},
]


@pytest.mark.ray
@pytest.mark.parametrize("namespaces", [True, False])
def test_a_short_soak(tmp_path: Path, local_ray: None, namespaces: bool) -> None:
    snippets = tmp_path / "snippets.jsonl"
    rows = [{"name": row["name"], "category": "soak", "code": row["code"], "expectation": {"status": row["status"]}} for row in HOSTILE]
    snippets.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = ExecutorConfig(num_executors=2, scratch_dir=str(tmp_path), namespaces=namespaces)
    tally = soak_benchmark(config, read_cases(snippets), num_sessions=40, kill_every_s=0.4, seed=0)
    assert (tally.sessions, tally.wrong, tally.left) == (40, [], [])
    assert tally.executors_killed + tally.fork_servers_killed > 0
