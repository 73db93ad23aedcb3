from typing import Any

import pytest

from workflows.inputs.answers import answer_of


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("7", "7"),
        (27.0, "27"),
        ("6*3=<<6*3=18>>18\n#### 1,018", "1,018"),
        ("#### 42\n\n", "42"),
        ("all on one line #### 5", "5"),
        ("#### Step 1\nAdd.\n#### Step 2\nWe get \\boxed{7}.", "7"),
        ("#### Step 1\nAdd.\nIt is 7.", "#### Step 1\nAdd.\nIt is 7."),
        ("##### Deep heading", "##### Deep heading"),
        ("so \\boxed{7}", "7"),
        ("first \\boxed{1}, then $\\boxed{\\frac{3}{4}}$.", "\\frac{3}{4}"),
        ("$\\boxed{7}$", "$\\boxed{7}$"),
        ("\\boxed{1} and \\boxed{2}", "\\boxed{1} and \\boxed{2}"),
        ("[1, 2]", "[1, 2]"),
        (["$5$"], "$5$"),
        (["1", 2.0, None], "1, 2"),
        ('["4"]', "4"),
        ('["a", "b"]', "a, b"),
    ],
)
def test_answers_in_the_forms_of_data_sets(value: Any, answer: str) -> None:
    assert answer_of(value, "answer") == answer


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (True, "answer is not text"), ([True], "answer is not text"), ([["1"]], "answer is not text"), ([], "empty answer"),
        ([None, float("nan")], "empty answer"), ("because\n####", "empty answer"), ("x" * 2001, "answer too long"),
        ({"a": 1}, "answer is not text"),
    ],
)  # fmt: skip
def test_what_is_no_answer(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        answer_of(value, "answer")


def test_a_solution_must_state_its_answer() -> None:
    assert answer_of("Adding gives 7. The answer is 7.", "solution") == "7"
    for text in ("Adding is easy.", "So the answer is $\\boxed{}$."):
        with pytest.raises(ValueError, match="no answer in solution"):
            answer_of(text, "solution")
