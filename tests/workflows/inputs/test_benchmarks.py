import json
from pathlib import Path

import pytest

from tests.shared_data import shared
from tests.workflows.inputs.files import write_lines
from workflows.inputs.benchmarks import BenchmarkConfig, read_benchmark


def test_benchmark_rows_are_checked(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "problem": "P", "steps": ["x", "y"], "label": 1},
        {"id": "a", "problem": "P", "steps": ["x"], "label": -1},
        {"problem": "P", "steps": [], "label": -1},
        {"problem": "P", "steps": ["x"], "label": 1},
        {"problem": "P", "steps": ["x", "", "y"], "label": 0},
        {"problem": "P", "steps": ["x"], "label": True},
        {"problem": "P", "steps": ["x"]},
        {"problem": "P", "steps": ["x", "y"], "label": 1.0},
    ]
    (tmp_path / "b.json").write_text(json.dumps(rows))
    good, rejects, num_rows = read_benchmark(BenchmarkConfig(path=str(tmp_path / "b.json")))
    assert [(row.id, row.label) for row in good] == [("a", 1), ("a#2", -1), ("row 8", 1)]
    assert [reject.reason for reject in rejects] == [
        "no steps", "label is no step", "empty step", "label is not an integer", "no label",
    ]  # fmt: skip
    assert num_rows == len(rows)


def test_every_labelled_layout_is_a_benchmark(tmp_path: Path) -> None:
    rows = [
        {"id": "gsm8k-0", "generator": "g", "problem": "P", "steps": ["a", "b"], "final_answer_correct": False, "label": 1},
        {"uuid": "1", "question": "P", "model_output_steps": ["a"], "model_output_solution_first_error_step": "N/A"},
        {"idx": "x", "original_question": "P", "modified_process": ["a", "b"], "error_steps": [2], "classification": "circular"},
        {"input": "P Step 1: a ки", "label": "P Step 1: a +", "task": "GSM8K"},
        {
            "question": {"problem": "P"},
            "label": {"steps": [{"completions": [{"text": "a", "rating": -1}], "chosen_completion": 0}], "finish_reason": "found_error"},
        },
    ]
    good, rejects, _ = read_benchmark(BenchmarkConfig(path=write_lines(tmp_path / "b.jsonl", rows)))
    assert rejects == []
    assert [(row.id, row.steps, row.label) for row in good] == [
        ("gsm8k-0", ("a", "b"), 1), ("1", ("a",), -1), ("x", ("a", "b"), 1), ("row 4", ("a",), -1), ("row 5", ("a",), 0),
    ]  # fmt: skip


def test_solutions_without_labels_are_no_benchmark(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "b.jsonl", [{"problem": "P", "steps": ["a"], "gold": 0}])
    with pytest.raises(ValueError, match=r"1 for 'no label'.*evaluate\.label_field = label or first_error.*Set evaluate\.label_field"):
        read_benchmark(BenchmarkConfig(path=path), "evaluate.benchmark")


@pytest.mark.parametrize(
    ("name", "number", "erroneous"),
    [("processbench/gsm8k.json", 400, 207), ("processbench/math.json", 1000, 594), ("step_solutions/mr_ben_math.jsonl", 918, 769)],
)
def test_reads_the_public_benchmarks(name: str, number: int, erroneous: int) -> None:
    rows, rejects, _ = read_benchmark(BenchmarkConfig(path=str(shared(name))))
    assert (len(rows), rejects, sum(row.label >= 0 for row in rows)) == (number, [], erroneous)
    assert len({row.id for row in rows}) == number
