"""Answers that are equal count as one answer in a vote."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from actors.grading.grader import Grader, GradingConfig
from genprm.reward import winner


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    made = Grader(GradingConfig())
    yield made
    made.close()


@pytest.mark.parametrize(
    ("answers", "classes"),
    [
        (["\\frac{1}{2}", "0.5", "\\dfrac12", "1/2", "2"], [0, 0, 0, 0, 1]),
        (["7", None, "07", "+7", "8", "7"], [0, None, 0, 0, 1, 0]),
        (["x+1", "1+x", "x-1"], [0, 0, 1]),
        (["no idea", "no idea", "none at all"], [0, 0, 1]),
        ([None, None], [None, None]),
        ([], []),
    ],
)
def test_classes_of_equal_answers(grader: Grader, answers: list[str | None], classes: list[int | None]) -> None:
    assert asyncio.run(grader.classes(answers)) == classes


def test_a_majority_that_is_spelled_in_three_ways_wins_the_vote(grader: Grader) -> None:
    answers = ["3", "\\frac{1}{2}", "3", "0.5", "1/2"]  # as strings 3 would win
    assert winner(asyncio.run(grader.classes(answers))) == 1
