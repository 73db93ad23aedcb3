"""The smoother against brute force, and against truth where truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from genprm import progress
from genprm.smoothing import GRID, Chain, Prior, Smoother, fit, flat_prior, kernels, likelihoods

EPSILON = 0.8


def solutions(number: int, trials: int, seed: int) -> tuple[list[Chain], list[int]]:
    """Chains of made-up solutions, half of them with a drop by a factor of 0 to 0.7, and their true first errors."""
    rng = np.random.default_rng(seed)
    chains, first_errors = [], []
    for _ in range(number):
        length = int(rng.integers(4, 9))
        values = [float(rng.beta(1.5, 1.5))]
        drop_at = int(rng.integers(1, length)) if rng.random() < 0.5 else None
        for t in range(1, length):
            odds = np.log(values[-1] / (1 - values[-1])) + rng.normal(0, 0.1)
            values.append(values[-1] * rng.uniform(0.01, 0.7) if t == drop_at else float(1 / (1 + np.exp(-odds))))
        is_correct = bool(rng.random() < values[-1])
        chains.append(Chain(tuple(int(rng.binomial(trials, value)) for value in values), (trials,) * length, is_correct))
        first_errors.append(progress.first_error(progress.labels(values[0], [*values[1:], float(is_correct)], "ratio", EPSILON)))
    return chains, first_errors


def paper(chain: Chain) -> int:
    values = [hits / trials for hits, trials in zip(chain.successes_T, chain.trials_T, strict=True)]
    return progress.first_error(progress.labels(values[0], [*values[1:], float(chain.is_correct)], "ratio", EPSILON))


def test_every_kernel_moves_all_of_its_mass() -> None:
    assert np.allclose(kernels().sum(axis=2), 1.0)
    assert np.allclose(flat_prior().moves().sum(axis=2), 1.0)


@pytest.mark.parametrize(("successes", "trials"), [((5, 4, 1), (8, 8, 8)), ((0, 0, 0), (4, 0, 0)), ((6, 0, 6), (6, 6, 6))])
@pytest.mark.parametrize("is_correct", [True, False])
def test_the_posterior_is_that_of_brute_force(successes: tuple[int, ...], trials: tuple[int, ...], is_correct: bool) -> None:
    """All 83**3 paths of values are enumerated."""
    rng = np.random.default_rng(1)
    prior = Prior(
        initial=rng.dirichlet(np.ones(len(GRID)), size=2),
        weights=rng.dirichlet(np.ones(len(kernels())), size=(2, 3)),
    )
    y = int(is_correct)
    emission = likelihoods(np.array(successes), np.array(trials))
    moves = prior.moves()[y]
    joint = np.einsum("i,ij,jk,i,j,k->ijk", prior.initial[y], moves, moves, *emission)
    joint /= joint.sum()
    first, second, third = np.meshgrid(GRID, GRID, GRID, indexing="ij")

    def bad(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(before > 0, after / before, np.where(after > 0, 9.0, 0.0)) < EPSILON - 1e-9

    at_first, at_second = bad(first, second), bad(second, third)
    wanted = [joint[at_first].sum(), joint[~at_first & at_second].sum()]
    rest = joint[~at_first & ~at_second].sum()
    wanted += [0.0, rest] if is_correct else [rest, 0.0]
    posterior = Smoother(prior, EPSILON).judge(Chain(successes, trials, is_correct))
    assert np.allclose(posterior.first_error, wanted, atol=1e-12)
    assert np.allclose(posterior.bad_S[:2], [joint[at_first].sum(), joint[at_second].sum()], atol=1e-12)
    assert posterior.bad_S[2] == float(not is_correct)
    assert np.allclose(posterior.values_T, [(joint * value).sum() for value in (first, second, third)], atol=1e-12)


def test_with_many_completions_it_says_what_the_rule_says() -> None:
    """20,000 completions a state leave a standard error below 0.004; values keep away from the threshold by more."""
    smoother = Smoother(flat_prior(), EPSILON)
    for values in ([0.6, 0.6, 0.58, 0.1], [0.5, 0.3, 0.3, 0.3], [0.9, 0.95, 0.9, 0.9], [0.2, 0.19, 0.02, 0.0], [0.0, 0.0, 0.0, 0.0]):
        for is_correct in (True, False):
            if is_correct and values[-1] == 0.0:
                continue
            chain = Chain(tuple(round(20_000 * value) for value in values), (20_000,) * 4, is_correct)
            assert smoother.judge(chain).best == paper(chain)


def test_few_completions_smoothed_are_worth_four_times_as_many_unsmoothed() -> None:
    few, truth = solutions(400, 16, seed=5)
    many, truth_of_many = solutions(400, 64, seed=6)
    smoother = Smoother(fit(few), EPSILON)
    posteriors = [smoother.judge(chain) for chain in few]
    smoothed = np.mean([posterior.best == index for posterior, index in zip(posteriors, truth, strict=True)])
    plain_few = np.mean([paper(chain) == index for chain, index in zip(few, truth, strict=True)])
    plain_many = np.mean([paper(chain) == index for chain, index in zip(many, truth_of_many, strict=True)])
    assert smoothed > plain_few + 0.2
    assert smoothed > plain_many - 0.03
    sureness = np.mean([posterior.sureness for posterior in posteriors])
    assert abs(sureness - smoothed) < 0.06  # calibrated: three standard errors of 400 solutions


def test_fitting_raises_the_likelihood() -> None:
    chains, _ = solutions(200, 12, seed=2)
    likelihood = {}
    for name, prior in (("flat", flat_prior()), ("short", fit(chains, rounds=2)), ("long", fit(chains, rounds=30))):
        smoother = Smoother(prior, EPSILON)
        likelihood[name] = sum(smoother.log_likelihood(chain) for chain in chains)
    assert likelihood["flat"] < likelihood["short"] < likelihood["long"]


@pytest.mark.parametrize(("successes", "trials"), [((0,), (0,)), ((0, 0, 0), (0, 0, 0)), ((0, 0), (16, 16)), ((16, 16), (16, 16))])
@pytest.mark.parametrize("is_correct", [True, False])
def test_empty_and_extreme_counts(successes: tuple[int, ...], trials: tuple[int, ...], is_correct: bool) -> None:
    posterior = Smoother(flat_prior(), EPSILON).judge(Chain(successes, trials, is_correct))
    assert posterior.first_error.sum() == pytest.approx(1.0)
    assert ((posterior.values_T >= 0) & (posterior.values_T <= 1)).all()
    if successes == (16, 16):
        assert posterior.best == (-1 if is_correct else 1)
    if successes == (0, 0) and trials == (16, 16) and not is_correct:
        assert posterior.values_T[0] < 0.05


def test_a_long_solution_does_not_underflow() -> None:
    """300 steps of counts that jump between two values: the likelihood is far below the smallest float."""
    smoother = Smoother(flat_prior(), EPSILON)
    chain = Chain((100, 90, 100, 90) * 75, (200, 100, 200, 100) * 75, is_correct=False)
    posterior = smoother.judge(chain)
    assert smoother.log_likelihood(chain) < -800
    assert posterior.first_error.sum() == pytest.approx(1.0)
    assert np.isfinite(posterior.bad_S).all()
    assert np.isfinite(smoother.most_telling_state(chain, 4, [True] * 300)[1])


def test_counts_that_can_not_be_are_refused() -> None:
    for successes, trials in (((3,), (2,)), ((-1,), (2,)), ((1, 1), (2,)), ((), ())):
        with pytest.raises(ValueError, match="trials"):
            Chain(successes, trials, True)


def test_the_next_completions_go_where_the_doubt_is() -> None:
    smoother = Smoother(flat_prior(), EPSILON)
    doubtful = Chain((60, 60, 3, 0), (64, 64, 4, 64), False)  # is the drop at the second step or at the third?
    state, gain = smoother.most_telling_state(doubtful, 8, [True] * 4)
    assert state == 2
    assert gain > 0
    assert smoother.most_telling_state(doubtful, 8, [True, True, False, True])[0] != 2
    sure = Chain((64, 64, 64, 64), (64, 64, 64, 64), True)
    assert smoother.most_telling_state(sure, 8, [True] * 4)[1] < 0.02
    with pytest.raises(ValueError, match="no state is open"):
        smoother.most_telling_state(sure, 8, [False] * 4)
