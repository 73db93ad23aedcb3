"""From problems to training conversations (sections 3.2.1 to 3.2.3 of the paper).

problems -> rollouts -> solutions -> estimates -> labels -> rationales -> conversations

``rollouts`` holds one row a problem, which is the policy's unit of work; ``solutions`` the kept paths, one row each.
Engines serve rollouts, estimates and rationales; the other stages are arithmetic over rows and can be made anew at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from actors.code_executor import ExecutorConfig
from actors.engine import open_engine
from actors.estimator import Estimator, EstimatorConfig
from actors.grader import Grader, GradingConfig
from actors.policy import Policy, PolicyConfig, RolloutConfig
from actors.rationalizer import Rationalizer, RationalizerConfig
from actors.remote import Handles, Services
from genprm import monte_carlo, progress
from genprm.consensus import agree
from genprm.conversation import NotConvertible, build_conversation
from genprm.progress import LabelRule
from genprm.records import (
    Conversation,
    Critique,
    CritiqueOutcome,
    EstimatedSolution,
    LabelledSolution,
    Outcome,
    Problem,
    Rollouts,
    Solution,
)
from workflows.data_files import file_fingerprint
from workflows.identity import dump, engine_identity, executor_identity, grading_identity
from workflows.parts import StageSummary
from workflows.problems import ProblemsConfig, read_problems
from workflows.sections import ConversationsConfig, Engines, LabelsConfig, Pools, SynthesisStage
from workflows.stage import Stage, run_stage, run_table_stage
from workflows.stage_actor import Reject
from workflows.storage import Folder
from workflows.tracking import Tracker

STAGES: tuple[SynthesisStage, ...] = get_args(SynthesisStage)


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
    """solution -> Monte Carlo counts at every state"""

    def __init__(self, settings: SynthesisSettings, _: Handles) -> None:
        self._grader = Grader(settings.grading)
        self._engine = open_engine(settings.engines.completer)
        self._estimator = Estimator(
            engine=self._engine,
            grader=self._grader,
            prompts=settings.policy,
            config=settings.estimates,
            run_seed=settings.seed,
        )

    async def process(self, row: dict[str, Any]) -> Sequence[EstimatedSolution]:
        return [await self._estimator.estimate(Solution.of(row))]


class LabelWorker:
    """counts -> values, progress, labels"""

    def __init__(self, config: LabelsConfig, _: Handles) -> None:
        self._config = config

    async def process(self, row: dict[str, Any]) -> Sequence[LabelledSolution]:
        return [label(EstimatedSolution.of(row), self._config.rule, self._config.epsilon)]


def label(solution: EstimatedSolution, rule: LabelRule, epsilon: float) -> LabelledSolution:
    start = monte_carlo.value(solution.start_counts)
    values = monte_carlo.step_values(solution.step_counts_S)
    labels = progress.labels(start, values, rule, epsilon)
    fields = {name: getattr(solution, name) for name, _ in EstimatedSolution.FIELDS}
    return LabelledSolution(
        **fields,
        values_S=tuple(values),
        progress_S=tuple(progress.relative_progress(start, values)),
        labels_S=tuple(labels),
        first_error=progress.first_error(labels),
    )


class RationaleWorker:
    """labelled solution -> critique"""

    def __init__(self, settings: SynthesisSettings, handles: Handles) -> None:
        self._engine = open_engine(settings.engines.rationale)
        self._rationalizer = Rationalizer(engine=self._engine, runner=handles.runner(), config=settings.rationales, run_seed=settings.seed)

    async def process(self, row: dict[str, Any]) -> Sequence[Critique]:
        return [await self._rationalizer.critique(LabelledSolution.of(row))]


class ConversationWorker:
    """critique -> conversation, if estimate and judge agree and every paragraph has its parts"""

    def __init__(self, config: ConversationsConfig, _: Handles) -> None:
        self._direct = config.direct

    async def process(self, row: dict[str, Any]) -> Sequence[Conversation]:
        critique = Critique.of(row)
        if critique.outcome is not CritiqueOutcome.READ or critique.judged_first_error is None:
            raise Reject(critique.outcome.value.replace("_", " "))
        if not agree(critique.labels_S, critique.judged_first_error):
            raise Reject("no consensus", f"estimate {critique.first_error}, judge {critique.judged_first_error}")
        try:
            return [build_conversation(critique, direct=self._direct)]
        except NotConvertible as reason:
            raise Reject(str(reason)) from reason


def stages(settings: SynthesisSettings) -> list[Stage]:
    """The stages after ``problems``, in order."""
    engines, pools = settings.engines, settings.pools
    seed = ("seed", settings.seed)
    grading = ("grading", grading_identity(settings.grading))
    return [
        Stage(
            name="rollouts",
            reads="problems",
            key="id",
            writes=Rollouts,
            make_worker=partial(RolloutWorker, settings),
            config=dump(
                seed,
                ("engine", engine_identity(engines.policy)),
                grading,
                ("policy", settings.policy),
                ("rollouts", settings.rollouts),
            ),
            pool=pools.rollouts,
            engine=engines.policy,
        ),
        Stage(
            name="solutions",
            reads="rollouts",
            key="problem_id",
            writes=Solution,
            make_worker=SolutionWorker,
            config={},
        ),
        Stage(
            name="estimates",
            reads="solutions",
            key="id",
            writes=EstimatedSolution,
            make_worker=partial(EstimateWorker, settings),
            config=dump(
                seed,
                ("engine", engine_identity(engines.completer)),
                grading,
                ("prompt", settings.policy.prompt),
                ("estimates", settings.estimates),
            ),
            pool=pools.estimates,
            engine=engines.completer,
        ),
        Stage(
            name="labels",
            reads="estimates",
            key="id",
            writes=LabelledSolution,
            make_worker=partial(LabelWorker, settings.labels),
            config=dump(("labels", settings.labels)),
        ),
        Stage(
            name="rationales",
            reads="labels",
            key="id",
            writes=Critique,
            make_worker=partial(RationaleWorker, settings),
            config=dump(
                seed,
                ("engine", engine_identity(engines.rationale)),
                ("executor", executor_identity(settings.executor)),
                ("rationales", settings.rationales),
            ),
            pool=pools.rationales,
            engine=engines.rationale,
            services=Services(executors=settings.executor),
        ),
        Stage(
            name="conversations",
            reads="rationales",
            key="id",
            writes=Conversation,
            make_worker=partial(ConversationWorker, settings.conversations),
            config=dump(("conversations", settings.conversations)),
        ),
    ]


def read_problems_stage(run: Folder, name: str, config: ProblemsConfig, setting: str, tracker: Tracker) -> StageSummary:
    """A problem file as a stage: checked, deduplicated, decontaminated. ``setting`` is where its path is configured."""
    files = {config.path: file_fingerprint(config.path, setting)}
    files |= {path: file_fingerprint(path, "problems.benchmarks") for path in config.benchmarks}
    plan = {"config": dump(("problems", config)), "inputs": files}
    return run_table_stage(name, Problem, run, plan, lambda: read_problems(config, setting), tracker)


def synthesize(run: Folder, settings: SynthesisSettings, tracker: Tracker, *, until: SynthesisStage = STAGES[-1]) -> list[StageSummary]:
    """Run the stages in order, up to and including ``until``; finished ones are skipped."""
    summaries = [read_problems_stage(run, "problems", settings.problems, "problems.path", tracker)]
    for stage in stages(settings):
        if STAGES.index(stage.name) > STAGES.index(until):
            break
        summaries.append(run_stage(stage, run, tracker))
    return summaries
