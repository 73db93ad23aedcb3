"""Rewards of a generative verifier (Eq. 3 to 7), voting, and solution scores (appendix A.1)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

Aggregate = Literal["last", "mean", "min"]
RIGHT_FROM = 0.5


def verdict_reward(logprobs: Mapping[str, float]) -> float | None:
    """P(Yes) / (P(Yes) + P(No)) from log-probabilities of the alternatives at the verdict's token.

    Keys are token texts; case, spaces and a leading brace (a tokenizer may join them) do not matter. None where neither
    word is among the alternatives; a word that is missing counts as probability 0.
    """
    mass = {"yes": 0.0, "no": 0.0}
    for token, logprob in logprobs.items():
        word = token.strip().lstrip("{").strip().lower()
        if word in mass:
            mass[word] += math.exp(logprob)
    total = mass["yes"] + mass["no"]
    return mass["yes"] / total if total > 0.0 else None


def mean_reward(rewards_V: Sequence[float | None]) -> float | None:
    """Majority of N as the mean of the readable votes' rewards (Eq. 6, 7); None without one (no vote is no half)."""
    readable = [reward for reward in rewards_V if reward is not None]
    return sum(readable) / len(readable) if readable else None


def first_wrong_step(rewards_S: Sequence[float | None]) -> int | None:
    """First t with r_t < 0.5; -1 if every step is right; None if a step without a reward comes before any wrong one."""
    for index, reward in enumerate(rewards_S):
        if reward is None:
            return None
        if reward < RIGHT_FROM:
            return index
    return -1


def solution_score(rewards_S: Sequence[float | None], aggregate: Aggregate = "last") -> float | None:
    """Score of a solution for ranking (A.1); None where a reward that it needs is missing."""
    if not rewards_S:
        return None
    if aggregate == "last":
        return rewards_S[-1]
    readable = [reward for reward in rewards_S if reward is not None]
    if len(readable) != len(rewards_S):
        return None
    return min(readable) if aggregate == "min" else sum(readable) / len(readable)


def majority_answer(answers: Sequence[str | None]) -> str | None:
    """The most frequent answer (self-consistency); ties go to the earliest; None if no answer is readable."""
    readable = [answer for answer in answers if answer is not None]
    return Counter(readable).most_common(1)[0][0] if readable else None
