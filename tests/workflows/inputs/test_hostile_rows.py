"""Whatever a row holds, it is a record or a counted reject."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workflows.inputs.files import write_lines
from workflows.inputs.benchmarks import BenchmarkConfig, read_benchmark
from workflows.inputs.critiques import CritiquesConfig, read_critiques
from workflows.inputs.problems import ProblemsConfig, read_problems
from workflows.inputs.solutions import SolutionsConfig, read_solutions

NAMES = st.sampled_from(
    [
        "problem", "question", "prompt", "answer", "solution", "steps", "completions", "label", "labels", "id", "level", "input",
        "error_steps",
        "modified_process", "Model_Solution_Steps", "Model_Solution_First_Error_Step", "segments", "messages", "critique", "role",
        "content",
        "judged_first_error", "text", "kind", "rating", "chosen_completion", "Options",
    ]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["Step 1: a ки", "P Step 1: a +", "\ud800", "[", "N/A", "\\boxed{1}", "####", "user", "assistant",
        "[{}]", '["a"]', "text"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)), max_leaves=12
)
READERS: list[Callable[[str], tuple[list[Any], list[Any], int]]] = [
    lambda path: read_problems(ProblemsConfig(path=path)),
    lambda path: read_solutions(SolutionsConfig(path=path)),
    lambda path: read_benchmark(BenchmarkConfig(path=path)),
    lambda path: read_critiques(CritiquesConfig(path=path)),
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=8), min_size=1, max_size=5))
def test_any_row_is_read_or_rejected(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        for reader in READERS:
            try:
                records, rejects, num_rows = reader(str(path))
            except ValueError as error:
                message = str(error)
                message.encode()
                assert "path = " in message
                continue
            assert num_rows == len(records) + len(rejects)
            for record in records:
                json.dumps(record.row(), ensure_ascii=False).encode()
            for reject in rejects:
                f"{reject.id}{reject.reason}{reject.detail}".encode()


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(["x.jsonl", "x.json", "x.csv", "x.parquet", "x", "x.jsonl.gz"]),
    st.sampled_from([b"", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh9", b"PAR1", b"[", b"{"]),
)
def test_any_file_is_read_or_refused(content: bytes, name: str, magic: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(magic + content)
        with pytest.raises(ValueError, match=r"problems\.path = "):
            read_problems(ProblemsConfig(path=str(path)))


def test_many_rows_take_little_time(tmp_path: Path) -> None:
    text = "What is {} plus two, if one adds them as one learns it at school, slowly and with care?"
    row = {"answer": "7", "steps": ["Step 1: a " * 5] * 5}
    rows = [{**row, "problem": text.format(number), "label": number % 5} for number in range(10_000)]
    path = write_lines(tmp_path / "rows.jsonl", rows)
    held_out = ("workflows/inputs/held_out/math500.fingerprints.parquet",)
    readers: list[Callable[[], tuple[list[Any], list[Any], int]]] = [
        lambda: read_problems(ProblemsConfig(path=path, benchmarks=held_out)),
        lambda: read_solutions(SolutionsConfig(path=path, benchmarks=held_out)),
        lambda: read_benchmark(BenchmarkConfig(path=path)),
    ]
    for read in readers:
        began = time.process_time()
        assert len(read()[0]) == 10_000
        assert time.process_time() - began < 10  # under 1 s where nothing else runs
