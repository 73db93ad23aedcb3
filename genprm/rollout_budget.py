"""How many more paths a solution costs that a problem still lacks (no source: the paper samples up to its limit, section 3.2.1)."""

from __future__ import annotations

from math import exp, inf, lgamma

PRIOR = (0.3, 0.3)
"""Beta distribution of a policy's success rate: most problems are solved nearly always or nearly never. What other ones cost is measured in
docs/estimators.md."""


def paths_per_solution(missing: int, other: int, trials: int, *, keep: int, left: int) -> float:
    """The fewest paths, on average, that one more kept solution will cost, however many of the ``left`` ones are sampled.

    ``missing`` of ``trials`` paths are of the kind (right or wrong) that is asked about, ``other`` of the other one; up to ``keep`` of each
    are kept, and none at all of a problem without both. Infinite if there is nothing to gain (without the other kind only that
    one counts).
    """
    if missing >= keep or left < 1 or (missing > 0 and other == 0):
        return inf
    before = 0 if missing == 0 else missing + min(other, keep)
    best, number = 0.0, 1
    while True:
        chances = _chances(keep - missing, number, PRIOR[0] + missing, PRIOR[1] + trials - missing)
        rest = max(0.0, 1.0 - sum(chances))  # reaches ``keep``
        kept = [0 if missing + more == 0 else missing + more + min(other, keep) for more in range(keep - missing + 1)]
        gain = sum(chance * value for chance, value in zip([*chances, rest], kept, strict=True)) - before
        best = max(best, gain / number)
        if number >= left:
            return 1.0 / best if best > 0 else inf
        number = min(2 * number, left)


def _chances(fewer_than: int, number: int, a: float, b: float) -> list[float]:
    """Probabilities of 0, 1, ... successes, up to one less than ``fewer_than``, among ``number`` draws of a rate that is Beta(a, b)."""
    return [
        exp(
            lgamma(number + 1) - lgamma(successes + 1) - lgamma(number - successes + 1)
            + lgamma(successes + a) + lgamma(number - successes + b) - lgamma(number + a + b)
            + lgamma(a + b) - lgamma(a) - lgamma(b)
        )
        if successes <= number
        else 0.0
        for successes in range(fewer_than)
    ]  # fmt: skip
