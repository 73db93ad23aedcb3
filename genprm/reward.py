"""Rewards of a generative verifier (Eq. 3 to 7), voting, and solution scores (appendix A.1)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

Aggregate = Literal["last", "mean", "min"]
RIGHT_FROM = 0.5


_WORDS = {"yes": "yes", "ye": "yes", "y": "yes", "no": "no", "n": "no"}
_TOKEN = re.compile(r"^[\s{▁Ġ]*([a-z]+)(?![^\W\d_])", re.IGNORECASE)


def verdict_word(token: str) -> str | None:
    """Which verdict a token says or begins: ``yes``, ``no`` or None.

    Tokenizers join the word with the brace or the end of the box, or split it: ``{Yes``, ``No}$`` and ``Y`` are all verdicts.
    """
    match = _TOKEN.match(token)
    return _WORDS.get(match.group(1).lower()) if match else None


def verdict_reward(logprobs: Mapping[str, float]) -> float | None:
    """P(Yes) / (P(Yes) + P(No)) from log-probabilities of the alternatives at the verdict's token.

    Keys are token texts, read by `verdict_word`. None where neither word is among the alternatives; a word that is missing
    counts as probability 0.
    """
    mass = {"yes": 0.0, "no": 0.0}
    for token, logprob in logprobs.items():
        word = verdict_word(token)
        if word is not None:
            mass[word] += math.exp(logprob)
    total = mass["yes"] + mass["no"]
    return mass["yes"] / total if total > 0.0 else None


def mean_reward(rewards_V: Sequence[float | None]) -> float | None:
    """Majority of N as the mean of the readable votes' rewards (Eq. 6, 7); None without one (no vote is no half)."""
    readable = [reward for reward in rewards_V if reward is not None]
    return sum(readable) / len(readable) if readable else None


def sureness(rewards_V: Sequence[float | None], num_left: int) -> float:
    """How sure it is, after some votes on a step, that ``num_left`` more will not change whether it is judged right.

    1.0 exactly where no outcome of them could. Else the probability that they don't, if every vote says Yes with one unknown
    probability (uniform beforehand): the Beta-binomial distribution of the Yeses to come. Votes to come may be unreadable, which
    changes nothing in the first case.
    """
    readable = [reward for reward in rewards_V if reward is not None]
    yes, cast = sum(readable), len(readable)
    needed = RIGHT_FROM * (cast + num_left) - yes  # so many more Yeses make it right
    if cast and (needed <= 0.0 or needed > num_left):
        return 1.0
    a, b = 1.0 + yes, 1.0 + cast - yes
    right = sum(_beta_binomial(count, num_left, a, b) for count in range(max(0, math.ceil(needed)), num_left + 1))
    kept = right if mean_is_right(rewards_V) else 1.0 - right
    return min(max(kept, 0.0), math.nextafter(1.0, 0.0))  # rounding must not make it sure


def _beta_binomial(count: int, number: int, a: float, b: float) -> float:
    """P(count of number) where the probability of one is Beta(a, b)."""
    log_choose = math.lgamma(number + 1) - math.lgamma(count + 1) - math.lgamma(number - count + 1)
    return math.exp(log_choose + _log_beta(count + a, number - count + b) - _log_beta(a, b))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def mean_is_right(rewards_V: Sequence[float | None]) -> bool:
    """Whether a step with these votes is judged right (no readable vote: it is not)."""
    mean = mean_reward(rewards_V)
    return mean is not None and mean >= RIGHT_FROM


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


def winner(classes: Sequence[int | None], weights: Sequence[float] | None = None) -> int | None:
    """The class with the most votes (self-consistency), or with the largest sum of ``weights``.

    ``classes[i]`` is the class of equal answers to which answer i belongs, None where it has no answer: no vote. Ties go to the class
    that came first; None if there is no vote.
    """
    sums: dict[int, float] = {}
    for number, weight in zip(classes, weights or [1.0] * len(classes), strict=True):
        if number is not None:
            sums[number] = sums.get(number, 0.0) + weight
    return max(sums, key=lambda number: sums[number]) if sums else None
