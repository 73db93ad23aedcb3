"""Consensus filtering (section 3.2.3): a solution stays only if estimate and judge agree on its steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from genprm.progress import first_error


def majority_index(votes_V: Sequence[int | None]) -> int | None:
    """The most frequent readable vote; a tie goes to the earlier vote; None without a readable one."""
    readable = [vote for vote in votes_V if vote is not None]
    return Counter(readable).most_common(1)[0][0] if readable else None


def judge_labels(judged_first_error: int, num_steps: int) -> list[int]:
    """The labels that a judge's index stands for, up to and including the first error: 1 before it, 0 at it."""
    if judged_first_error == -1:
        return [1] * num_steps
    return [1] * judged_first_error + [0]


def agree(labels_S: Sequence[int], judged_first_error: int) -> bool:
    """Whether all labels agree, up to and including the first error of either."""
    own = first_error(labels_S)
    considered = list(labels_S) if own == -1 else list(labels_S[: own + 1])
    return considered == judge_labels(judged_first_error, len(labels_S))


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How estimate and judge agree over many solutions.

    ``matrix[i][j]`` counts those whose first error is ``names[i]`` by the estimate and ``names[j]`` by the judge; the last column
    are those the judge gave no verdict on. ``levels`` maps a problem level to (solutions, kept ones).
    """

    names: list[str]
    matrix: list[list[int]]
    levels: dict[str, tuple[int, int]]


def agreement(critiques: Sequence[tuple[int, int | None, str | None]], kept: Sequence[bool], *, most_steps: int = 8) -> Agreement:
    """From (estimated first error, judged first error or None, level) of every solution, and whether it was kept.

    First errors from step ``most_steps`` on share a row and a column.
    """
    names = ["none", *(str(step) for step in range(1, most_steps)), f"{most_steps}+"]
    matrix = [[0] * (len(names) + 1) for _ in names]
    levels: dict[str, tuple[int, int]] = {}
    for (estimated, judged, level), is_kept in zip(critiques, kept, strict=True):
        column = len(names) if judged is None else min(judged + 1, most_steps)
        matrix[min(estimated + 1, most_steps)][column] += 1
        number, number_kept = levels.get(level or "-", (0, 0))
        levels[level or "-"] = (number + 1, number_kept + is_kept)
    used = 1 + max((index for index in range(len(names)) if any(matrix[index]) or any(row[index] for row in matrix)), default=0)
    return Agreement(names=names[:used], matrix=[[*row[:used], row[-1]] for row in matrix[:used]], levels=dict(sorted(levels.items())))
