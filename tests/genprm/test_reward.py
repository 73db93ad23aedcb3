import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.reward import (
    first_wrong_step,
    mean_is_right,
    mean_reward,
    solution_score,
    sureness,
    verdict_reward,
    verdict_word,
    winner,
)


def test_reward_is_the_share_of_yes() -> None:
    assert verdict_reward({"Yes": math.log(0.6), "No": math.log(0.2), "x": math.log(0.2)}) == pytest.approx(0.75)


def test_reward_is_robust_to_joined_and_repeated_tokens() -> None:
    alternatives = {"{Yes": math.log(0.3), " yes": math.log(0.3), "No": math.log(0.2)}
    assert verdict_reward(alternatives) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("token", "word"),
    [
        ("Yes", "yes"), ("{Yes", "yes"), (" no", "no"), ("No}$", "no"), ("{No}", "no"), ("Y", "yes"), ("N", "no"), ("{ye", "yes"),
        ("{", None), ("es", None), ("Not", None), ("Yesterday", None), ("text", None), ("", None), ("\\", None),
    ],
)  # fmt: skip
def test_verdicts_are_read_from_tokens_however_they_are_cut(token: str, word: str | None) -> None:
    assert verdict_word(token) == word


def test_a_split_word_is_judged_by_its_beginning() -> None:
    assert verdict_reward({"Y": math.log(0.8), "N": math.log(0.1), "No": math.log(0.1)}) == pytest.approx(0.8)


def test_votes_left_that_can_not_change_a_decision() -> None:
    assert sureness([1.0, 1.0], 2) == 1.0  # two Noes would leave the mean at 0.5, which is right
    assert sureness([0.0, 0.0], 2) < 1.0  # two Yeses would reach 0.5
    assert sureness([0.0, 0.0, 0.0], 2) == 1.0
    assert sureness([None, 1.0], 6) < 1.0
    assert sureness([None, None], 6) < 1.0
    assert sureness([0.3], 0) == 1.0
    assert 0.999 < sureness([1.0] * 29, 35) < 1.0  # 35 Noes would still turn it


def test_how_likely_votes_left_leave_a_decision_is_the_beta_binomial() -> None:
    # Two Yeses of two, six to go: wrong only with fewer than 2 Yeses of 6. By Beta(3, 1)
    # P(0) = 1/84 and P(1) = 3/84.
    assert sureness([1.0, 1.0], 6) == pytest.approx(1 - 4 / 84)
    # Two Noes of two: right with 4 or more Yeses of 6; by Beta(1, 3) P(4) = 6/84, P(5) = 3/84, P(6) = 1/84.
    assert sureness([0.0, 0.0], 6) == pytest.approx(1 - 10 / 84)


@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0, None]), max_size=8), st.lists(st.sampled_from([0.0, 0.4, 1.0, None]), max_size=8))
def test_what_is_called_sure_is_not_changed_by_any_votes(cast: list[float | None], left: list[float | None]) -> None:
    before = sureness(cast, len(left))
    assert 0.0 <= before <= 1.0
    if before == 1.0:
        assert mean_is_right(cast) == mean_is_right(cast + left)


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


def test_the_winner_is_the_class_with_most_votes_or_weight() -> None:
    assert winner([0, None, 1, 1]) == 1
    assert winner([0, 1, 1, 0]) == 0  # a tie
    assert winner([0, 1, 1], [0.9, 0.2, 0.3]) == 0
    assert winner([0, 1, 1], [0.4, 0.2, 0.3]) == 1
    assert winner([None]) is None
    assert winner([]) is None


@given(st.dictionaries(st.text(), st.floats(max_value=0, allow_nan=False)))
def test_any_alternatives_give_a_probability_or_none(alternatives: dict[str, float]) -> None:
    reward = verdict_reward(alternatives)
    assert reward is None or 0.0 <= reward <= 1.0
