"""Rollouts of simulated policies: what giving problems up saves in paths, and loses in solutions. Nothing is generated."""

from __future__ import annotations

import numpy as np

from actors.policy import RolloutConfig
from workflows.planning.simulated import POLICIES, sample_paths
from workflows.report import Table

PAPER = RolloutConfig(first_round=32, next_rounds=16, growth=1, max_paths=2048, keep_per_kind=4)
LIMITS = (100.0, 200.0, 400.0, 800.0)
"""Paths that one more solution may cost."""


def rollouts_benchmark(problems: int, seed: int) -> dict[str, object]:
    """Shares, of the paper's rounds, of paths sampled and of solutions and problems lost, for several limits; prints a table."""
    rows, result = [], {}
    for name, policy in POLICIES.items():
        rates = policy.draw(problems, np.random.default_rng(seed))
        paths, solutions, kept = sample_paths(rates, PAPER)
        rows.append([name, "-", f"{paths:,}", f"{solutions:,}", f"{kept:,}", "", "", ""])
        for limit in LIMITS:
            config = PAPER.model_copy(update={"max_paths_per_solution": limit})
            fewer, found, still = sample_paths(rates, config)
            shares = [fewer / paths, 1 - found / solutions, 1 - still / kept]
            rows.append([name, f"{limit:g}", f"{fewer:,}", f"{found:,}", f"{still:,}", *(f"{share:.3f}" for share in shares)])
            result[f"{name}, {limit:g}"] = [round(share, 3) for share in shares]
    head = ("policy", "limit", "paths", "solutions", "problems", "paths, share", "solutions lost", "problems lost")
    print(Table(title="Rollouts", head=head, rows=rows).text(), flush=True)
    return {"benchmark": "rollouts", "problems": problems, **result}
