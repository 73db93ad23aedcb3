"""The comparison of estimators: what it draws, and how it reads its curves."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from actors.estimator import PaperEstimatorConfig, ThriftyEstimatorConfig
from genprm.records import Counts, EstimatedSolution, Outcome
from workflows.benchmarks.monte_carlo import (
    Point,
    at_agreement,
    at_tokens,
    by_ratio,
    calibration,
    estimates,
)
from workflows.planning.simulated import WORLDS, KnownCompleter, made_up


def known(number: int) -> EstimatedSolution:
    """Start 0.5 (10 tokens a completion), then 0.25 (4 tokens), then its own wrong answer."""
    return EstimatedSolution(
        id=f"p/s{number}", problem_id="p", problem="", answer="", level=None, steps=("a", "b"), final_answer=None,
        outcome=Outcome.INCORRECT, problem_counts=Counts(), start_counts=Counts(correct=500, incorrect=500),
        step_counts_S=(Counts(correct=250, incorrect=750), Counts(incorrect=1)), num_completions=2000, num_tokens=14_000,
        tokens_T=(10_000 if number == 0 else 0, 4_000),
    )  # fmt: skip


def test_completions_are_drawn_from_the_known_values_at_their_length() -> None:
    completer = KnownCompleter([known(0), known(1)], seed=3)

    async def draw() -> list[tuple[Counts, int]]:
        return [
            await completer.complete(known(1), state, 4000, row_id=row_id, index=0)
            for state, row_id in ((0, "p"), (1, "p/s1"), (1, "p/s1"))
        ]

    start, after, again = asyncio.run(draw())
    assert (start[1], after[1]) == (40_000, 16_000)
    assert start[0].correct == pytest.approx(2000, abs=4 * 32)  # four standard deviations
    assert after[0].correct == pytest.approx(1000, abs=4 * 28)
    assert after == again


def test_the_estimators_own_code_spends_them() -> None:
    config = PaperEstimatorConfig(start=8, hard=8, middle=16, easy=8)
    first, second = asyncio.run(estimates([known(0), known(1)], config, seed=0))
    assert (first.num_completions, second.num_completions) == (24, 16)
    assert (first.num_tokens, second.num_tokens) == (80 + 64, 64)


def test_a_larger_budget_goes_on_from_what_a_smaller_one_spent() -> None:
    """For each solution: with a higher limit, or more sureness asked for, no state has fewer completions, and some solutions have more."""
    solutions = made_up(WORLDS["one-drop"], 12)

    def trials(most: int, sureness: float) -> list[list[int]]:
        config = ThriftyEstimatorConfig(start=8, first=2, batch=4, most=most, sureness=sureness)
        return [[counts.trials for counts in row.step_counts_S] for row in asyncio.run(estimates(solutions, config, seed=0))]

    budgets = [trials(4, 0.9), trials(8, 0.9), trials(16, 0.9), trials(16, 0.99), trials(16, 1.0)]
    for smaller, larger in itertools.pairwise(budgets):
        assert all(few <= many for before, after in zip(smaller, larger, strict=True) for few, many in zip(before, after, strict=True))
        assert sum(map(sum, smaller)) < sum(map(sum, larger))
    for row in budgets[-1]:  # never above the limit, and within a batch of it where all is spent
        assert 16 * (len(row) - 1) - 4 < sum(row[:-1]) <= 16 * (len(row) - 1)


@pytest.mark.parametrize("name", WORLDS)
def test_made_up_worlds_have_errors_and_none(name: str) -> None:
    solutions = made_up(WORLDS[name], 200)
    errors = [by_ratio(solution) for solution in solutions]
    assert 10 < sum(index < 0 for index in errors) < 190
    assert all(4 <= len(solution.steps) <= 10 for solution in solutions)
    assert solutions == made_up(WORLDS[name], 200)


def test_curves_are_read_between_their_points() -> None:
    curve = [
        Point(name=str(tokens), completions=0, tokens=tokens, agreement=agreement, oracle=0, precision=0, recall=0)
        for tokens, agreement in ((100, 0.5), (200, 0.7), (400, 0.9))
    ]
    assert at_agreement(curve, 0.8) == pytest.approx(300)
    assert at_agreement(curve, 0.4) == 100
    assert at_agreement(curve, 0.95) is None
    assert at_tokens(curve, 150) == pytest.approx(0.6)
    assert at_tokens(curve, 9999) == pytest.approx(0.9)


def test_calibration_bins_answers_by_sureness() -> None:
    rows = calibration([(0.95, True), (0.91, True), (0.92, False), (0.45, False)])
    assert [(round(sure, 3), round(share, 3), number) for sure, share, number in rows] == [(0.45, 0.0, 1), (0.927, 0.667, 3)]
