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
    "cluster": {"genprm", "cluster"},
    "workflows": {"genprm", "actors", "cluster", "workflows"},
    "jobs": {"genprm", "actors", "cluster", "workflows", "jobs"},
}
OWNERS = {
    "vllm": {"actors/engine/vllm_engine.py", "workflows/benchmarks/timed_vllm.py"},
    "deepspeed": {"actors/training/trainer.py"},
    "mlflow": {"workflows/stage/tracking.py"},
    "openai": {"actors/engine/http_engine.py"},
    "math_verify": {"genprm/grading/comparison.py"},
    "rich": {"workflows/stage/bars.py"},
}
RAY_ROOMS = ("workflows/", "cluster/", "actors/remote.py")
NOT_IN_GENPRM = {
    "ray", "vllm", "torch", "deepspeed", "transformers", "mlflow", "datasets",
    "os", "io", "pathlib", "shutil", "tempfile", "socket", "subprocess", "multiprocessing", "threading", "asyncio", "signal",
}  # fmt: skip
"""Heavy libraries, I/O and processes."""
IO_CALLS = {"open", "print", "input", "exec", "eval"}
KNOW_THE_TOY_WORLD = ("genprm/toy/", "workflows/demo/", "jobs/demo.py", "jobs/pretrain_toy.py", "jobs/__init__.py")
JOBS = ["synthesize", "train", "evaluate", "search", "demo", "hold_out", "pretrain_toy", "benchmark", "status", "plan"]


def modules() -> Iterator[tuple[str, ast.Module]]:
    """(path, tree) of every source file."""
    for room in MAY_IMPORT:
        for file in sorted((ROOT / room).rglob("*.py")):
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text())


def imports(tree: ast.Module) -> Iterator[str]:
    """Full names of all that a module imports anywhere in it, also in functions and for type checkers only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files() -> Iterator[tuple[str, set[str]]]:
    """(path, top-level names it imports) of every source file."""
    for path, tree in modules():
        yield path, {name.partition(".")[0] for name in imports(tree)}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_down_only(room: str) -> None:
    for path, names in files():
        if path.startswith(f"{room}/"):
            assert names & set(MAY_IMPORT) <= MAY_IMPORT[room], path


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path, tree in modules():
        name = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        graph[name] = set(imports(tree)) - {name}
    for name, names in graph.items():
        found = names & set(graph)  # a package that is named for one of its modules is no import of its own
        graph[name] = {one for one in found if not any(other.startswith(f"{one}.") for other in found)}
    while leaves := {name for name, names in graph.items() if not names}:
        graph = {name: names - leaves for name, names in graph.items() if name not in leaves}
    assert graph == {}


def test_heavy_libraries_have_one_owner() -> None:
    for path, names in files():
        for library, owners in OWNERS.items():
            assert library not in names or path in owners, f"{path} imports {library}"
        assert "ray" not in names or path.startswith(RAY_ROOMS), f"{path} imports ray"


def test_the_method_has_no_io_and_no_processes() -> None:
    for path, tree in modules():
        if path.startswith("genprm/"):
            names = {name.partition(".")[0] for name in imports(tree)}
            assert not names & NOT_IN_GENPRM, path
            calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
            assert not calls & IO_CALLS, path


def test_only_the_demo_knows_the_arithmetic_world() -> None:
    for path, tree in modules():
        if not path.startswith(KNOW_THE_TOY_WORLD):
            assert "toy" not in ast.unparse(tree).lower(), path


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
    heavy = ("torch", "ray", "vllm", "mlflow", "transformers")
    code = f"import sys, jobs.config, workflows.demo.results; print([name for name in {heavy} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
