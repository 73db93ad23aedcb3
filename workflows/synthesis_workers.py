"""What the stages of synthesis run for a row, each with its settings; which stage reads what is in `workflows.synthesis`.

A worker is built from its settings alone, so whatever decides its rows is part of the stage's identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from actors.code_executor import CodeRunner, ExecutorConfig
from actors.engine import Completion, Engine, EngineConfig, Finish, open_engine
from actors.estimator import EngineCompleter, Estimator, EstimatorConfig, Known
from actors.grading.grader import Grader, GradingConfig
from actors.policy import Policy, PolicyConfig, RolloutConfig
from actors.rationalizer import Rationalizer, RationalizerConfig
from actors.remote import Handles
from actors.storage import Folder
from genprm import smoothing
from genprm.consensus import agree
from genprm.conversation import NotConvertible, build_conversation
from genprm.labelling import label, label_as_given, label_smoothed
from genprm.records import (
    Conversation,
    Counts,
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
from genprm.section import Placement, Section
from genprm.smoothing import Smoother
from genprm.steps import join_steps
from workflows.sections import ConversationsConfig, LabelsConfig
from workflows.stage.errors import Reject
from workflows.stage.parts import read_rows


class Nothing(Section):
    """The settings of a stage that has none."""


class RolloutSettings(Section):
    seed: int
    engine: EngineConfig
    policy: PolicyConfig
    rollouts: RolloutConfig
    grading: GradingConfig


class RolloutWorker:
    """problem -> rollouts"""

    def __init__(self, settings: RolloutSettings, engine: Engine) -> None:
        grader = Grader(settings.grading)
        self._policy = Policy(engine=engine, grader=grader, config=settings.policy, run_seed=settings.seed)
        self._config = settings.rollouts

    @classmethod
    def open(cls, settings: RolloutSettings, _: Handles) -> Self:
        return cls(settings, open_engine(settings.engine))

    async def process(self, row: dict[str, Any]) -> Sequence[Rollouts]:
        return [await self._policy.rollouts(Problem.of(row), self._config)]


class SolutionWorker:
    """rollouts -> kept solutions; problems that were never or always solved are rejected"""

    def __init__(self, _: Nothing, __: Handles) -> None:
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


class GivenSolutionSettings(Section):
    grading: GradingConfig


class GivenSolutionWorker:
    """solution from a file -> the same with its outcome, where the problem's answer is known"""

    def __init__(self, settings: GivenSolutionSettings, _: Handles) -> None:
        self._grader = Grader(settings.grading)

    async def process(self, row: dict[str, Any]) -> Sequence[Solution]:
        solution = Solution.of(row)
        if solution.answer is None:
            return [solution]
        whole = Completion(text=join_steps(solution.steps), finish=Finish.STOP, num_tokens=0)
        (grade,) = await self._grader.grade_all([whole], solution.answer)
        return [Solution.of(row | {"outcome": grade.outcome, "final_answer": grade.answer})]


class EstimateSettings(Section):
    seed: int
    engine: EngineConfig
    prompt: str
    estimates: EstimatorConfig
    grading: GradingConfig


class EstimateWorker:
    """solution -> Monte Carlo counts at its states; those of an earlier run (``known_...``, joined by id) are kept and topped up"""

    def __init__(self, settings: EstimateSettings, engine: Engine) -> None:
        completer = EngineCompleter(
            engine=engine,
            grader=Grader(settings.grading),
            prompt=settings.prompt,
            sampling=settings.estimates.sampling,
            run_seed=settings.seed,
        )
        self._estimator = Estimator(completer=completer, config=settings.estimates)

    @classmethod
    def open(cls, settings: EstimateSettings, _: Handles) -> Self:
        return cls(settings, open_engine(settings.engine))

    async def process(self, row: dict[str, Any]) -> Sequence[EstimatedSolution]:
        solution = Solution.of(row)
        if solution.outcome is None:
            raise Reject("no reference answer", "completions can't be graded; give the problem's answer with the solution")
        known = None
        if row.get("known_steps") is not None:
            if tuple(row["known_steps"]) != solution.steps:
                raise Reject("other steps in top_up", f"{solution.id} has other steps there; name a run that has the same solutions")
            known = Known(start=Counts(**row["known_start"]), steps_S=tuple(Counts(**counts) for counts in row["known_counts"]))
        return [await self._estimator.estimate(solution, known)]


KNOWN_COLUMNS = {"steps": "known_steps", "start_counts": "known_start", "step_counts_S": "known_counts"}
"""What `EstimateWorker` reads of an earlier run's estimates, and under which names."""


class LabelSettings(Section):
    """``prior`` is where the rule ``smoothed`` finds what was learned from all counts: a run and its stage."""

    labels: LabelsConfig
    prior: Placement[tuple[str, str] | None] = None


class LabelWorker:
    """counts, or labels that came with the solution -> values, progress, labels"""

    def __init__(self, settings: LabelSettings, _: Handles) -> None:
        self._config = settings.labels
        self._smoother: Smoother | None = None
        if settings.prior is not None:
            run, stage = settings.prior
            (learned,) = read_rows(Folder(run), stage)
            self._smoother = Smoother(smoothing.Prior.of(LearnedPrior.of(learned)), settings.labels.epsilon)

    async def process(self, row: dict[str, Any]) -> Sequence[LabelledSolution]:
        rule = self._config.rule
        if rule == "given":
            labelled = label_as_given(Solution.of(row))
            if labelled is None:
                raise Reject("no label", "the solution came without labels")
            return [labelled]
        solution = EstimatedSolution.of(row)
        if rule == "smoothed":
            assert self._smoother is not None
            return [label_smoothed(solution, self._smoother)]
        return [label(solution, rule, self._config.epsilon)]


class RationaleSettings(Section):
    seed: int
    engine: EngineConfig
    executor: ExecutorConfig
    rationales: RationalizerConfig


class RationaleWorker:
    """solution -> critique"""

    def __init__(self, settings: RationaleSettings, engine: Engine, runner: CodeRunner) -> None:
        self._rationalizer = Rationalizer(engine=engine, runner=runner, config=settings.rationales, run_seed=settings.seed)

    @classmethod
    def open(cls, settings: RationaleSettings, handles: Handles) -> Self:
        return cls(settings, open_engine(settings.engine), handles.runner())

    async def process(self, row: dict[str, Any]) -> Sequence[Critique]:
        return [await self._rationalizer.critique(Solution.of(row))]


class ConversationSettings(Section):
    conversations: ConversationsConfig


LABEL_COLUMNS = {"labels_S": "labels_S", "first_error": "first_error"}
"""What `ConversationWorker` reads of a solution's labels, which are joined to its critique."""


class ConversationWorker:
    """critique and labels -> conversation, if both agree, nothing in it would spoil training, and every paragraph has its parts"""

    def __init__(self, settings: ConversationSettings, _: Handles) -> None:
        self._config = settings.conversations

    async def process(self, row: dict[str, Any]) -> Sequence[Conversation]:
        critique = Critique.of(row)
        labels, first_error = row["labels_S"], row["first_error"]
        if labels is None:
            raise Reject("no label", "the solution was rejected before it was labelled")
        if critique.outcome is not CritiqueOutcome.READ or critique.judged_first_error is None:
            raise Reject(critique.outcome.value.replace("_", " "))
        if not agree(labels, critique.judged_first_error):
            raise Reject("no consensus", f"estimate {first_error}, judge {critique.judged_first_error}")
        flaw = find_flaw(critique, first_error, tolerated=self._config.tolerate)
        if flaw is not None:
            raise Reject(flaw.value)
        try:
            return [build_conversation(critique, first_error, direct=self._config.direct)]
        except NotConvertible as reason:
            raise Reject(str(reason)) from reason
