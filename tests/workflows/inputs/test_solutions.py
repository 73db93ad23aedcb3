from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genprm.records import GivenSolution
from tests.shared_data import shared
from tests.workflows.inputs.files import write_lines
from workflows.inputs.solutions import SolutionsConfig, read_solutions


def read(tmp_path: Path, *rows: object, **settings: Any) -> list[GivenSolution]:
    config = SolutionsConfig(path=write_lines(tmp_path / "s.jsonl", rows), **settings)
    solutions, rejects, num_rows = read_solutions(config)
    assert num_rows == len(solutions) + len(rejects)
    return solutions


def reasons(tmp_path: Path, *rows: object, **settings: Any) -> list[str]:
    good = {"problem": "good", "steps": ["good"], "label": -1}
    config = SolutionsConfig(path=write_lines(tmp_path / "s.jsonl", [*rows, good]), **settings)
    return [reject.reason for reject in read_solutions(config)[1]]


def labels(tmp_path: Path, row: dict[str, Any], **settings: Any) -> tuple[int, ...] | None:
    return read(tmp_path, row, **settings)[0].given_labels_S


def test_a_solution_with_steps_and_no_labels(tmp_path: Path) -> None:
    row = {"problem": "1+1?", "steps": ["Step 1: add", "**Step 2:** so \\boxed{2}"], "answer": 2.0, "id": "p1", "level": 3}
    assert read(tmp_path, row) == [
        GivenSolution(
            id="p1/s0", problem_id="p1", problem="1+1?", answer="2", level="3", steps=("add", "so \\boxed{2}"), final_answer="2",
            outcome=None, problem_counts=None, given_labels_S=None, num_empty_steps=0, num_merged_steps=0,
        )
    ]  # fmt: skip


def test_a_text_is_split_into_steps(tmp_path: Path) -> None:
    marked = {"problem": "P", "response": "Sure.\n\n### Step 1: a\n\nb\n\n### Step 2\nc"}
    unmarked = {"problem": "P", "response": "a:\n\n\\[1\\]\n\nb"}
    chat = {"problem": "P", "response": [{"role": "user", "content": "P"}, {"role": "assistant", "content": "Step 1: x\nStep 2: y"}]}
    assert [solution.steps for solution in read(tmp_path, marked, unmarked, chat)] == [("a\n\nb", "c"), ("a:\n\n\\[1\\]", "b"), ("x", "y")]
    assert read(tmp_path, unmarked, unmarked="one_step")[0].steps == ("a:\n\n\\[1\\]\n\nb",)
    assert read(tmp_path, {"problem": "P", "steps": '["a", "b"]'})[0].steps == ("a", "b")  # a CSV cell
    assert read(tmp_path, {"problem": "P", "steps": "Step 1: a\nStep 2: b"})[0].steps == ("a", "b")
    assert read(tmp_path, {"problem": "P", "steps": "", "response": "a"})[0].steps == ("a",)
    assert read(tmp_path, {"problem": "P", "steps": [{"text": "a"}, {"content": "b"}]})[0].steps == ("a", "b")


def test_steps_left_out_or_merged_for_their_form_are_counted(tmp_path: Path) -> None:
    def counts(row: dict[str, Any]) -> tuple[int, int, int]:
        (solution,) = read(tmp_path, {"problem": "P"} | row)
        return len(solution.steps), solution.num_empty_steps, solution.num_merged_steps

    assert counts({"response": "Step 1: a\nStep 2:\nStep 3: b"}) == (2, 1, 0)
    assert counts({"response": "Step 1: Step 1: a\nStep 5: b\nStep 2: c"}) == (2, 0, 2)  # one repeated, one out of order
    assert counts({"response": "So, as Step 7 says\nStep 7: b"}) == (1, 0, 1)
    assert counts({"response": "a\n\nb"}) == (2, 0, 0)
    assert counts({"steps": ["a", "b", "", " "], "labels": [1, 0, 0, 0]}) == (2, 2, 0)
    mr_ben = {"Question": "P", "Model_Solution_Steps": ["Step 1: a", "- b", "Step 2: c"], "Model_Solution_First_Error_Step": 2}
    assert counts(mr_ben) == (2, 0, 1)


def test_ids_count_a_problems_solutions(tmp_path: Path) -> None:
    rows = [
        {"problem": "P", "steps": ["a"], "id": "p"},
        {"problem": "Q", "steps": ["a"], "id": "p"},
        {"problem": " p ", "steps": ["b"], "id": "other"},
        {"problem": "R", "steps": ["a"]},
        {"problem": "P", "steps": ["a"]},
    ]
    assert [(solution.problem_id, solution.id) for solution in read(tmp_path, *rows)] == [
        ("p", "p/s0"), ("p#2", "p#2/s0"), ("p", "p/s1"), ("problem-454349e422f0", "problem-454349e422f0/s0"),
    ]  # fmt: skip
    assert reasons(tmp_path, *rows) == ["duplicate"]


def test_several_samples_in_a_row_are_several_solutions(tmp_path: Path) -> None:
    row = {"id": "p", "problem": "P", "samples": ["a \\boxed{1}", "b", ""], "answer": "1"}
    solutions, rejects, num_rows = read_solutions(SolutionsConfig(path=write_lines(tmp_path / "s.jsonl", [row]), solution_field="samples"))
    assert [(solution.id, solution.final_answer, solution.answer) for solution in solutions] == [("p/s0", "1", "1"), ("p/s1", None, "1")]
    assert [(reject.reason, num_rows) for reject in rejects] == [("no steps", 3)]
    assert rejects[0].detail.endswith("row 1, item 3")


@pytest.mark.parametrize(
    ("label", "base", "expected"),
    [
        (-1, 0, (1, 1, 1)), (0, 0, (0, 0, 0)), (2, 0, (1, 1, 0)), (1.0, 0, (1, 0, 0)), ("1", 0, (1, 0, 0)), ("N/A", 0, (1, 1, 1)),
        (1, 1, (0, 0, 0)), (3, 1, (1, 1, 0)), ("N/A", 1, (1, 1, 1)), (-1, 1, (1, 1, 1)), (0, 1, (1, 1, 1)), (None, 0, None),
        (" ", 0, None),
    ],
)  # fmt: skip
def test_labels_by_the_index_of_the_first_error(tmp_path: Path, label: Any, base: int, expected: tuple[int, ...] | None) -> None:
    assert labels(tmp_path, {"problem": "P", "steps": ["a", "b", "c"], "label": label}, label_base=base) == expected


@pytest.mark.parametrize(
    ("given", "settings", "expected"),
    [
        ([1, 0, 1], {}, (1, 0, 1)),
        ([1.0, 0.0, 1.0], {}, (1, 0, 1)),
        ([True, False, None], {}, (1, 0, 0)),
        (["+", "-"], {}, (1, 0, 0)),
        ("[1, 1, 0]", {}, (1, 1, 0)),
        (["good", "bad", "good"], {}, (1, 0, 1)),
        ([1, 0, -1], {"label_values": "ratings"}, (1, 1, 0)),
        ([1, 0, -1], {"label_values": "ratings", "neutral": "bad"}, (1, 0, 0)),
    ],
)
def test_labels_by_step(tmp_path: Path, given: Any, settings: dict[str, Any], expected: tuple[int, ...]) -> None:
    assert labels(tmp_path, {"problem": "P", "steps": ["a", "b", "c"], "labels": given}, **settings) == expected


def test_bad_rows_have_their_reasons(tmp_path: Path) -> None:
    assert reasons(
        tmp_path,
        {"problem": "P", "steps": ["a"], "label": 1},
        {"problem": "P", "steps": ["a"], "label": -2},
        {"problem": "P", "steps": ["a"], "label": True},
        {"problem": "P", "steps": ["a"], "label": 0.5},
        {"problem": "P", "steps": ["a", "b"], "labels": [1]},
        {"problem": "P", "steps": ["a", "b"], "labels": [1, None]},
        {"problem": "P", "steps": ["a"], "labels": [1, 1]},
        {"problem": "P", "steps": ["a"], "labels": [-1]},
        {"problem": "P", "steps": ["a"], "labels": [0.5]},
        {"problem": "P", "steps": ["a", "b"], "labels": [1, 0], "label": 0},
        {"problem": "P", "steps": ["a", "", "b"], "label": 0},
        {"problem": "P", "steps": ["a", ""], "label": 1},
        {"problem": "P", "steps": []},
        {"problem": "P", "steps": ["a", None]},
        '{"problem": "P", "steps": ["a", NaN]}',
        {"problem": "P", "steps": [["a"]]},
        {"problem": "P", "response": "Step 1:\nStep 2: b", "label": 0},
        {"problem": "P"},
        {"steps": ["a"]},
    ) == [
        "label is no step", "label is no step", "label is not an integer", "label is not an integer", "step without a label",
        "step without a label", "more labels than steps", "labels are not 1 and 0, + and -, or true and false",
        "labels are not 1 and 0, + and -, or true and false", "label and labels differ", "empty step", "label is an empty step",
        "no steps", "no step", "no step", "step is not text", "empty step", "no steps", "no problem",
    ]  # fmt: skip


def test_empty_steps_at_the_end_are_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, {"problem": "P", "steps": ["a", "b", " "], "label": 1})[0].steps == ("a", "b")
    assert labels(tmp_path, {"problem": "P", "steps": ["a", "b", ""], "labels": [1, 0, 1]}) == (1, 0)


def prm800k(*steps: dict[str, Any], reason: str = "solution") -> dict[str, Any]:
    return {
        "labeler": "x",
        "question": {"problem": "P", "ground_truth_answer": "5", "ground_truth_solution": "so 5"},
        "label": {"steps": list(steps), "finish_reason": reason},
    }


def rated(text: str, *ratings: int | None, chosen: int | None = 0, human: dict[str, Any] | None = None) -> dict[str, Any]:
    completions = [{"text": f"{text}{index}", "rating": rating, "flagged": False} for index, rating in enumerate(ratings)]
    return {"completions": completions, "chosen_completion": chosen, "human_completion": human}


def test_prm800k(tmp_path: Path) -> None:
    row = prm800k(
        rated("a", 1),
        rated("b", -1, 0, chosen=1),
        rated("c", -1, chosen=None, human={"text": "by hand", "rating": None}),
        rated("d", None, -1, chosen=None),
    )
    solution = read(tmp_path, row)[0]
    assert solution.steps == ("a0", "b1", "by hand", "d1")
    assert (solution.given_labels_S, solution.answer, solution.problem) == ((1, 1, 1, 0), "5", "P")
    assert labels(tmp_path, row, neutral="bad") == (1, 0, 1, 0)
    assert labels(tmp_path, prm800k(rated("a", -1), rated("b", None))) == (0, 0)
    assert reasons(
        tmp_path,
        prm800k(rated("a", 1), reason="bad_problem"),
        prm800k(rated("a", None)),
        prm800k({"completions": None}),
        prm800k(rated("a", 2)),
    ) == ["bad problem", "step without a label", "step without a completion", "ratings are not 1, 0 and -1"]


def test_math_shepherd(tmp_path: Path) -> None:
    row = {
        "input": "Janet has 2 ducks. How many? Step 1: She has 2. ки\nStep 2: 2+1=3 ки\nStep 3: The answer is: 3 ки",
        "label": "Janet has 2 ducks. How many? Step 1: She has 2. +\nStep 2: 2+1=3 -\nStep 3: The answer is: 3 +",
        "task": "GSM8K",
    }
    solution = read(tmp_path, row)[0]
    assert solution.problem == "Janet has 2 ducks. How many?"
    assert solution.steps == ("She has 2.", "2+1=3", "The answer is: 3")
    assert (solution.given_labels_S, solution.final_answer) == ((1, 0, 1), "3")
    other = {name: text.replace("ки", "<tag>") for name, text in row.items()}
    assert labels(tmp_path, other, step_tag="<tag>") == (1, 0, 1)
    assert reasons(
        tmp_path,
        {**row, "label": row["label"].replace("ducks", "hens")},
        other,
        {**row, "input": row["input"] + " and"},
        {"input": "a ки", "label": "a +"},
    ) == ["label is not input with signs", "no step tag 'ки'", "text after the last step tag", "no Step 1: in input"]


def mr_ben(steps: list[str], label: str, correctness: str = "incorrect") -> dict[str, Any]:
    return {
        "Question_UUID": "u", "Question": "Q?", "Options": "A: 1 \nB: 2 ", "Ground_Truth_Answer": "A", "Model_Solution_Steps": steps,
        "Model_Solution_Correctness": correctness, "Model_Solution_First_Error_Step": label,
    }  # fmt: skip


def test_mr_ben_counts_its_markers_from_1(tmp_path: Path) -> None:
    solution = read(tmp_path, mr_ben(["Step 1: a", "- more a", "Step 2:", "b", "Solution: A"], "2"))[0]
    assert solution.steps == ("a\n- more a", "b\nSolution: A")
    assert (solution.given_labels_S, solution.problem, solution.answer, solution.id) == ((1, 0), "Q?\nA: 1 \nB: 2", "A", "u/s0")
    assert labels(tmp_path, mr_ben(["Step 1: a", "Step 2: b"], "N/A", "correct")) == (1, 1)
    assert labels(tmp_path, mr_ben(["a", "b"], "1")) == (0, 0)
    assert reasons(tmp_path, mr_ben(["Step 1: a", "b"], "2"), mr_ben(["a"], "N/A")) == [
        "Model_Solution_First_Error_Step is no step", "incorrect without a first error",
    ]  # fmt: skip


def test_mr_gsm8k_and_prmbench_and_stepwise(tmp_path: Path) -> None:
    gsm8k = {
        "uuid": "1", "question": "P", "model_output_steps": ["a", "b"], "model_output_solution_first_error_step": "N/A",
        "ground_truth_answer": 5,
    }  # fmt: skip
    prmbench = {"idx": "x", "original_question": "P", "modified_process": ["a", "b", "c"], "error_steps": [2], "classification": "circular"}
    stepwise = {"prompt": "P", "completions": ["a", "b"], "labels": [True, False]}
    assert labels(tmp_path, gsm8k) == (1, 1)
    assert labels(tmp_path, prmbench) == (1, 0, 1)
    assert labels(tmp_path, {**prmbench, "error_steps": []}) == (1, 1, 1)
    assert labels(tmp_path, stepwise) == (1, 0)
    assert reasons(tmp_path, {**prmbench, "error_steps": [4]}) == ["error_steps has what is no step"]


def test_a_format_that_is_named_is_the_only_one(tmp_path: Path) -> None:
    assert reasons(tmp_path, mr_ben(["a"], "1"), format="processbench") == ["no problem"]
    row = {"problem": "P", "steps": ["a", "b"], "label": 0, "mine": 1}
    assert labels(tmp_path, row, label_field="mine") == (1, 0)


def test_if_every_row_is_rejected_the_error_names_the_layouts_fields(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "s.jsonl", [{"question": "P", "text": "a"}])
    with pytest.raises(
        ValueError, match=r"1 for 'no steps'.*solutions\.solution_field = response or.*rows have question, text.*Set solutions\.steps_field"
    ):
        read_solutions(SolutionsConfig(path=path))
    with pytest.raises(ValueError, match=r"solutions\.path is not set"):
        read_solutions(SolutionsConfig())


def test_benchmark_problems_are_kept_out(tmp_path: Path) -> None:
    benchmark = write_lines(tmp_path / "b.jsonl", [{"problem": "p"}])
    assert reasons(tmp_path, {"problem": "P", "steps": ["a"]}, benchmarks=(benchmark,)) == ["stands in a benchmark"]


def test_real_solutions() -> None:
    config = SolutionsConfig(path=str(shared("step_solutions/qwen25math_bon8_math100.jsonl")), solution_field="code")
    solutions, rejects, num_rows = read_solutions(config)
    assert (len(solutions), {reject.reason for reject in rejects}, num_rows) == (724, {"duplicate"}, 800)
    solutions, rejects, _ = read_solutions(SolutionsConfig(path=str(shared("step_solutions/mr_ben_math.jsonl"))))
    assert (len(solutions), rejects) == (918, [])
    assert sum(0 in (solution.given_labels_S or ()) for solution in solutions) == 769


def test_csv_and_parquet_hold_steps_and_labels_too(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(
        'problem,steps,labels,answer\nP,"[""Step 1: a"", ""Step 2: b""]","[1, 0]",2\nQ,"Step 1: a\n\nStep 2: b",,\n'
    )
    solutions, rejects, _ = read_solutions(SolutionsConfig(path=str(tmp_path / "s.csv")))
    assert [(s.steps, s.given_labels_S, s.answer) for s in solutions] == [(("a", "b"), (1, 0), "2"), (("a", "b"), None, None)]
    table = pa.Table.from_pylist([{"problem": "P", "steps": ["a", "b"], "label": 1}, {"problem": "Q", "steps": ["a"], "label": None}])
    pq.write_table(table, tmp_path / "s.parquet")
    solutions, rejects, _ = read_solutions(SolutionsConfig(path=str(tmp_path / "s.parquet")))
    assert ([s.given_labels_S for s in solutions], rejects) == ([(1, 0), None], [])
