"""Policies and solutions that are made up, with known success rates: what rules for spending paths and completions come to on them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.engine.base import derive_seed
from actors.policy import RolloutConfig
from genprm import monte_carlo
from genprm.records import Counts, EstimatedSolution, Outcome, Solution


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Success rates of a policy over problems: shares that it ``always`` and ``never`` solves, the others Beta(a, b)."""

    always: float
    never: float
    a: float
    b: float

    def draw(self, number: int, rng: np.random.Generator) -> NDArray[np.float64]:
        kind = rng.random(number)
        rates = rng.beta(self.a, self.b, number)
        return np.where(kind < self.always, 1.0, np.where(kind > 1 - self.never, 0.0, rates))


POLICIES: Mapping[str, Rates] = {
    "accuracy 0.42": Rates(always=0.02, never=0.10, a=0.5, b=0.6),
    "accuracy 0.74": Rates(always=0.15, never=0.03, a=0.9, b=0.35),
    "accuracy 0.84": Rates(always=0.25, never=0.02, a=1.0, b=0.25),
}
"""Of the accuracies that Qwen2.5's 7B models have on MATH (75.5 and 83.6), and of a weaker one; how rates spread is our assumption."""


def sample_paths(rates: NDArray[np.float64], config: RolloutConfig) -> tuple[int, int, int]:
    """Paths, kept solutions, and problems with any. A problem's draws are the same under every rule."""
    paths = solutions = problems = 0
    for index, rate in enumerate(rates):
        rng = np.random.default_rng(index)
        sampled = correct = number = 0
        while n := config.next_round(number, sampled, correct, sampled - correct):
            correct += int(rng.binomial(n, rate))
            sampled, number = sampled + n, number + 1
        paths += sampled
        if 0 < correct < sampled:
            solutions += min(correct, config.keep_per_kind) + min(sampled - correct, config.keep_per_kind)
            problems += 1
    return paths, solutions, problems


class KnownCompleter:
    """Draws completions from known values; the same for the same seed, row, state and index.

    States after one that was never solved have value 0, and completions as long as the last known ones of their solution: too long, if
    anything.
    """

    def __init__(self, solutions: Sequence[EstimatedSolution], seed: int) -> None:
        self._values: dict[tuple[str, int], tuple[float, float]] = {}
        self._seed = seed
        for solution in solutions:
            if solution.tokens_T[0]:  # written to one solution of a problem only
                start = solution.start_counts
                self._values[solution.problem_id, 0] = (monte_carlo.value(start), solution.tokens_T[0] / start.trials)
            mean = 0.0
            for state, (counts, tokens) in enumerate(zip(solution.step_counts_S[:-1], solution.tokens_T[1:], strict=True), start=1):
                mean = tokens / counts.trials if counts.trials else mean
                self._values[solution.id, state] = (monte_carlo.value(counts), mean)

    async def complete(self, solution: Solution, state: int, number: int, *, row_id: str, index: int) -> tuple[Counts, int]:
        value, mean = self._values[row_id, state]
        rng = random.Random(derive_seed(self._seed, row_id, f"state {state}", index))
        correct = sum(rng.random() < value for _ in range(number))
        return Counts(correct=correct, incorrect=number - correct), round(mean * number)


@dataclass(frozen=True, kw_only=True)
class World:
    """Made-up solutions: at each step the value drifts by a normal step of ``drift`` in log-odds and, with
    probability ``drop``, is multiplied by a uniform factor of ``factor``; with ``single`` at most once."""

    drift: float
    drop: float
    factor: tuple[float, float]
    single: bool = True


WORLDS: Mapping[str, World] = {
    "one-drop": World(drift=0.1, drop=0.12, factor=(0.0, 0.7)),
    "drifting": World(drift=0.35, drop=0.12, factor=(0.0, 0.7)),
    "many-drops": World(drift=0.1, drop=0.3, factor=(0.4, 0.95), single=False),
    "jumpy": World(drift=0.1, drop=0.4, factor=(0.6, 1.5), single=False),
}
MADE_UP_TRIALS = 1_000_000


def made_up(
    world: World, number: int, seed: int = 0, *, num_steps: tuple[int, int] = (4, 10), tokens: Callable[[float], float] = lambda _: 100.0
) -> list[EstimatedSolution]:
    """Solutions with known values, none of which the smoother's kernels were made for, of ``num_steps`` (least, most) steps;
    ``tokens(share)`` are those of a completion from a state before which that share of the solution stands."""
    rng = np.random.default_rng(seed)
    solutions = []
    for index in range(number):
        values = [float(rng.beta(1.5, 1.5))]
        dropped = False
        for _ in range(int(rng.integers(num_steps[0] - 1, num_steps[1]))):
            odds = np.log(values[-1] / (1 - values[-1])) + rng.normal(0, world.drift)
            value = float(1 / (1 + np.exp(-odds)))
            if rng.random() < world.drop and not (world.single and dropped):
                value, dropped = value * float(rng.uniform(*world.factor)), True
            values.append(float(np.clip(value, 1e-4, 1 - 1e-4)))
        right = bool(rng.random() < values[-1])
        outcome = Outcome.CORRECT if right else Outcome.INCORRECT
        counts = [
            Counts(correct=round(MADE_UP_TRIALS * value), incorrect=MADE_UP_TRIALS - round(MADE_UP_TRIALS * value)) for value in values
        ]
        solutions.append(
            EstimatedSolution(
                id=f"p{index}/s0",
                problem_id=f"p{index}",
                problem="",
                answer="",
                level=None,
                steps=("",) * len(values),
                final_answer=None,
                outcome=outcome,
                problem_counts=Counts(),
                start_counts=counts[0],
                step_counts_S=(*counts[1:], Counts.of_outcomes([outcome])),
                num_completions=0,
                num_tokens=0,
                tokens_T=tuple(round(tokens(state / len(values)) * MADE_UP_TRIALS) for state in range(len(values))),
            )
        )
    return solutions
