import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.reward import first_wrong_step, majority_answer, mean_reward, solution_score, verdict_reward


def test_reward_is_the_share_of_yes() -> None:
    assert verdict_reward({"Yes": math.log(0.6), "No": math.log(0.2), "x": math.log(0.2)}) == pytest.approx(0.75)


def test_reward_is_robust_to_joined_and_repeated_tokens() -> None:
    alternatives = {"{Yes": math.log(0.3), " yes": math.log(0.3), "No": math.log(0.2)}
    assert verdict_reward(alternatives) == pytest.approx(0.75)


def test_a_missing_word_counts_as_nothing_and_two_missing_as_no_reward() -> None:
    assert verdict_reward({"Yes": -0.1}) == 1.0
    assert verdict_reward({"Maybe": -0.1}) is None


def test_an_unreadable_vote_is_no_vote() -> None:
    assert mean_reward([1.0, None, 0.0, 1.0]) == pytest.approx(2 / 3)
    assert mean_reward([None]) is None


def test_first_wrong_step() -> None:
    assert first_wrong_step([0.9, 0.5, 0.49, 0.1]) == 2
    assert first_wrong_step([0.9, 0.5]) == -1
    assert first_wrong_step([0.9, None, 0.1]) is None


def test_solution_scores() -> None:
    assert solution_score([0.9, 0.2, 0.7], "last") == 0.7
    assert solution_score([0.9, 0.2, 0.7], "min") == 0.2
    assert solution_score([0.9, 0.2, 0.7], "mean") == pytest.approx(0.6)
    assert solution_score([0.9, None], "mean") is None
    assert solution_score([], "last") is None


def test_majority_answer() -> None:
    assert majority_answer(["2", None, "3", "3"]) == "3"
    assert majority_answer([None]) is None


@given(st.dictionaries(st.text(), st.floats(max_value=0, allow_nan=False)))
def test_any_alternatives_give_a_probability_or_none(alternatives: dict[str, float]) -> None:
    reward = verdict_reward(alternatives)
    assert reward is None or 0.0 <= reward <= 1.0
