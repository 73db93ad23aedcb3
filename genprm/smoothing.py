"""Values of a solution's states from few completions: a hidden Markov model over the steps, learned from the counts.

A completer's success probability at the states of one solution is one sequence: from step to step it mostly stays, drifts, or
drops. Eq. 8 takes every state for itself and pays for it in completions; here all counts of a solution bear on all its values,
and what a step usually does is learned from the counts of all solutions (empirical Bayes).

Assumptions, and nothing else: completions of a state succeed independently (binomial counts); values form a Markov chain on
``GRID``; a step's move is a mixture of the fixed ``kernels`` below, whose weights depend on whether the solution's own answer is
right and on how high the value stood. The last state is not in the chain: its value is the solution's own outcome.

Dimension legend: N solutions, T states of a solution with a value to be estimated (the bare problem, then after each step but the
last), G grid points, C kernels, B bands of the value before a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from genprm.records import Counts, EstimatedSolution, LearnedPrior, Outcome

Floats = NDArray[np.float64]

LOGIT_LIMIT, LOGIT_STEP = 6.0, 0.15
KERNELS = ("same", "slight drift", "drift", "wide drift", "drop", "rise", "to zero", "anything")
DRIFTS = (0.2, 0.5, 1.2)
BANDS = (0.25, 0.75)
PSEUDO_COUNT = 1.0
INITIAL_PSEUDO_COUNT = 0.2


def _logistic(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-x))


GRID: Floats = np.concatenate([[0.0], _logistic(np.arange(-LOGIT_LIMIT, LOGIT_LIMIT + 1e-9, LOGIT_STEP, dtype=np.float64)), [1.0]])
"""Success probabilities [G]: even in log-odds between 0.0025 and 0.9975, and the ends."""


@cache
def kernels() -> Floats:
    """Moves [C, G, G]: row i of each is where a value of GRID[i] goes; every row sums to one."""
    logits = np.log(np.clip(GRID, 1e-3, 1 - 1e-3) / (1 - np.clip(GRID, 1e-3, 1 - 1e-3)))
    width = np.gradient(np.clip(GRID, 1e-3, 1 - 1e-3))
    below = np.tril(np.ones((len(GRID), len(GRID))), -1)
    moves = [np.eye(len(GRID))]
    for scale in DRIFTS:
        moves.append(np.exp(-0.5 * ((logits[None, :] - logits[:, None]) / scale) ** 2))
    moves.append(below * width[None, :])
    moves.append(below.T * width[None, :])
    zero = np.zeros((len(GRID), len(GRID)))
    zero[:, 0] = 1.0
    moves.append(zero)
    moves.append(np.ones((len(GRID), len(GRID))))
    stacked = np.stack(moves)
    sums = stacked.sum(axis=2, keepdims=True)
    return np.where(sums > 0, stacked / np.where(sums > 0, sums, 1.0), np.eye(len(GRID))[None])


def bands() -> NDArray[np.int64]:
    """The band of every grid point [G]."""
    return np.digitize(GRID, BANDS)


@dataclass(frozen=True)
class Chain:
    """What is known of one solution: successes and trials [T] at its states but the last, and whether its own answer is right."""

    successes_T: tuple[int, ...]
    trials_T: tuple[int, ...]
    is_correct: bool

    @classmethod
    def of_counts(cls, counts_T: Sequence[Counts], *, is_correct: bool) -> Chain:
        """Failures to judge are trials that did not succeed (Eq. 8)."""
        return cls(tuple(counts.correct for counts in counts_T), tuple(counts.trials for counts in counts_T), is_correct)

    @classmethod
    def of(cls, solution: EstimatedSolution) -> Chain:
        counts_T = (solution.start_counts, *solution.step_counts_S[:-1])
        return cls.of_counts(counts_T, is_correct=solution.outcome is Outcome.CORRECT)

    def __post_init__(self) -> None:
        if not self.successes_T or len(self.successes_T) != len(self.trials_T):
            raise ValueError(f"{len(self.successes_T)} successes for {len(self.trials_T)} trials; one of each a state, one state at least")
        if any(not 0 <= hits <= trials for hits, trials in zip(self.successes_T, self.trials_T, strict=True)):
            raise ValueError(f"successes {self.successes_T} of trials {self.trials_T}")


@dataclass(frozen=True)
class Prior:
    """What solutions usually do: ``initial`` [2, G] at the bare problem, ``weights`` [2, B, C] of the kernels.

    First index: 0 for solutions whose own answer is wrong, 1 for right ones.
    """

    initial: Floats
    weights: Floats

    @classmethod
    def of(cls, learned: LearnedPrior) -> Prior:
        return cls(initial=np.array(learned.initial), weights=np.array(learned.weights))

    def learned(self, num_solutions: int) -> LearnedPrior:
        """As a row."""
        return LearnedPrior(initial=self.initial.tolist(), weights=self.weights.tolist(), num_solutions=num_solutions)

    def moves(self) -> Floats:
        """Transition matrices [2, G, G]."""
        of_row = self.weights[:, bands(), :]
        return np.einsum("yic,cij->yij", of_row, kernels())


def flat_prior() -> Prior:
    """Before anything was seen: mostly small moves, any start."""
    weights = np.array([4.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.1])
    return Prior(
        initial=np.full((2, len(GRID)), 1.0 / len(GRID)),
        weights=np.tile(weights / weights.sum(), (2, len(BANDS) + 1, 1)),
    )


def likelihoods(successes: NDArray[np.int64], trials: NDArray[np.int64]) -> Floats:
    """P(successes | trials, value) up to a factor [..., G]; at most 1 each, all 1 without trials."""
    hits, misses = successes[..., None], (trials - successes)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(hits > 0, hits * np.log(GRID), 0.0) + np.where(misses > 0, misses * np.log1p(-GRID), 0.0)
    return np.exp(logs - logs.max(axis=-1, keepdims=True))


def fit(chains: Sequence[Chain], *, start: Prior | None = None, rounds: int = 40, tolerance: float = 1e-5) -> Prior:
    """The prior under which the counts are likeliest, by expectation maximisation with a few pseudo-counts.

    Stops after ``rounds``, or when the log-likelihood per solution rises by less than ``tolerance``.
    """
    prior = start or flat_prior()
    base = flat_prior()
    groups: dict[tuple[bool, int], list[Chain]] = {}
    for chain in chains:
        groups.setdefault((chain.is_correct, len(chain.trials_T)), []).append(chain)
    emissions = {
        key: likelihoods(np.array([chain.successes_T for chain in group]), np.array([chain.trials_T for chain in group]))
        for key, group in groups.items()
    }
    before = -np.inf
    band_of = np.eye(len(BANDS) + 1)[bands()]
    for _ in range(rounds):
        initial = INITIAL_PSEUDO_COUNT * base.initial * len(GRID)
        counts = PSEUDO_COUNT * base.weights * len(KERNELS)
        moves = prior.moves()
        total = 0.0
        for (is_correct, _length), emission in emissions.items():
            y = int(is_correct)
            forward, backward, logs = _messages(prior.initial[y], moves[y], emission)
            total += logs.sum()
            both = forward[:, 0] * backward[:, 0]
            initial[y] += (both / both.sum(axis=1, keepdims=True)).sum(axis=0)
            for t in range(1, emission.shape[1]):
                after = emission[:, t] * backward[:, t]
                mass = np.einsum("ni,ij,nj->n", forward[:, t - 1], moves[y], after)
                pairs = (forward[:, t - 1] / mass[:, None]).T @ after
                by_row = np.einsum("cij,ij->ic", kernels(), pairs)
                counts[y] += prior.weights[y] * (band_of.T @ by_row)
        prior = Prior(
            initial=initial / initial.sum(axis=1, keepdims=True),
            weights=counts / counts.sum(axis=2, keepdims=True),
        )
        if total - before < tolerance * len(chains):
            break
        before = total
    return prior


def _messages(initial: Floats, moves: Floats, emission: Floats) -> tuple[Floats, Floats, Floats]:
    """Scaled forward and backward messages [N, T, G] of emissions [N, T, G], and log-likelihoods [N]."""
    forward, backward = np.empty_like(emission), np.empty_like(emission)
    logs = np.zeros(len(emission))
    for t in range(emission.shape[1]):
        before = initial[None, :] if t == 0 else forward[:, t - 1] @ moves
        here = before * emission[:, t]
        scale = here.sum(axis=1, keepdims=True)
        forward[:, t] = here / scale
        logs += np.log(scale[:, 0])
    backward[:, -1] = 1.0
    for t in range(emission.shape[1] - 2, -1, -1):
        here = (emission[:, t + 1] * backward[:, t + 1]) @ moves.T
        backward[:, t] = here / here.max(axis=1, keepdims=True)
    return forward, backward, logs


@cache
def _bad(epsilon: float) -> Floats:
    """1 where a move's relative progress is below epsilon (Eq. 10, 11) [G, G]."""
    before, after = GRID[:, None], GRID[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        progress = np.where(before > 0, after / before, np.where(after > 0, np.inf, 0.0))
    return (progress < epsilon - 1e-9).astype(np.float64)


@dataclass(frozen=True)
class Posterior:
    """What is believed of one solution: ``values_T`` (means), ``bad_S`` (P that a step is below epsilon), and
    ``first_error`` [S + 1]: P that step s is the first such, and, last, that there is none."""

    values_T: Floats
    bad_S: Floats
    first_error: Floats

    @property
    def best(self) -> int:
        """The likeliest first error, 0-based; -1 for none."""
        index = int(self.first_error.argmax())
        return -1 if index == len(self.first_error) - 1 else index

    @property
    def sureness(self) -> float:
        return float(self.first_error.max())


class Smoother:
    """A prior and an epsilon, ready to judge solutions."""

    def __init__(self, prior: Prior, epsilon: float) -> None:
        self._prior = prior
        self._moves = prior.moves()
        bad = _bad(epsilon)
        self._good_moves = self._moves * (1.0 - bad)
        self._bad_moves = self._moves * bad

    def judge(self, chain: Chain) -> Posterior:
        y = int(chain.is_correct)
        emission = likelihoods(np.array([chain.successes_T]), np.array([chain.trials_T]))
        forward, backward, _ = _messages(self._prior.initial[y], self._moves[y], emission)
        both = forward[0] * backward[0]
        values = (both / both.sum(axis=1, keepdims=True)) @ GRID
        bad = []
        for t in range(1, emission.shape[1]):
            after = emission[0, t] * backward[0, t]
            wrong, right = (forward[0, t - 1] @ moves[y] @ after for moves in (self._bad_moves, self._good_moves))
            bad.append(wrong / (wrong + right))
        bad.append(0.0 if chain.is_correct else 1.0)
        return Posterior(values_T=values, bad_S=np.array(bad), first_error=self._masses(emission, y)[0][0])

    def log_likelihood(self, chain: Chain) -> float:
        """Of a chain's counts, up to a term that no prior changes."""
        emission = likelihoods(np.array([chain.successes_T]), np.array([chain.trials_T]))
        y = int(chain.is_correct)
        return float(_messages(self._prior.initial[y], self._moves[y], emission)[2][0])

    def _masses(self, emission: Floats, y: int) -> tuple[Floats, Floats]:
        """P(first error) [N, T + 1] for emissions [N, T, G], and the log-likelihood of all counts [N].

        A solution with a wrong answer errs at its last step if not before. Messages are scaled, or long solutions would underflow.
        """
        number, length, _ = emission.shape
        backward, backward_log = np.ones_like(emission), np.zeros((number, length))
        logs = np.full((number, length + 1), -np.inf)
        with np.errstate(divide="ignore"):
            for t in range(length - 2, -1, -1):
                here = (emission[:, t + 1] * backward[:, t + 1]) @ self._moves[y].T
                top = here.max(axis=1)
                backward[:, t] = here / top[:, None]
                backward_log[:, t] = backward_log[:, t + 1] + np.log(top)
            clean, clean_log = self._prior.initial[y] * emission[:, 0], np.zeros(number)
            for t in range(1, length):
                wrong = ((clean @ self._bad_moves[y]) * emission[:, t] * backward[:, t]).sum(axis=1)
                logs[:, t - 1] = np.log(wrong) + clean_log + backward_log[:, t]
                clean = (clean @ self._good_moves[y]) * emission[:, t]
                top = clean.sum(axis=1)
                clean = clean / np.where(top > 0, top, 1.0)[:, None]
                clean_log = clean_log + np.log(top)
            logs[:, length if y else length - 1] = np.log(clean.sum(axis=1)) + clean_log
        top = logs.max(axis=1)
        masses = np.exp(logs - top[:, None])
        total = masses.sum(axis=1)
        return masses / total[:, None], top + np.log(total)

    def most_telling_state(self, chain: Chain, batch: int, open_T: Sequence[bool]) -> tuple[int, float]:
        """The state of which ``batch`` more completions tell most about the first error, and how many nats they are expected to.

        Only states that are open. The index is 0 for the bare problem.
        """
        y = int(chain.is_correct)
        length = len(chain.trials_T)
        base = likelihoods(np.array(chain.successes_T), np.array(chain.trials_T))
        outcomes = np.arange(batch + 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            new = np.exp(
                _log_choose(batch)[:, None]
                + np.where(outcomes[:, None] > 0, outcomes[:, None] * np.log(GRID), 0.0)
                + np.where((batch - outcomes)[:, None] > 0, (batch - outcomes)[:, None] * np.log1p(-GRID), 0.0)
            )
        states = [t for t in range(length) if open_T[t]]
        if not states:
            raise ValueError("no state is open")
        emission = np.tile(base, (len(states), batch + 1, 1, 1))
        for row, t in enumerate(states):
            emission[row, :, t] *= new
        masses, likelihood = self._masses(emission.reshape(-1, length, len(GRID)), y)
        entropy = -(masses * np.log(np.maximum(masses, 1e-300))).sum(axis=1).reshape(len(states), -1)
        logs = likelihood.reshape(len(states), -1)
        chance = np.exp(logs - logs.max(axis=1, keepdims=True))
        chance = chance / chance.sum(axis=1, keepdims=True)
        now = self._masses(base[None], y)[0][0]
        gain = -(now * np.log(np.maximum(now, 1e-300))).sum() - (entropy * chance).sum(axis=1)
        best = int(gain.argmax())
        return states[best], float(gain[best])


@cache
def _log_choose(number: int) -> Floats:
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, number + 1)))])
    return logs[-1] - logs - logs[::-1]
