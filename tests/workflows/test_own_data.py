"""Data of other people enter at their stages and go on to conversations, with scripted engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.storage import Folder
from tests.shared_data import shared
from tests.workflows.scripted_loop import all_stages, configuration, rows
from workflows.stage import parts
from workflows.stage.graph import run_stages
from workflows.stage.run import Run

pytestmark = pytest.mark.ray

PLAIN = {"problem": "3 plus 4", "steps": ["3 + 4 = 8.", "The answer is \\boxed{8}."], "answer": "7"}
PROCESSBENCH = {"id": "x-1", "problem": "3 plus 4", "steps": ["3 + 4 = 8.", "So 8."], "label": 0}
PRM800K = {
    "question": {"problem": "3 plus 4", "ground_truth_answer": "7"},
    "label": {
        "steps": [
            {"completions": [{"text": "We add.", "rating": 0}], "chosen_completion": 0},
            {"completions": [{"text": "3 + 4 = 7.", "rating": 1}, {"text": "3 + 4 = 8.", "rating": -1}], "chosen_completion": 1},
        ]
    },
}
MATH_SHEPHERD = {
    "input": "3 plus 4 Step 1: 3 + 4 = 7. ки Step 2: 7 + 1 = 9. ки",
    "label": "3 plus 4 Step 1: 3 + 4 = 7. + Step 2: 7 + 1 = 9. -",
    "task": "GSM8K",
}
GIVEN = "labels={human={rule='given'}}"


def synthesized(folder: Path, changes: list[str], wanted: list[str]) -> Folder:
    run = Run.untracked(Folder(str(folder / "run")))
    config = configuration(folder, run.folder, changes)
    run_stages(all_stages(config, run.folder), run, wanted)
    return run.folder


def write(file: Path, *data: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data))
    return file


def test_labelled_solutions_become_conversations_without_estimates(tmp_path: Path, local_ray: None) -> None:
    other = {**PROCESSBENCH, "problem": "4 plus 5", "steps": ["4 + 5 = 8.", "So 8."]}
    data = write(tmp_path / "labelled.jsonl", other, PRM800K, MATH_SHEPHERD)
    run = synthesized(tmp_path, [f"solutions.path={data}", GIVEN], ["conversations/human"])
    labelled = {tuple(row["steps"]): row["labels_S"] for row in rows(run, "labels/human")}
    assert labelled == {
        ("4 + 5 = 8.", "So 8."): [0, 0],
        ("We add.", "3 + 4 = 8."): [1, 0],
        ("3 + 4 = 7.", "7 + 1 = 9."): [1, 0],
    }
    assert sorted(row["first_error"] for row in rows(run, "conversations/human")) == [0, 1, 1]
    assert sorted(len(row["messages"]) for row in rows(run, "conversations/human")) == [3, 5, 5]
    made = {stage.parent.name for stage in (tmp_path / "run").rglob("_stage.json")}
    assert made.isdisjoint({"problems", "rollouts", "estimates"})


def test_mr_ben_becomes_conversations(tmp_path: Path, local_ray: None) -> None:
    data = shared("step_solutions/mr_ben_math.jsonl")
    run = synthesized(tmp_path, [f"solutions.path={data}", "solutions.limit=12", GIVEN], ["conversations/human"])
    labelled = {row["id"]: row for row in rows(run, "labels/human")}
    assert len(labelled) == 12
    right = {name for name, row in labelled.items() if row["first_error"] == -1}
    assert 0 < len(right) < 12
    kept = {row["id"] for row in rows(run, "conversations/human")}
    rejected = {row["id"]: row["reason"] for row in parts.read_rejects(run, "conversations/human")}
    assert kept | set(rejected) == set(labelled)
    assert kept <= right  # the scripted judge finds no error in what is no sum
    assert {rejected[name] for name in labelled.keys() - right} <= {"no consensus", "paragraph skipped", "out of rounds"}


def test_plain_solutions_are_graded_estimated_and_judged(tmp_path: Path, local_ray: None) -> None:
    right = {**PLAIN, "steps": ["3 + 4 = 7.", "The answer is \\boxed{7}."]}
    text = {"problem": "5 plus 6", "response": "**Step 1:** 5 + 6 = 11.\n**Step 2:** The answer is $\\boxed{11}$.", "answer": "11"}
    unknown = {"problem": "1 plus 2", "steps": ["1 + 2 = 3.", "So 3."]}
    data = write(tmp_path / "plain.jsonl", PLAIN, right, text, unknown)
    run = synthesized(tmp_path, [f"solutions.path={data}"], ["conversations/rpe"])
    outcomes = {row["id"]: (row["outcome"], row["final_answer"]) for row in rows(run, "solutions")}
    assert sorted(outcomes.values(), key=str) == sorted([("incorrect", "8"), ("correct", "7"), ("correct", "11"), (None, None)], key=str)
    (rejected,) = parts.read_rejects(run, "estimates/paper")
    assert rejected["reason"] == "no reference answer"
    assert {row["first_error"] for row in rows(run, "conversations/rpe")} == {-1, 0}
    (unlabelled,) = parts.read_rejects(run, "conversations/rpe")
    assert (unlabelled["id"], unlabelled["reason"]) == (rejected["id"], "no label")


def test_critiques_from_a_file_meet_the_labels_of_their_solutions(tmp_path: Path, local_ray: None) -> None:
    judged = (
        "### Paragraph 1\n<analyze>\nThe sum is 7.\n</analyze>\n<verify>\n```python\nprint(3 + 4 == 8)\n```\n"
        "[Code Output]\n\n```\nFalse\n```\nSo it is wrong.\n</verify>\n\nThe index is $\\boxed{1}$."
    )
    solutions = write(tmp_path / "labelled.jsonl", PROCESSBENCH)
    critiques = write(tmp_path / "critiques.jsonl", {**PROCESSBENCH, "critique": judged})
    run = synthesized(tmp_path, [f"solutions.path={solutions}", f"critiques.path={critiques}", GIVEN], ["conversations/human"])
    (conversation,) = rows(run, "conversations/human")
    answer = conversation["messages"][2]["content"]
    assert "print(3 + 4 == 8)" in answer
    assert "$\\boxed{No}$" in answer


def test_a_benchmark_in_another_layout_is_judged(tmp_path: Path, local_ray: None) -> None:
    data = write(tmp_path / "b.jsonl", MATH_SHEPHERD, PRM800K)
    changes = [f"benchmarks={{theirs={{path='{data}'}}}}", "verifiers={genprm={}}"]
    run = synthesized(tmp_path, changes, ["evaluate/genprm/theirs"])
    assert [(row["label"], row["prediction"]) for row in rows(run, "evaluate/genprm/theirs")] == [(1, 1), (1, 1)]
