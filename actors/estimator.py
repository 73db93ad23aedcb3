"""Monte Carlo estimators: count how often a completer reaches the answer from the states of a solution (section 3.2.1, Eq. 8, 9).

Two ways of spending completions: what Eq. 9 says at every state, or a few everywhere and the rest where they are expected to tell
most about the first error, as `genprm.smoothing` judges it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import Field

from actors.engine import ContextOverflow, Engine, Request, Sampling
from actors.engine.base import derive_seed
from actors.grading.grader import Grader
from actors.policy import pose
from genprm import monte_carlo
from genprm.records import Counts, EstimatedSolution, Outcome, Solution
from genprm.section import Placement, Section
from genprm.smoothing import Chain, Smoother, flat_prior
from genprm.steps import prefix_after


class PaperEstimatorConfig(Section):
    """Eq. 9: ``hard``, ``middle`` and ``easy`` completions a state; ``start`` for MC(s_1), which decides between them.

    ``top_up`` is an earlier run with estimates of the same solutions, as ``RUN`` or ``RUN:STAGE``: its counts are kept, and only what is
    missing is sampled.
    """

    type: Literal["paper"] = "paper"
    start: int = Field(default=64, ge=1)
    hard: int = Field(default=128, ge=1)
    middle: int = Field(default=64, ge=1)
    easy: int = Field(default=32, ge=1)
    sampling: Sampling = Sampling(temperature=0.7, top_p=1.0, max_tokens=2048)
    top_up: Placement[str | None] = None


class ThriftyEstimatorConfig(Section):
    """``start`` completions of the bare problem and ``first`` of every state; then ``batch`` at a time where they tell most, until the
    first error is known with probability ``sureness`` or ``most`` a state (on average) are spent.

    ``epsilon`` is the threshold of Eq. 11 that the sampling aims at. ``top_up``: as for the paper's estimator.
    """

    type: Literal["thrifty"] = "thrifty"
    start: int = Field(default=32, ge=1)
    first: int = Field(default=4, ge=1)
    batch: int = Field(default=8, ge=1)
    most: int = Field(default=64, ge=1)
    sureness: float = Field(default=0.9, gt=0, le=1)
    epsilon: float = 0.8
    sampling: Sampling = Sampling(temperature=0.7, top_p=1.0, max_tokens=2048)
    top_up: Placement[str | None] = None


EstimatorConfig = Annotated[PaperEstimatorConfig | ThriftyEstimatorConfig, Field(discriminator="type")]


@dataclass(frozen=True, kw_only=True)
class Known:
    """Counts of an earlier run, to be topped up: at the bare problem, and after each step."""

    start: Counts
    steps_S: tuple[Counts, ...]


class Completer(Protocol):
    """Where completions come from: an engine, or, to compare estimators, known values."""

    async def complete(self, solution: Solution, state: int, number: int, *, row_id: str, index: int) -> tuple[Counts, int]:
        """How ``number`` completions from a state (0: the bare problem) ended, and their tokens."""
        ...


class EngineCompleter:
    """Completes partial solutions with an engine, and grades what comes of them.

    The completions depend on (run seed, row id, state, index) only.
    """

    def __init__(self, *, engine: Engine, grader: Grader, prompt: str, sampling: Sampling, run_seed: int) -> None:
        self._engine = engine
        self._grader = grader
        self._prompt = prompt
        self._sampling = sampling
        self._run_seed = run_seed

    async def complete(self, solution: Solution, state: int, number: int, *, row_id: str, index: int) -> tuple[Counts, int]:
        request = Request(
            turns=(pose(self._prompt, solution.problem),),
            prefix=prefix_after(solution.steps[:state]),
            sampling=self._sampling,
            seed=derive_seed(self._run_seed, row_id, f"state {state}" if state else "start", index),
            n=number,
        )
        try:
            completions = await self._engine.generate(request)
        except ContextOverflow:  # a prefix after which nothing fits: its completions are cut off before they begin
            return Counts(truncated=number), 0
        assert solution.answer is not None
        grades = await self._grader.grade_all(completions, solution.answer)
        counts = Counts.of_outcomes([grade.outcome for grade in grades])
        return counts, sum(completion.num_tokens for completion in completions)


class States:
    """The states of one solution but the last, [T] of them: their counts so far, and what was sampled for them in this run."""

    def __init__(self, completer: Completer, solution: Solution, counts_T: Sequence[Counts], *, row_id: str) -> None:
        self.solution = solution
        self.counts_T = list(counts_T)
        self.tokens_T = [0] * len(self.counts_T)
        self.num_completions = 0
        self._completer = completer
        self._row_id = row_id

    async def sample_up_to(self, state: int, trials: int) -> None:
        """Sample what is missing of ``trials`` completions at a state (0: the bare problem)."""
        before = self.counts_T[state].trials
        if before >= trials:
            return
        counts, tokens = await self._completer.complete(self.solution, state, trials - before, row_id=self._row_id, index=before)
        self.counts_T[state] += counts
        self.tokens_T[state] += tokens
        self.num_completions += counts.trials


class Estimator:
    """Counts at the states of solutions.

    The bare problem is sampled once for all solutions of a problem; what that costs is written to the first of them, ``<problem>/s0``.
    """

    def __init__(
        self,
        *,
        completer: Completer,
        config: PaperEstimatorConfig | ThriftyEstimatorConfig,
    ) -> None:
        self._completer = completer
        self._num_start = config.start
        self._spend: Callable[[States], Awaitable[None]] = (
            PaperSpending(config) if isinstance(config, PaperEstimatorConfig) else ThriftySpending(config)
        )
        self._starts: dict[str, asyncio.Task[States]] = {}

    async def estimate(self, solution: Solution, known: Known | None = None) -> EstimatedSolution:
        """The counts of a solution whose outcome is known; ``known`` ones are kept, and only what is missing is sampled."""
        assert solution.outcome is not None
        if solution.problem_id not in self._starts:
            self._starts[solution.problem_id] = asyncio.create_task(self._start(solution, known))
        try:
            start = await self._starts[solution.problem_id]
        except Exception:
            self._starts.pop(solution.problem_id, None)
            raise
        later = known.steps_S[:-1] if known is not None else [Counts()] * (len(solution.steps) - 1)
        states = States(self._completer, solution, [*start.counts_T, *later], row_id=solution.id)
        await self._spend(states)
        pays_start = solution.id == f"{solution.problem_id}/s0"
        tokens_T = (pays_start * start.tokens_T[0], *states.tokens_T[1:])
        return EstimatedSolution(
            **{name: getattr(solution, name) for name, _ in Solution.FIELDS},
            start_counts=states.counts_T[0],
            step_counts_S=(*states.counts_T[1:], Counts.of_outcomes([solution.outcome])),
            num_completions=states.num_completions + pays_start * start.num_completions,
            num_tokens=sum(tokens_T),
            tokens_T=tokens_T,
        )

    async def _start(self, solution: Solution, known: Known | None) -> States:
        """The bare problem's counts, the same whichever of its solutions comes first."""
        start = States(self._completer, solution, [known.start if known is not None else Counts()], row_id=solution.problem_id)
        await start.sample_up_to(0, self._num_start)
        return start


class PaperSpending:
    """Eq. 9's K at every state, one after another, nothing after a zero (method, stage 2)."""

    def __init__(self, config: PaperEstimatorConfig) -> None:
        self._config = config

    async def __call__(self, states: States) -> None:
        config = self._config
        k = monte_carlo.num_completions(monte_carlo.value(states.counts_T[0]), config.hard, config.middle, config.easy)
        for state in range(1, len(states.counts_T)):
            await states.sample_up_to(state, k)
            if states.counts_T[state].correct == 0:
                return


class ThriftySpending:
    """A few completions at every state, then more where they are expected to tell most about the first error."""

    def __init__(self, config: ThriftyEstimatorConfig) -> None:
        self._config = config
        self._smoother = Smoother(flat_prior(), config.epsilon)

    async def __call__(self, states: States) -> None:
        config = self._config
        later = range(1, len(states.counts_T))
        await asyncio.gather(*(states.sample_up_to(state, config.first) for state in later))
        is_open = [False, *(True for _ in later)]
        while later and sum(states.counts_T[state].trials for state in later) + config.batch <= config.most * len(later):
            chain = Chain.of_counts(states.counts_T, is_correct=states.solution.outcome is Outcome.CORRECT)
            if self._smoother.judge(chain).sureness >= config.sureness:
                return
            state, _ = self._smoother.most_telling_state(chain, config.batch, is_open)
            await states.sample_up_to(state, states.counts_T[state].trials + config.batch)
