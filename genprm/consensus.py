"""Consensus filtering (section 3.2.3): a solution stays only if estimate and judge agree on its steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

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
