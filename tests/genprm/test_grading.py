import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.grading import extract_answer, extract_boxed, grade
from genprm.grading_process import GradingPool
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
        (r"\boxed{17}", "18", Outcome.INCORRECT, "17"),
        (r"\boxed{\frac{1}{2}}", "0.5", Outcome.CORRECT, r"\frac{1}{2}"),
        (r"\boxed{x^2+1}", "1+x^2", Outcome.CORRECT, "x^2+1"),
        (r"\boxed{(1,2)}", "(1, 2)", Outcome.CORRECT, "(1,2)"),
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
    assert extract_boxed(r"\boxed{1} \boxed{2") == "1"


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
def test_agrees_with_recorded_correctness_of_real_solutions() -> None:
    rows = [json.loads(line) for line in shared("step_solutions/qwen25math_bon8_math100.jsonl").open()]
    pool = GradingPool(num_processes=2)
    pairs = [
        (grade(code, row["gt"], pool=pool).outcome is Outcome.CORRECT, bool(score))
        for row in rows
        for code, score in zip(row["code"], row["score"], strict=True)
    ]
    pool.close()
    assert len(pairs) == 800
    assert sum(ours == recorded for ours, recorded in pairs) / len(pairs) > 0.97
