"""Monte Carlo estimates of states (Eq. 8) and how many completions they take (Eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence

from genprm.records import Counts


def value(counts: Counts) -> float:
    """MC(s) = successes / trials (Eq. 8). Failures to judge are trials that did not succeed. No trials: 0."""
    return counts.correct / counts.trials if counts.trials else 0.0


def num_completions(start_value: float, hard: int = 128, middle: int = 64, easy: int = 32) -> int:
    """K of Eq. 9: ``hard`` if MC(s_1) < 0.1, ``middle`` if 0.1 <= MC(s_1) < 0.9, else ``easy``."""
    if not 0.0 <= start_value <= 1.0:
        raise ValueError(f"MC(s_1) = {start_value} is not a probability")
    if start_value < 0.1:
        return hard
    return middle if start_value < 0.9 else easy


def step_values(step_counts_S: Sequence[Counts]) -> list[float]:
    """MC(s_t, a_t) for every step; from the first zero on every value is 0 (method, stage 2)."""
    values: list[float] = []
    for counts in step_counts_S:
        values.append(0.0 if values and values[-1] == 0.0 else value(counts))
    return values
