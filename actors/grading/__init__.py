"""Grading in processes with a wall clock, because symbolic comparison can hang in C and signals raise only on a main thread.

- ``grade``: one text against a reference
- ``grader``: many completions of an engine, without blocking the event loop
- ``pool``: the comparison processes; ``process``: what runs in them
- what is compared, and how, is in `genprm.grading`
"""

from __future__ import annotations

from functools import cache

from actors.grading.pool import GradingPool
from genprm.grading import Grade, best, plain_equality, stated_answers
from genprm.records import Outcome

__all__ = ["Grade", "GradingPool", "grade"]


@cache
def _default_pool() -> GradingPool:
    """The pool that ``grade`` uses where none is given: one process, started at its first use."""
    return GradingPool(num_processes=1)


def grade(text: str, reference: str, *, pool: GradingPool | None = None, timeout_s: float = 5.0) -> Grade:
    """Grade a solution's text against a reference answer.

    Never raises for any ``text``. ``outcome`` is CORRECT, INCORRECT, UNPARSABLE (no answer, or none that can be read) or
    TIMED_OUT (the comparison took over ``timeout_s`` seconds and was killed). Truncation is for the caller to know.
    """
    answers = stated_answers(text)
    grades = []
    for answer in answers:
        equal = plain_equality(answer, reference)
        if equal is None:
            outcome = (pool or _default_pool()).compare(answer, reference, timeout_s=timeout_s)
        else:
            outcome = Outcome.CORRECT if equal else Outcome.INCORRECT
        grades.append(Grade(outcome=outcome, answer=answer))
    return best(grades)
