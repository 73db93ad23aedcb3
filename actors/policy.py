"""The policy: writes step-forced solutions, in rounds, and rewrites a solution when given a critique (sections 3.2.1, 4.3)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field, field_validator

from actors.engine import Completion, Engine, Request, Sampling, Turn
from actors.engine.base import derive_seed
from actors.grading.grader import Grader
from genprm.grading import Grade
from genprm.records import Counts, Outcome, Path, Problem, Rollouts
from genprm.rollout_budget import paths_per_solution
from genprm.section import Section
from genprm.steps import FIRST_STEP_PREFILL, StepSplit, join_steps, read_steps

PROMPT = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{}."
CRITIC_PROMPT = (
    "A reviewer found an error in paragraph {paragraph} of your solution:\n{analysis}\n\nPlease solve the problem again, step by "
    "step, avoiding this error, and put your final answer within \\boxed{}."
)


class PolicyConfig(Section):
    """Prompts and sampling of the policy; ``{problem}``, ``{paragraph}`` and ``{analysis}`` are filled in."""

    prompt: str = PROMPT
    critic_prompt: str = CRITIC_PROMPT
    sampling: Sampling = Sampling(temperature=0.7, top_p=1.0, max_tokens=2048)

    @field_validator("prompt")
    @classmethod
    def _names_the_problem(cls, prompt: str) -> str:
        if "{problem}" not in prompt:
            raise ValueError("the prompt must contain {problem}")
        return prompt

    def ask(self, problem: str) -> Turn:
        """The user turn that poses a problem."""
        return pose(self.prompt, problem)


def pose(prompt: str, problem: str) -> Turn:
    """The user turn that poses a problem, to the policy and to the completer alike."""
    return Turn(role="user", content=prompt.replace("{problem}", problem))


class RolloutConfig(Section):
    """Rounds of sampling: until ``keep_per_kind`` correct and incorrect paths are there, or ``max_paths`` are sampled (section 3.2.1).

    After the first round of ``first_round`` paths the second has ``next_rounds``, and each further one ``growth`` times as many as the one
    before: a problem that is never solved takes 8 rounds for 2,048 paths (16, 32, 64, ...), not 126. ``growth`` 1 are the paper's
    constant rounds, which sample fewer paths in all. A problem is given up where one more kept solution is expected to take more than
    ``max_paths_per_solution`` further paths (`genprm.rollout_budget`); None, as the paper has it, gives none up.
    """

    first_round: int = Field(default=16, ge=1)
    next_rounds: int = Field(default=32, ge=1)
    growth: float = Field(default=2.0, ge=1)
    max_paths: int = Field(default=2048, ge=1)
    keep_per_kind: int = Field(default=8, ge=1)
    max_paths_per_solution: float | None = Field(default=None, gt=0)

    def round_size(self, index: int) -> int:
        """Paths of a round, from 0."""
        return self.first_round if index == 0 else round(self.next_rounds * self.growth ** min(index - 1, 60))

    def next_round(self, index: int, paths: int, correct: int, incorrect: int) -> int:
        """Paths of round ``index``, after so many of which so many different ones are correct and incorrect; 0: it is enough."""
        left, kinds = self.max_paths - paths, (correct, incorrect)
        if left <= 0 or min(kinds) >= self.keep_per_kind:
            return 0
        if paths and self.max_paths_per_solution is not None:
            costs = (paths_per_solution(kind, sum(kinds) - kind, paths, keep=self.keep_per_kind, left=left) for kind in kinds)
            if min(costs) > self.max_paths_per_solution:
                return 0
        return min(self.round_size(index), left)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sampled solution, split into steps, and its grade. A truncated one, or one of a single step, is not a valid path."""

    split: StepSplit
    text: str
    grade: Grade
    num_tokens: int

    @property
    def steps(self) -> tuple[str, ...]:
        return self.split.steps


class Policy:
    """Samples solutions from an engine and grades them."""

    def __init__(self, *, engine: Engine, grader: Grader, config: PolicyConfig, run_seed: int) -> None:
        self._engine = engine
        self._grader = grader
        self._config = config
        self._run_seed = run_seed

    async def sample(self, problem: Problem, *, n: int, purpose: str, index: int = 0) -> list[Sample]:
        """``n`` solutions of a problem, which depend on (run seed, problem id, purpose, index) only."""
        request = Request(
            turns=(self._config.ask(problem.text),),
            prefix=FIRST_STEP_PREFILL,
            sampling=self._config.sampling,
            seed=derive_seed(self._run_seed, problem.id, purpose, index),
            n=n,
        )
        completions = await self._engine.generate(request)
        return await self._samples(completions, problem.answer)

    async def rewrite(self, problem: Problem, solution: str, *, paragraph: int, analysis: str, index: int) -> Sample:
        """A new solution, given the critique of 1-based ``paragraph`` of the old one."""
        critique = self._config.critic_prompt.replace("{paragraph}", str(paragraph)).replace("{analysis}", analysis)
        turns = (self._config.ask(problem.text), Turn(role="assistant", content=solution), Turn(role="user", content=critique))
        request = Request(
            turns=turns,
            prefix=FIRST_STEP_PREFILL,
            sampling=self._config.sampling,
            seed=derive_seed(self._run_seed, problem.id, "rewrite", index),
        )
        return (await self._samples(await self._engine.generate(request), problem.answer))[0]

    async def _samples(self, completions: Sequence[Completion], reference: str) -> list[Sample]:
        grades = await self._grader.grade_all(completions, reference)
        samples = []
        for completion, grade in zip(completions, grades, strict=True):
            text = FIRST_STEP_PREFILL + completion.text
            split = read_steps(text)
            samples.append(Sample(split=split, text=join_steps(split.steps), grade=grade, num_tokens=completion.num_tokens))
        return samples

    async def rollouts(self, problem: Problem, config: RolloutConfig) -> Rollouts:
        """Sample rounds until enough paths of both kinds are there; keep some of each, chosen by seed, duplicates removed."""
        outcomes: list[Outcome] = []
        paths: dict[tuple[str, ...], Path] = {}
        num_paths = num_one_step = num_empty_steps = num_merged_steps = num_tokens = round_index = 0
        while n := config.next_round(round_index, num_paths, _count(paths, Outcome.CORRECT), _count(paths, Outcome.INCORRECT)):
            for sample in await self.sample(problem, n=n, purpose="rollout", index=round_index):
                num_paths += 1
                num_tokens += sample.num_tokens
                num_empty_steps += sample.split.num_empty
                num_merged_steps += sample.split.num_repeated + sample.split.num_unordered
                valid = sample.grade.outcome in (Outcome.CORRECT, Outcome.INCORRECT)
                if valid and len(sample.steps) < 2:
                    num_one_step += 1
                    continue
                outcomes.append(sample.grade.outcome)
                if valid:
                    paths.setdefault(
                        sample.steps,
                        Path(
                            steps=sample.steps,
                            answer=sample.grade.answer,
                            outcome=sample.grade.outcome,
                            num_tokens=sample.num_tokens,
                        ),
                    )
            round_index += 1
        rng = random.Random(derive_seed(self._run_seed, problem.id, "keep"))
        kept: list[Path] = []
        for kind in (Outcome.CORRECT, Outcome.INCORRECT):
            of_kind = [path for path in paths.values() if path.outcome is kind]
            kept.extend(rng.sample(of_kind, min(config.keep_per_kind, len(of_kind))))
        return Rollouts(
            problem_id=problem.id,
            problem=problem.text,
            answer=problem.answer,
            level=problem.level,
            counts=Counts.of_outcomes(outcomes),
            num_one_step=num_one_step,
            num_empty_steps=num_empty_steps,
            num_merged_steps=num_merged_steps,
            paths=tuple(kept),
            num_tokens=num_tokens,
        )


def _count(paths: dict[tuple[str, ...], Path], kind: Outcome) -> int:
    return sum(path.outcome is kind for path in paths.values())
