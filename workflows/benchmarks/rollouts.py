"""Rollouts of simulated policies: what giving problems up saves in paths, and loses in solutions. Nothing is generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.policy import RolloutConfig
from workflows.report import Table

PAPER = RolloutConfig(first_round=32, next_rounds=16, growth=1, max_paths=2048, keep_per_kind=4)
LIMITS = (100.0, 200.0, 400.0, 800.0)
"""Paths that one more solution may cost."""


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


def rollouts_benchmark(problems: int, seed: int) -> dict[str, object]:
    """Shares, of the paper's rounds, of paths sampled and of solutions and problems lost, for several limits; prints a table."""
    rows, result = [], {}
    for name, policy in POLICIES.items():
        rates = policy.draw(problems, np.random.default_rng(seed))
        paths, solutions, kept = _sampled(rates, PAPER)
        rows.append([name, "-", f"{paths:,}", f"{solutions:,}", f"{kept:,}", "", "", ""])
        for limit in LIMITS:
            config = PAPER.model_copy(update={"max_paths_per_solution": limit})
            fewer, found, still = _sampled(rates, config)
            shares = [fewer / paths, 1 - found / solutions, 1 - still / kept]
            rows.append([name, f"{limit:g}", f"{fewer:,}", f"{found:,}", f"{still:,}", *(f"{share:.3f}" for share in shares)])
            result[f"{name}, {limit:g}"] = [round(share, 3) for share in shares]
    head = ("policy", "limit", "paths", "solutions", "problems", "paths, share", "solutions lost", "problems lost")
    print(Table(title="Rollouts", head=head, rows=rows).text(), flush=True)
    return {"benchmark": "rollouts", "problems": problems, **result}


def _sampled(rates: NDArray[np.float64], config: RolloutConfig) -> tuple[int, int, int]:
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
