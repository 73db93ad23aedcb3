"""The Monte Carlo estimator: counts how often a completer reaches the answer from every state (section 3.2.1, Eq. 8, 9)."""

from __future__ import annotations

import asyncio

from pydantic import Field

from actors.engine import Engine, Request, Sampling
from actors.engine.base import derive_seed
from actors.grader import Grader
from actors.policy import PolicyConfig
from actors.section import Section
from genprm import monte_carlo
from genprm.records import Counts, EstimatedSolution, Solution
from genprm.steps import FIRST_STEP_PREFILL, prefix_after


class EstimatorConfig(Section):
    """Eq. 9: ``hard``, ``middle`` and ``easy`` completions a state; ``start`` for MC(s_1), which decides between them."""

    start: int = Field(default=64, ge=1)
    hard: int = Field(default=128, ge=1)
    middle: int = Field(default=64, ge=1)
    easy: int = Field(default=32, ge=1)
    sampling: Sampling = Sampling(temperature=0.7, top_p=1.0, max_tokens=2048)


class Estimator:
    """Completes partial solutions. MC(s_1) is sampled once a problem and shared by its solutions."""

    def __init__(self, *, engine: Engine, grader: Grader, prompts: PolicyConfig, config: EstimatorConfig, run_seed: int) -> None:
        self._engine = engine
        self._grader = grader
        self._prompts = prompts
        self._config = config
        self._run_seed = run_seed
        self._starts: dict[str, asyncio.Task[tuple[Counts, int]]] = {}

    async def estimate(self, solution: Solution) -> EstimatedSolution:
        """Counts at every state, step by step, none sampled after a zero; the last step is checked, not sampled."""
        first_of_problem = solution.problem_id not in self._starts
        if first_of_problem:
            self._starts[solution.problem_id] = asyncio.create_task(self._start(solution))
        try:
            start_counts, start_tokens = await self._starts[solution.problem_id]
        except Exception:
            self._starts.pop(solution.problem_id, None)
            raise
        config = self._config
        k = monte_carlo.num_completions(monte_carlo.value(start_counts), config.hard, config.middle, config.easy)
        step_counts: list[Counts] = []
        num_completions = start_counts.trials if first_of_problem else 0
        num_tokens = start_tokens if first_of_problem else 0
        last = len(solution.steps) - 1
        for index in range(len(solution.steps)):
            if step_counts and step_counts[-1].correct == 0:
                step_counts.append(Counts())
            elif index == last:
                step_counts.append(Counts.of_outcomes([solution.outcome]))
            else:
                prefix = prefix_after(solution.steps[: index + 1])
                counts, tokens = await self._sample(solution, prefix, k, solution.id, f"state {index + 1}")
                step_counts.append(counts)
                num_completions += counts.trials
                num_tokens += tokens
        row = {name: getattr(solution, name) for name, _ in Solution.FIELDS}
        return EstimatedSolution(
            **row,
            start_counts=start_counts,
            step_counts_S=tuple(step_counts),
            num_completions=num_completions,
            num_tokens=num_tokens,
        )

    async def _start(self, solution: Solution) -> tuple[Counts, int]:
        return await self._sample(solution, FIRST_STEP_PREFILL, self._config.start, solution.problem_id, "start")

    async def _sample(self, solution: Solution, prefix: str, k: int, row_id: str, purpose: str) -> tuple[Counts, int]:
        request = Request(
            turns=(self._prompts.ask(solution.problem),),
            prefix=prefix,
            sampling=self._config.sampling,
            seed=derive_seed(self._run_seed, row_id, purpose),
            n=k,
        )
        completions = await self._engine.generate(request)
        grades = await self._grader.grade_all(completions, solution.answer)
        counts = Counts.of_outcomes([grade.outcome for grade in grades])
        return counts, sum(completion.num_tokens for completion in completions)
