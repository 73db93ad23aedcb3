"""What one more kept solution of a problem is expected to cost in paths."""

from __future__ import annotations

from math import inf

import pytest
from scipy.stats import betabinom

from genprm.rollout_budget import PRIOR, _chances, paths_per_solution


def test_chances_are_the_beta_binomial_ones() -> None:
    assert _chances(5, 100, 2.3, 40.1) == pytest.approx([betabinom.pmf(number, 100, 2.3, 40.1) for number in range(5)])
    assert _chances(3, 1, 0.3, 0.3) == pytest.approx([0.5, 0.5, 0.0])


def test_one_more_path_of_a_problem_that_was_always_solved() -> None:
    """It is wrong with probability 0.3 / (32 + 0.6), and then a wrong and a right solution are kept."""
    assert paths_per_solution(0, 32, 32, keep=1, left=1) == pytest.approx((32 + sum(PRIOR)) / PRIOR[0] / 2)
    assert paths_per_solution(1, 31, 32, keep=2, left=1) == pytest.approx((32 + sum(PRIOR)) / 1.3), "and here one more is kept"


def test_the_longer_a_kind_is_missing_the_dearer_it_is() -> None:
    costs = [paths_per_solution(0, trials, trials, keep=4, left=2048 - trials) for trials in (32, 64, 128, 512, 1024)]
    assert costs == sorted(costs)
    assert costs[0] < 100 < 400 < costs[-1]


def test_nothing_to_gain_is_never_worth_a_path() -> None:
    assert paths_per_solution(4, 0, 32, keep=4, left=100) == inf
    assert paths_per_solution(0, 32, 32, keep=4, left=0) == inf
