"""The rows that docs/own-data.md shows are read."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.inputs.files import write_lines
from workflows.inputs.benchmarks import BenchmarkConfig, read_benchmark
from workflows.inputs.critiques import CritiquesConfig, read_critiques
from workflows.inputs.problems import ProblemsConfig, read_problems
from workflows.inputs.solutions import SolutionsConfig, read_solutions

PAGE = Path(__file__).resolve().parents[3] / "docs" / "own-data.md"
Reader = Callable[[str], tuple[list[Any], list[Any], int]]


def rows_under(heading: str) -> list[str]:
    section = re.split(r"^#{2,3} ", PAGE.read_text(), flags=re.MULTILINE)
    text = next(part for part in section if part.startswith(f"{heading}\n"))
    return [
        line for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for line in block.splitlines() if line[0] == "{"
    ]


@pytest.mark.parametrize(
    ("heading", "number", "read"),
    [
        ("Problems", 1, lambda path: read_problems(ProblemsConfig(path=path))),
        ("Solutions", 2, lambda path: read_solutions(SolutionsConfig(path=path))),
        ("Labels", 6, lambda path: read_solutions(SolutionsConfig(path=path))),
        ("Labels", 6, lambda path: read_benchmark(BenchmarkConfig(path=path))),
        ("Critiques", 2, lambda path: read_critiques(CritiquesConfig(path=path))),
    ],
)
def test_the_rows_on_the_page_are_read(tmp_path: Path, heading: str, number: int, read: Reader) -> None:
    rows = rows_under(heading)
    assert len(rows) == number
    for row in rows:
        records, rejects, _ = read(write_lines(tmp_path / "rows.jsonl", [row]))
        assert (len(records), rejects) == (1, [])


def test_labels_on_the_page_find_the_error(tmp_path: Path) -> None:
    for row in rows_under("Labels"):
        assert read_benchmark(BenchmarkConfig(path=write_lines(tmp_path / "rows.jsonl", [row])))[0][0].label == 0
    verdicts = [read_critiques(CritiquesConfig(path=write_lines(tmp_path / "c.jsonl", [row])))[0][0] for row in rows_under("Critiques")]
    assert [critique.judged_first_error for critique in verdicts] == [0, 0]
    assert [critique.num_code_blocks for critique in verdicts] == [1, 1]
