"""From problems to training conversations (sections 3.2.1 to 3.2.3 of the paper).

problems -> rollouts -> solutions -> estimates -> labels -> rationales -> conversations
                                        \-> prior -/

``rollouts`` holds one row a problem, which is the policy's unit of work; ``solutions`` the kept paths, one row each; ``prior`` one
row, what the smoother learned from all counts.
Engines serve rollouts, estimates and rationales; the other stages are arithmetic over rows and can be made anew at no cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from actors.code_executor import CodeRunner, ExecutorConfig
from actors.engine import Engine, open_engine
from actors.estimator import EngineCompleter, Estimator, EstimatorConfig, OtherSteps
from actors.grader import Grader, GradingConfig
from actors.policy import Policy, PolicyConfig, RolloutConfig
from actors.rationalizer import Rationalizer, RationalizerConfig
from actors.remote import Handles, Services
from genprm import monte_carlo, progress, smoothing
from genprm.consensus import Agreement, agree, agreement
from genprm.conversation import NotConvertible, build_conversation
from genprm.progress import LabelRule
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
from genprm.smoothing import Chain, Smoother
from workflows.data_files import file_fingerprint
from workflows.identity import dump, engine_identity, executor_identity, grading_identity
from workflows.parts import DONE, RejectedRow, StageSummary, read_rows
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


def label(solution: EstimatedSolution, rule: LabelRule, epsilon: float) -> LabelledSolution:
    start = monte_carlo.value(solution.start_counts)
    values = monte_carlo.step_values(solution.step_counts_S)
    labels = progress.labels(start, values, rule, epsilon)
    return LabelledSolution(
        **_fields(solution),
        values_S=tuple(values),
        progress_S=tuple(progress.relative_progress(start, values)),
        labels_S=tuple(labels),
        first_error=progress.first_error(labels),
    )


def label_smoothed(solution: EstimatedSolution, smoother: Smoother) -> LabelledSolution:
    """The likeliest first error; steps before it are good, those after it as their own posterior says."""
    posterior = smoother.judge(Chain.of(solution))
    means: list[float] = posterior.values_T.tolist()
    start, values = means[0], [*means[1:], float(solution.outcome is Outcome.CORRECT)]
    best = posterior.best
    later = [int(bad < 0.5) for bad in posterior.bad_S[best + 1 :].tolist()]
    return LabelledSolution(
        **_fields(solution),
        values_S=tuple(values),
        progress_S=tuple(progress.relative_progress(start, values)),
        labels_S=(1,) * len(values) if best < 0 else (*(1,) * best, 0, *later),
        first_error=best,
        sureness=posterior.sureness,
    )


def _fields(solution: EstimatedSolution) -> dict[str, Any]:
    return {name: getattr(solution, name) for name, _ in EstimatedSolution.FIELDS}


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


def stages(settings: SynthesisSettings, run: Folder) -> list[Stage]:
    """The stages after ``problems``, in order, but for ``prior``."""
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
        estimates_stage(settings),
        Stage(
            name="labels",
            reads="estimates",
            key="id",
            writes=LabelledSolution,
            make_worker=partial(LabelWorker, settings.labels, run),
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


def estimates_stage(settings: SynthesisSettings, name: str = "estimates") -> Stage:
    """solutions -> counts at their states, under any name: estimators can be compared in one run."""
    return Stage(
        name=name,
        reads="solutions",
        key="id",
        writes=EstimatedSolution,
        make_worker=partial(EstimateWorker, settings),
        config=dump(
            ("seed", settings.seed),
            ("engine", engine_identity(settings.engines.completer)),
            ("grading", grading_identity(settings.grading)),
            ("prompt", settings.policy.prompt),
            ("estimates", settings.estimates),
        ),
        inputs=_top_up_input(settings.estimates),
        pool=settings.pools.estimates,
        engine=settings.engines.completer,
    )


def _top_up_input(config: EstimatorConfig) -> dict[str, str]:
    """What is topped up, by its contents; ValueError if it is not there."""
    if config.top_up is None:
        return {}
    folder = Folder(config.top_up) / "estimates"
    if not folder.exists(DONE):
        raise ValueError(f"estimates.top_up = {config.top_up!r}: no finished estimates are there; name the directory of a finished run")
    return {"top_up": folder.read_json(DONE)["contents"]}


def prior_stage(run: Folder, tracker: Tracker) -> StageSummary:
    """What steps usually do, learned from the counts of all solutions; the counts decide it, and nothing else."""

    def learn() -> tuple[list[LearnedPrior], list[RejectedRow], int]:
        chains = [Chain.of(EstimatedSolution.of(row)) for row in read_rows(run, "estimates")]
        return [smoothing.fit(chains).learned(len(chains))], [], 1

    plan = {"config": {}, "inputs": {"estimates": (run / "estimates").read_json(DONE)["contents"]}}
    return run_table_stage("prior", LearnedPrior, run, plan, learn, tracker)


def read_problems_stage(run: Folder, name: str, config: ProblemsConfig, setting: str, tracker: Tracker) -> StageSummary:
    """A problem file as a stage: checked, deduplicated, decontaminated. ``setting`` is where its path is configured."""
    files = {config.path: file_fingerprint(config.path, setting)}
    files |= {path: file_fingerprint(path, "problems.benchmarks") for path in config.benchmarks}
    plan = {"config": dump(("problems", config)), "inputs": files}
    return run_table_stage(name, Problem, run, plan, lambda: read_problems(config, setting), tracker)


def synthesize(run: Folder, settings: SynthesisSettings, tracker: Tracker, *, until: SynthesisStage = STAGES[-1]) -> list[StageSummary]:
    """Run the stages in order, up to and including ``until``; finished ones are skipped."""
    summaries = [read_problems_stage(run, "problems", settings.problems, "problems.path", tracker)]
    for stage in stages(settings, run):
        if stage.name == "labels" and STAGES.index("prior") <= STAGES.index(until):
            summaries.append(prior_stage(run, tracker))
        if STAGES.index(stage.name) > STAGES.index(until):
            break
        summaries.append(run_stage(stage, run, tracker))
    return summaries


def consensus_agreement(run: Folder) -> Agreement:
    """How estimate and judge agreed in a finished run, and what was kept."""
    kept = {row["id"] for row in read_rows(run, "conversations")}
    rows = read_rows(run, "rationales")
    return agreement([(row["first_error"], row["judged_first_error"], row["level"]) for row in rows], [row["id"] in kept for row in rows])
