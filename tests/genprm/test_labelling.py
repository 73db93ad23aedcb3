"""From counts to labels, by hand."""

from __future__ import annotations

import pytest

from genprm.labelling import label, label_smoothed
from genprm.records import Counts, EstimatedSolution, Outcome
from genprm.smoothing import Smoother, flat_prior


def solution(successes_S: tuple[int, ...], trials: int, outcome: Outcome) -> EstimatedSolution:
    """Eight in sixteen at the bare problem, then ``successes_S`` of ``trials`` after each step but the last."""
    return EstimatedSolution(
        id="p/s0", problem_id="p", problem="P", answer="3", level=None, steps=("a",) * (len(successes_S) + 1), final_answer="3",
        outcome=outcome, problem_counts=Counts(correct=1, incorrect=1), start_counts=Counts(correct=8, incorrect=8),
        step_counts_S=(*(Counts(correct=n, incorrect=trials - n) for n in successes_S), Counts.of_outcomes([outcome])),
        num_completions=0, num_tokens=0, tokens_T=(0,) * (len(successes_S) + 1),
    )  # fmt: skip


def test_ratios_of_values_are_held_against_the_threshold() -> None:
    """Values 1/2, 1/2, 7/16, 1/4, 0: the ratios are 1, 7/8, 4/7 and 0."""
    counted = solution((8, 7, 4), 16, Outcome.INCORRECT)
    labelled = label(counted, "ratio", 0.8)
    assert labelled.values_S == (0.5, 0.4375, 0.25, 0.0)
    assert labelled.progress_S == pytest.approx((1.0, 7 / 8, 4 / 7, 0.0))
    assert labelled.labels_S == (1, 1, 0, 0)
    assert labelled.first_error == 2
    assert labelled.sureness is None
    assert label(counted, "ratio", 0.9).first_error == 1
    assert label(counted, "hard", 0.8).first_error == 3
    assert label(counted, "difference", -0.1).first_error == 2  # 1/16 lost, then 3/16


def test_smoothed_labels_are_good_before_the_likeliest_first_error() -> None:
    """A fall, seen with 2,000 completions a state, from 1/2 to 1/20 at the second step."""
    smoother = Smoother(flat_prior(), 0.8)
    labelled = label_smoothed(solution((1000, 100, 100), 2000, Outcome.INCORRECT), smoother)
    assert labelled.first_error == 1
    assert labelled.labels_S == (1, 0, 1, 0)
    assert labelled.values_S == pytest.approx((0.5, 0.05, 0.05, 0.0), abs=0.02)
    assert labelled.sureness is not None
    assert 0.9 < labelled.sureness < 0.99  # with 8 of 16 at the start the first step may have lost something as well
    right = label_smoothed(solution((1000, 1000, 1000), 2000, Outcome.CORRECT), smoother)
    assert (right.first_error, right.labels_S) == (-1, (1, 1, 1, 1))
