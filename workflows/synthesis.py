"""From problems to training conversations (sections 3.2.1 to 3.2.3 of the paper).

problems -> rollouts -> solutions -> estimates -> labels -> rationales -> conversations
                                        \-> prior -/

``rollouts`` holds one row a problem, which is the policy's unit of work; ``solutions`` the kept paths, one row each; ``prior`` one
row, what the smoother learned from all counts.
Engines serve rollouts, estimates and rationales; the other stages are arithmetic over rows and can be made anew at no cost.
"""

from __future__ import annotations

from functools import partial
from typing import get_args

from actors.estimator import EstimatorConfig
from actors.remote import Services
from genprm import smoothing
from genprm.consensus import Agreement, agreement
from genprm.records import (
    Conversation,
    Critique,
    EstimatedSolution,
    LabelledSolution,
    LearnedPrior,
    Problem,
    Rollouts,
    Solution,
)
from genprm.smoothing import Chain
from workflows.inputs.files import file_fingerprint
from workflows.identity import dump, engine_identity, executor_identity, grading_identity
from workflows.stage.parts import DONE, RejectedRow, StageSummary, read_rows
from workflows.inputs.problems import ProblemsConfig, read_problems
from workflows.sections import SynthesisStage
from workflows.stage.running import Stage, check_resources, run_stage, run_table_stage
from workflows.stage.folder import Folder
from workflows.synthesis_workers import (
    ConversationWorker,
    EstimateWorker,
    LabelWorker,
    RationaleWorker,
    RolloutWorker,
    SolutionWorker,
    SynthesisSettings,
)
from workflows.stage.tracking import Tracker

STAGES: tuple[SynthesisStage, ...] = get_args(SynthesisStage)


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
    """Run the stages in order, up to and including ``until``; finished ones are skipped.

    SetupFailed before anything is spent if the cluster has too little for one that is to be run.
    """
    wanted = [stage for stage in stages(settings, run) if STAGES.index(stage.name) <= STAGES.index(until)]
    check_resources([stage for stage in wanted if not (run / stage.name).exists(DONE)])
    summaries = [read_problems_stage(run, "problems", settings.problems, "problems.path", tracker)]
    for stage in wanted:
        if stage.name == "labels":
            summaries.append(prior_stage(run, tracker))
        summaries.append(run_stage(stage, run, tracker))
    if until == "prior":
        summaries.append(prior_stage(run, tracker))
    return summaries


def consensus_agreement(run: Folder) -> Agreement:
    """How estimate and judge agreed in a finished run, and what was kept."""
    kept = {row["id"] for row in read_rows(run, "conversations")}
    rows = read_rows(run, "rationales")
    return agreement([(row["first_error"], row["judged_first_error"], row["level"]) for row in rows], [row["id"] in kept for row in rows])
