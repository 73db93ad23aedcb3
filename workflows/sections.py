"""The workflows' own configuration sections; light to import."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from actors.engine.config import EngineConfig
from actors.estimator import EstimatorConfig
from genprm.section import Section
from genprm.reward import Aggregate
from genprm.screening import Flaw
from workflows.stage.pool import Pool


class Engines(Section):
    """One engine a role. In a model's path ``{run}`` stands for the run directory."""

    policy: EngineConfig
    completer: EngineConfig
    rationale: EngineConfig
    verifier: EngineConfig


class Pools(Section):
    """Workers and rows in flight of each engine stage; the stages that only do arithmetic are Ray tasks and need none."""

    rollouts: Pool = Pool()
    estimates: Pool = Pool()
    rationales: Pool = Pool()
    evaluate: Pool = Pool()
    search: Pool = Pool()


class LabelsConfig(Section):
    """How counts become labels: ``rule`` and its ``epsilon`` (Eq. 11; Tables 3 and 4).

    ``smoothed`` is the ratio rule on values that all counts of a solution bear on (`genprm.smoothing`); it needs few counts.
    """

    rule: Literal["ratio", "difference", "hard", "smoothed"] = "ratio"
    epsilon: float = 0.8


class ConversationsConfig(Section):
    """``direct`` makes the data of the Direct GenPRM baseline: judgements without rationales.

    ``tolerate`` names flaws of critiques (`genprm.screening`) for which nothing is to be dropped.
    """

    direct: bool = False
    tolerate: tuple[Flaw, ...] = ()


class EvaluateConfig(Section):
    """A ProcessBench file (id, problem, steps, label) and how much of it."""

    benchmark: str
    limit: int | None = Field(default=None, ge=1)
    stop_at_first_error: bool = True


class SearchConfig(Section):
    """Problems, candidates a problem for best-of-N (votes and score of each), turns of the critic."""

    problems: str
    limit: int | None = Field(default=None, ge=1)
    text_field: str = "problem"
    answer_field: str = "answer"
    num_candidates: int = Field(default=8, ge=1)
    num_votes: int = Field(default=1, ge=1)
    critic_votes: int = Field(default=1, ge=1)
    aggregate: Aggregate = "last"
    critic_turns: int = Field(default=3, ge=0)


class DemoConfig(Section):
    """``estimates`` is a second estimator that the demo measures beside the run's own; None: none."""

    estimates: EstimatorConfig | None = None


ToyRole = Literal["policy", "rationale", "base"]


class ToySteps(Section):
    """Optimizer steps of each toy model."""

    policy: int = Field(default=480, ge=1)
    rationale: int = Field(default=950, ge=1)
    base: int = Field(default=420, ge=1)


class ToyModelsConfig(Section):
    """Which toy models are made, from which seed, how long; with ``train`` false those that are there are only measured."""

    seed: int = 1
    models: tuple[ToyRole, ...] = ("policy", "rationale", "base")
    steps: ToySteps = ToySteps()
    train: bool = True


SynthesisStage = Literal["problems", "rollouts", "solutions", "estimates", "prior", "labels", "rationales", "conversations"]
