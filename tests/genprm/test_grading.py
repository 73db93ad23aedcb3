import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.grading import grade
from actors.grading.pool import GradingPool
from genprm.grading import extract_answer, extract_boxed
from genprm.records import Outcome
from tests.shared_data import shared


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    pool = GradingPool(num_processes=1)
    yield pool
    pool.close()


@pytest.mark.parametrize(
    ("text", "reference", "outcome", "answer"),
    [
        (r"so \boxed{18}.", "18", Outcome.CORRECT, "18"),
        (r"hence \boxed 9.", "9", Outcome.CORRECT, "9"),
        (r"\boxed{17}", "18", Outcome.INCORRECT, "17"),
        (r"\boxed{\frac{1}{2}}", "0.5", Outcome.CORRECT, r"\frac{1}{2}"),
        (r"\boxed{x^2+1}", "1+x^2", Outcome.CORRECT, "x^2+1"),
        (r"\boxed{(1,2)}", "(1, 2)", Outcome.CORRECT, "(1,2)"),
        (r"\boxed{50\%}", "50", Outcome.CORRECT, r"50\%"),
        (r"\boxed{90^\circ}", "90", Outcome.CORRECT, r"90^\circ"),
        (r"\boxed{12\text{ cm}}", "12", Outcome.CORRECT, r"12\text{ cm}"),
        (r"\boxed{3\frac{1}{2}}", "3.5", Outcome.CORRECT, r"3\frac{1}{2}"),
        (r"\boxed{[0,\infty)}", r"[0, \infty)", Outcome.CORRECT, r"[0,\infty)"),
        (r"\boxed{(0,1]}", "[0,1]", Outcome.INCORRECT, "(0,1]"),
        (
            r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}",
            r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
            Outcome.CORRECT,
            r"\begin{pmatrix}1\\2\end{pmatrix}",
        ),
        (r"\boxed{3,1,2}", "1, 2, 3", Outcome.CORRECT, "3,1,2"),
        (r"\boxed{3,1}", "1,2,3", Outcome.INCORRECT, "3,1"),
        (r"\boxed{\text{Tuesday}}", r"\text{tuesday}", Outcome.CORRECT, r"\text{Tuesday}"),
        (r"\boxed{\$10,000}", "10000", Outcome.CORRECT, r"\$10,000"),
        (r"\boxed{x=5}", "5", Outcome.CORRECT, "x=5"),
        (r"\boxed{\frac12}", r"\frac{1}{2}", Outcome.CORRECT, r"\frac12"),
        (r"\boxed{2\sqrt3}", r"2\sqrt{3}", Outcome.CORRECT, r"2\sqrt3"),
        (r"\boxed{.5}", r"\frac{1}{2}", Outcome.CORRECT, ".5"),
        (r"\boxed{11_2}", "11_3", Outcome.INCORRECT, "11_2"),
        (r"\boxed{11_{2}}", "11_2", Outcome.CORRECT, "11_{2}"),
        (r"\boxed{1} and then \boxed{2}", "2", Outcome.CORRECT, "2"),
        ("The answer is 7.", "7", Outcome.CORRECT, "7"),
        ("#### 7", "7", Outcome.CORRECT, "7"),
        ("no answer here", "7", Outcome.UNPARSABLE, None),
        (r"\boxed{", "7", Outcome.UNPARSABLE, None),
    ],
)
def test_grades(text: str, reference: str, outcome: Outcome, answer: str | None, pool: GradingPool) -> None:
    result = grade(text, reference, pool=pool)
    assert (result.outcome, result.answer) == (outcome, answer)


def test_a_hung_comparison_costs_its_limit_and_nothing_else(pool: GradingPool) -> None:
    began = time.monotonic()
    assert grade(r"\boxed{9^{9^{9^{9^9}}}}", "3", pool=pool, timeout_s=1.0).outcome is Outcome.TIMED_OUT
    assert time.monotonic() - began < 30
    assert grade(r"\boxed{\frac{2}{4}}", "0.5", pool=pool).outcome is Outcome.CORRECT


def test_a_repeated_pair_is_answered_from_memory() -> None:
    pool = GradingPool(num_processes=1)
    assert pool.compare(r"\frac{3}{6}", "0.5", timeout_s=30) is Outcome.CORRECT
    pool.close()
    began = time.monotonic()
    assert pool.compare(r"\frac{3}{6}", "0.5") is Outcome.CORRECT
    assert time.monotonic() - began < 0.1


def test_boxed_braces_are_balanced() -> None:
    assert extract_boxed(r"\boxed{\frac{1}{\sqrt{2}}}") == r"\frac{1}{\sqrt{2}}"
    assert extract_boxed(r"\boxed{1} \boxed{2") is None, "the last one is the answer, and can't be read"


@given(st.text())
def test_any_text_has_an_answer_or_none(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or answer.strip()


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet="\\boxed{}frac12^x+-,()[]%$ \ud800", max_size=40))
def test_any_boxed_text_gets_an_outcome(text: str) -> None:
    pool = GradingPool(num_processes=1) if not hasattr(test_any_boxed_text_gets_an_outcome, "pool") else None
    if pool is not None:
        test_any_boxed_text_gets_an_outcome.pool = pool  # type: ignore[attr-defined]
    kept: GradingPool = test_any_boxed_text_gets_an_outcome.pool  # type: ignore[attr-defined]
    assert grade(f"\\boxed{{{text}}}", "12", pool=kept, timeout_s=2.0).outcome in Outcome


@pytest.mark.slow
def test_every_gold_answer_of_math_is_right_by_its_own_solution() -> None:
    rows = [json.loads(line) for line in shared("math/train.jsonl").read_text().splitlines()]
    answered = [row for row in rows if row["answer"]]
    assert (len(rows), len(answered)) == (7500, 7498)
    for row in answered:
        assert grade(row["solution"], row["answer"]).outcome is Outcome.CORRECT
        assert grade(f"so $\\boxed{{{row['answer']}}}$", row["answer"]).outcome is Outcome.CORRECT


def test_real_solutions_are_judged_as_recorded_but_for_one_that_was_recorded_wrongly() -> None:
    rows = [json.loads(line) for line in shared("step_solutions/qwen25math_bon8_math100.jsonl").read_text().splitlines()]
    differing = [
        (row["gt"], found.answer, found.outcome)
        for row in rows
        for text, recorded in zip(row["code"], row["score"], strict=True)
        if ((found := grade(text, row["gt"])).outcome is Outcome.CORRECT) != recorded
    ]
    assert sum(len(row["code"]) for row in rows) == 800
    assert differing == [("10{,}000", "10000", Outcome.CORRECT)]
