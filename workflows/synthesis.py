"""From problems to training conversations (sections 3.2.1 to 3.2.3 of the paper).

problems -> rollouts -> solutions -> estimates/E -> labels/L -> conversations/C
                              \\                                   /
                               ------> rationales ---------------

Estimates and rationales depend on the solutions alone, not on one another. ``rollouts`` holds one row a problem, which is the policy's
unit of work; ``solutions`` the kept paths, one row each; ``prior/E`` one row, what the smoother learned from a sample of the counts, made
only if a label rule reads it. Problems, solutions (with or without labels) and critiques may come from files instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from actors.remote import Services
from actors.storage import Folder
from genprm import smoothing
from genprm.consensus import Agreement, agreement
from genprm.errors import UserError
from genprm.records import (
    Conversation,
    Critique,
    EstimatedSolution,
    GivenSolution,
    LabelledSolution,
    LearnedPrior,
    Problem,
    Rollouts,
    Solution,
)
from genprm.smoothing import Chain
from workflows import synthesis_workers as workers
from workflows.config import Config
from workflows.inputs.critiques import iterate_critiques
from workflows.inputs.problems import ProblemsConfig, iterate_problems
from workflows.inputs.solutions import iterate_solutions
from workflows.sampling import smallest_hashes
from workflows.sections import LabelsConfig
from workflows.stage.links import source
from workflows.stage.parts import iterate_rows
from workflows.stage.row_stage import Join, RowStage
from workflows.stage.run import Run
from workflows.stage.stage import Stage, TableStage

TOP_UP = "top_up/"
"""How the names begin under which estimates of other runs are read."""
PRIOR_SAMPLE = 20_000
"""Solutions that a prior is learned from, at most; they are chosen by the hash of their id."""


def stages(config: Config, run: Folder) -> list[Stage]:
    """All stages of synthesis, in order."""
    found: list[Stage] = [problems(config.problems), rollouts(config), *solutions(config)]
    found += [estimates(config, name) for name in config.estimates]
    found += [prior(name) for name in config.estimates if any(_learns(labels, name) for labels in config.labels.values())]
    found += [labels(config, name, run) for name in config.labels]
    found += [rationales(config)]
    found += [conversations(config, name) for name in config.conversations]
    return found


def problems(config: ProblemsConfig, name: str = "problems", setting: str = "problems") -> Stage:
    """A file of problems: checked, deduplicated, decontaminated."""
    return TableStage(
        name=name, setting=setting, writes=Problem, settings=config, make_rows=lambda _: iterate_problems(config, f"{setting}.path")
    )


def rollouts(config: Config) -> RowStage:
    """Many sampled paths of each problem; some are kept."""
    return RowStage(
        name="rollouts",
        reads=("problems",),
        key="id",
        writes=Rollouts,
        settings=workers.RolloutSettings(
            seed=config.seed, engine=config.engines.policy, policy=config.policy, rollouts=config.rollouts, grading=config.grading
        ),
        make_worker=workers.RolloutWorker.open,
        pool=config.pools.rollouts,
        limits=config.failures,
        engine=config.engines.policy,
    )


def solutions(config: Config) -> list[Stage]:
    """The kept paths, one row each; or solutions from a file, graded where the answer is known."""
    if config.solutions.path is None:
        made = RowStage(
            name="solutions",
            reads=("rollouts",),
            key="problem_id",
            writes=Solution,
            settings=workers.Nothing(),
            make_worker=workers.SolutionWorker,
            limits=config.failures,
        )
        return [made]
    given = TableStage(
        name="given_solutions",
        setting="solutions",
        writes=GivenSolution,
        settings=config.solutions,
        make_rows=lambda _: iterate_solutions(config.solutions),
    )
    graded = RowStage(
        name="solutions",
        reads=("given_solutions",),
        key="id",
        writes=Solution,
        settings=workers.GivenSolutionSettings(grading=config.grading),
        make_worker=workers.GivenSolutionWorker,
        limits=config.failures,
    )
    return [given, graded]


def estimates(config: Config, name: str) -> RowStage:
    """Counts at every state of each solution; those of another run are topped up."""
    estimator = config.estimates[name]
    settings = workers.EstimateSettings(
        seed=config.seed, engine=config.engines.completer, prompt=config.policy.prompt, estimates=estimator, grading=config.grading
    )
    known = None if estimator.top_up is None else f"{TOP_UP}{name}"
    return RowStage(
        name=f"estimates/{name}",
        reads=("solutions",) if known is None else ("solutions", known),
        key="id",
        join=None if known is None else Join(stage=known, key="id", columns=workers.KNOWN_COLUMNS),
        writes=EstimatedSolution,
        settings=settings,
        make_worker=workers.EstimateWorker.open,
        pool=config.pools.estimates,
        limits=config.failures,
        engine=config.engines.completer,
    )


def top_ups(config: Config) -> dict[str, Folder]:
    """The estimates of other runs that are topped up, by the names under which this run reads them.

    ValueError if they were made by another completer, prompt, sampling or grading.
    """
    found = {}
    for name, estimator in config.estimates.items():
        if estimator.top_up is None:
            continue
        setting = f"estimates.{name}.top_up"
        folder = source(estimator.top_up, f"estimates/{name}", setting)
        before = folder.read_json("_stage.json")["config"]
        now = estimates(config, name).settings.identity()
        for part in ("engine", "prompt", "grading"):
            if before.get(part) != now[part]:
                raise UserError(f"{setting} = {estimator.top_up!r}: its {part} was {before.get(part)} and is now {now[part]}; counts of "
                                 "different models, prompts or graders are not to be mixed")  # fmt: skip
        if before["estimates"]["sampling"] != now["estimates"]["sampling"]:
            raise UserError(f"{setting} = {estimator.top_up!r}: its sampling was {before['estimates']['sampling']} and is now "
                             f"{now['estimates']['sampling']}; set estimates.{name}.sampling as it was there")  # fmt: skip
        found[f"{TOP_UP}{name}"] = folder
    return found


def prior(name: str) -> Stage:
    """What steps usually do to a value, learned from the counts; these decide it, and nothing else."""

    def learn(run: Run) -> Iterator[LearnedPrior]:
        rows = smallest_hashes(iterate_rows(run.folder, f"estimates/{name}"), PRIOR_SAMPLE)
        chains = [Chain.of(EstimatedSolution.of(row)) for row in rows]
        yield smoothing.fit(chains).learned(len(chains))

    return TableStage(name=f"prior/{name}", reads=(f"estimates/{name}",), writes=LearnedPrior, settings=workers.Nothing(), make_rows=learn)


def labels(config: Config, name: str, run: Folder) -> RowStage:
    """Step labels by one rule; they cost no engine."""
    rule = config.labels[name]
    learned = f"prior/{rule.estimates}" if rule.rule == "smoothed" else None
    reads: tuple[str, ...] = ("solutions",) if rule.rule == "given" else (f"estimates/{rule.estimates}",)
    return RowStage(
        name=f"labels/{name}",
        reads=reads if learned is None else (*reads, learned),
        key="id",
        writes=LabelledSolution,
        settings=workers.LabelSettings(labels=rule, prior=None if learned is None else (run.uri, learned)),
        make_worker=workers.LabelWorker,
        limits=config.failures,
    )


def rationales(config: Config) -> Stage:
    """A critique of each solution, with code that is really run; or critiques from a file."""
    if config.critiques.path is not None:
        return TableStage(
            name="rationales",
            setting="critiques",
            writes=Critique,
            settings=config.critiques,
            make_rows=lambda _: iterate_critiques(config.critiques),
        )
    return RowStage(
        name="rationales",
        reads=("solutions",),
        key="id",
        writes=Critique,
        settings=workers.RationaleSettings(
            seed=config.seed, engine=config.engines.rationale, executor=config.executor, rationales=config.rationales
        ),
        make_worker=workers.RationaleWorker.open,
        pool=config.pools.rationales,
        limits=config.failures,
        engine=config.engines.rationale,
        services=Services(executors=config.executor),
    )


def conversations(config: Config, name: str) -> RowStage:
    """The critiques on which estimate and judge agree, as training conversations."""
    chosen = config.conversations[name]
    return RowStage(
        name=f"conversations/{name}",
        reads=("rationales", f"labels/{chosen.labels}"),
        key="id",
        join=Join(stage=f"labels/{chosen.labels}", key="id", columns=workers.LABEL_COLUMNS),
        writes=Conversation,
        settings=workers.ConversationSettings(conversations=chosen),
        make_worker=workers.ConversationWorker,
        limits=config.failures,
    )


def consensus_agreement(run: Folder, config: Config, name: str) -> Agreement:
    """How estimate and judge agreed in a finished set of conversations, and what was kept."""
    kept = {row["id"] for row in iterate_rows(run, f"conversations/{name}", ["id"])}
    labels = f"labels/{config.conversations[name].labels}"
    estimated = {row["id"]: row["first_error"] for row in iterate_rows(run, labels, ["id", "first_error"])}
    rows = [row for row in iterate_rows(run, "rationales", ["id", "judged_first_error", "level"]) if row["id"] in estimated]
    return agreement([(estimated[row["id"]], row["judged_first_error"], row["level"]) for row in rows], [row["id"] in kept for row in rows])


def _learns(rule: LabelsConfig, estimates: str) -> bool:
    return rule.rule == "smoothed" and rule.estimates == estimates
