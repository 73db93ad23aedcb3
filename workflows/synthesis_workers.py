"""What the stages of synthesis run for a row; which stage reads what is in `workflows.synthesis`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.code_executor import CodeRunner, ExecutorConfig
from actors.engine import Engine, open_engine
from actors.estimator import EngineCompleter, Estimator, EstimatorConfig, OtherSteps
from actors.grading.grader import Grader, GradingConfig
from actors.policy import Policy, PolicyConfig, RolloutConfig
from actors.rationalizer import Rationalizer, RationalizerConfig
from actors.remote import Handles
from genprm import smoothing
from genprm.consensus import agree
from genprm.conversation import NotConvertible, build_conversation
from genprm.labelling import label, label_smoothed
from genprm.records import (
    Conversation,
    Critique,
    CritiqueOutcome,
    EstimatedSolution,
    LabelledSolution,
    LearnedPrior,
    Outcome,
    Problem,
    Rollouts,
    Solution,
)
from genprm.screening import find_flaw
from genprm.smoothing import Smoother
from workflows.stage.parts import read_rows
from workflows.inputs.problems import ProblemsConfig
from workflows.sections import ConversationsConfig, Engines, LabelsConfig, Pools
from workflows.stage.actor import Reject
from workflows.stage.folder import Folder


@dataclass(frozen=True, kw_only=True)
class SynthesisSettings:
    """All that the stages of synthesis need, each its own section."""

    seed: int
    problems: ProblemsConfig
    engines: Engines
    policy: PolicyConfig
    rollouts: RolloutConfig
    estimates: EstimatorConfig
    labels: LabelsConfig
    rationales: RationalizerConfig
    conversations: ConversationsConfig
    grading: GradingConfig
    executor: ExecutorConfig
    pools: Pools


class RolloutWorker:
    """problem -> rollouts"""

    def __init__(self, settings: SynthesisSettings, _: Handles) -> None:
        self._grader = Grader(settings.grading)
        self._engine = open_engine(settings.engines.policy)
        self._policy = Policy(engine=self._engine, grader=self._grader, config=settings.policy, run_seed=settings.seed)
        self._config = settings.rollouts

    async def process(self, row: dict[str, Any]) -> Sequence[Rollouts]:
        return [await self._policy.rollouts(Problem.of(row), self._config)]


class SolutionWorker:
    """rollouts -> kept solutions; problems that were never or always solved are put aside"""

    def __init__(self, _: Handles) -> None:
        pass

    async def process(self, row: dict[str, Any]) -> Sequence[Solution]:
        rollouts = Rollouts.of(row)
        kinds = {path.outcome for path in rollouts.paths}
        if Outcome.CORRECT not in kinds:
            raise Reject("never solved", f"{rollouts.counts.trials} paths")
        if Outcome.INCORRECT not in kinds:
            raise Reject("always solved", f"{rollouts.counts.trials} paths")
        return [
            Solution(
                id=f"{rollouts.problem_id}/s{index}",
                problem_id=rollouts.problem_id,
                problem=rollouts.problem,
                answer=rollouts.answer,
                level=rollouts.level,
                steps=path.steps,
                final_answer=path.answer,
                outcome=path.outcome,
                problem_counts=rollouts.counts,
            )
            for index, path in enumerate(rollouts.paths)
        ]


class EstimateWorker:
    """solution -> Monte Carlo counts at its states"""

    def __init__(self, settings: SynthesisSettings, _: Handles) -> None:
        earlier = settings.estimates.top_up
        rows = read_rows(Folder(earlier), "estimates") if earlier is not None else []
        self._grader = Grader(settings.grading)
        self._engine = self.open_engine(settings)
        completer = EngineCompleter(
            engine=self._engine,
            grader=self._grader,
            prompts=settings.policy,
            sampling=settings.estimates.sampling,
            run_seed=settings.seed,
        )
        known = {row["id"]: EstimatedSolution.of(row) for row in rows}
        self._estimator = Estimator(completer=completer, config=settings.estimates, known=known)

    def open_engine(self, settings: SynthesisSettings) -> Engine:
        return open_engine(settings.engines.completer)

    async def process(self, row: dict[str, Any]) -> Sequence[EstimatedSolution]:
        try:
            return [await self._estimator.estimate(Solution.of(row))]
        except OtherSteps as error:
            raise Reject("other steps in estimates.top_up", str(error)) from error


class LabelWorker:
    """counts -> values, progress, labels"""

    def __init__(self, config: LabelsConfig, run: Folder, _: Handles) -> None:
        self._config = config
        self._smoother: Smoother | None = None
        if config.rule == "smoothed":
            (learned,) = read_rows(run, "prior")
            self._smoother = Smoother(smoothing.Prior.of(LearnedPrior.of(learned)), config.epsilon)

    async def process(self, row: dict[str, Any]) -> Sequence[LabelledSolution]:
        solution = EstimatedSolution.of(row)
        if self._smoother is not None:
            return [label_smoothed(solution, self._smoother)]
        assert self._config.rule != "smoothed"
        return [label(solution, self._config.rule, self._config.epsilon)]


class RationaleWorker:
    """labelled solution -> critique"""

    def __init__(self, settings: SynthesisSettings, handles: Handles) -> None:
        self._engine = self.open_engine(settings)
        runner = self.open_runner(handles)
        self._rationalizer = Rationalizer(engine=self._engine, runner=runner, config=settings.rationales, run_seed=settings.seed)

    def open_engine(self, settings: SynthesisSettings) -> Engine:
        return open_engine(settings.engines.rationale)

    def open_runner(self, handles: Handles) -> CodeRunner:
        return handles.runner()

    async def process(self, row: dict[str, Any]) -> Sequence[Critique]:
        return [await self._rationalizer.critique(LabelledSolution.of(row))]


class ConversationWorker:
    """critique -> conversation, if estimate and judge agree, nothing in it would spoil training, and every paragraph has its parts"""

    def __init__(self, config: ConversationsConfig, _: Handles) -> None:
        self._config = config

    async def process(self, row: dict[str, Any]) -> Sequence[Conversation]:
        critique = Critique.of(row)
        if critique.outcome is not CritiqueOutcome.READ or critique.judged_first_error is None:
            raise Reject(critique.outcome.value.replace("_", " "))
        if not agree(critique.labels_S, critique.judged_first_error):
            raise Reject("no consensus", f"estimate {critique.first_error}, judge {critique.judged_first_error}")
        flaw = find_flaw(critique, tolerated=self._config.tolerate)
        if flaw is not None:
            raise Reject(flaw.value)
        try:
            return [build_conversation(critique, direct=self._config.direct)]
        except NotConvertible as reason:
            raise Reject(str(reason)) from reason
