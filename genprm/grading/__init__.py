"""Answers: which one a text states, and whether two are equal, with failures to judge kept apart from wrong answers.

- ``extraction``: the answer that a solution states
- ``spelling``: one spelling for what people and models write in many
- ``comparison``: whether two answers are equal; the rules stand in docs/grading.md

``compare`` may take arbitrarily long for a hostile text: `actors.grading.grade` runs it in a process with a wall clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genprm.grading.comparison import compare, plain_equality
from genprm.grading.extraction import LONGEST_ANSWER, extract_answer, extract_boxed, stated_answers
from genprm.records import Outcome

__all__ = ["LONGEST_ANSWER", "Grade", "best", "compare", "extract_answer", "extract_boxed", "plain_equality", "stated_answers"]


@dataclass(frozen=True, kw_only=True)
class Grade:
    """``answer`` is the extracted answer's text, None where there is none."""

    outcome: Outcome
    answer: str | None


def best(grades: Sequence[Grade]) -> Grade:
    """Of an answer that can be read in several ways: the first that is right, else the first; UNPARSABLE if there is none."""
    return next(
        (grade for grade in grades if grade.outcome is Outcome.CORRECT), next(iter(grades), Grade(outcome=Outcome.UNPARSABLE, answer=None))
    )
