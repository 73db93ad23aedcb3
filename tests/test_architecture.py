"""Imports go down only, heavy libraries stand where they belong, and asking for help is quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "genprm": {"genprm"},
    "actors": {"genprm", "actors"},
    "cluster": {"cluster", "actors"},
    "workflows": {"genprm", "actors", "cluster", "workflows"},
    "jobs": {"genprm", "actors", "cluster", "workflows", "jobs"},
}
OWNERS = {
    "vllm": {"actors/engine/vllm_engine.py"},
    "deepspeed": {"actors/trainer.py"},
    "mlflow": {"workflows/tracking.py"},
    "openai": {"actors/engine/http_engine.py"},
    "math_verify": {"genprm/grading.py"},
}
RAY_ROOMS = ("workflows/", "cluster/", "actors/remote.py")
NOT_IN_GENPRM = {"ray", "vllm", "torch", "deepspeed", "transformers", "mlflow"}
JOBS = ["synthesize", "train", "evaluate", "search", "demo", "hold_out", "pretrain_toy", "benchmark"]


def files() -> Iterator[tuple[str, set[str]]]:
    """(path, top-level names it imports) of every source file."""
    for room in MAY_IMPORT:
        for file in sorted((ROOT / room).rglob("*.py")):
            names: set[str] = set()
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module.partition(".")[0])
            yield str(file.relative_to(ROOT)), names


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_down_only(room: str) -> None:
    for path, names in files():
        if path.startswith(f"{room}/"):
            assert names & set(MAY_IMPORT) <= MAY_IMPORT[room], path


def test_heavy_libraries_have_one_owner() -> None:
    for path, names in files():
        for library, owners in OWNERS.items():
            assert library not in names or path in owners, f"{path} imports {library}"
        assert "ray" not in names or path.startswith(RAY_ROOMS), f"{path} imports ray"
        assert not (path.startswith("genprm/") and names & NOT_IN_GENPRM), path


@pytest.mark.parametrize("job", JOBS)
def test_help_answers_without_heavy_imports(job: str) -> None:
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('jobs.{job}', run_name='__main__')\n"
        f"except SystemExit: pass\n"
        f"print([name for name in ('torch', 'ray', 'vllm', 'mlflow', 'pyarrow', 'pydantic') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.strip().endswith("[]")
    assert "usage: " in output


def test_the_configuration_imports_nothing_heavy() -> None:
    code = "import sys, jobs.config; print([n for n in ('torch', 'ray', 'vllm', 'mlflow', 'transformers') if n in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
