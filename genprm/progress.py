"""Step labels from Monte Carlo values: Relative Progress Estimation (Eq. 10, 11) and its alternatives (Tables 3, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

LabelRule = Literal["ratio", "difference", "hard"]


def relative_progress(start_value: float, values_S: Sequence[float]) -> list[float]:
    """P_t = MC(s_t, a_t) / MC(s_t) for every step (Eq. 10).

    MC(s_t) = 0 is reached after a zero, where progress is 0; or at the start, if the completer never solved the problem.
    There a step with a positive value makes infinite progress, and one without makes none.

    >>> relative_progress(0.5, [0.5, 0.25, 0.25, 0.0])
    [1.0, 0.5, 1.0, 0.0]
    """
    progress: list[float] = []
    before = start_value
    for value in values_S:
        if before > 0.0:
            progress.append(value / before)
        else:
            progress.append(float("inf") if value > 0.0 else 0.0)
        before = value
    return progress


ROUNDING = 1e-9
"""8/12 over 10/12 is 0.8 and must count as it, though its nearest floating-point number is less."""


def labels(start_value: float, values_S: Sequence[float], rule: LabelRule = "ratio", epsilon: float = 0.8) -> list[int]:
    """1 for a good step, 0 for a bad one.

    - ``ratio``: P_t >= epsilon (Eq. 11; the paper's choice is 0.8).
    - ``difference``: MC(s_t, a_t) - MC(s_t) >= epsilon, with epsilon about -0.1 to -0.5; after a zero every label is 0.
    - ``hard``: MC(s_t, a_t) > 0; ``epsilon`` is not used.
    """
    before_S = [start_value, *values_S[:-1]]
    if rule == "hard":
        return [int(value > 0.0) for value in values_S]
    if rule == "difference":
        dead = False
        result = []
        for before, value in zip(before_S, values_S, strict=True):
            result.append(int(not dead and value - before >= epsilon - ROUNDING))
            dead = dead or value == 0.0
        return result
    return [int(progress >= epsilon - ROUNDING) for progress in relative_progress(start_value, values_S)]


def first_error(labels_S: Sequence[int]) -> int:
    """0-based index of the first step labelled 0; -1 if there is none."""
    for index, label in enumerate(labels_S):
        if label == 0:
            return index
    return -1
