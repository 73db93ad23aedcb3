"""The workflows' own configuration sections; light to import."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from actors.engine.config import EngineConfig
from actors.verifier import VerifierConfig
from genprm.reward import Aggregate
from genprm.screening import Flaw
from genprm.section import Placement, Section
from workflows.stage.pool import Pool, SearchPool


class Engines(Section):
    """One engine a role. In a model's path ``{run}`` stands for the run directory. ``verifier`` is that of all verifiers, unless a
    verifier has its own."""

    policy: EngineConfig
    completer: EngineConfig
    rationale: EngineConfig
    verifier: EngineConfig


class Pools(Section):
    """Workers and rows in flight of each kind of engine stage; the stages that only do arithmetic are Ray tasks and need none."""

    rollouts: Pool = Pool()
    estimates: Pool = Pool()
    rationales: Pool = Pool()
    evaluate: Pool = Pool()
    search: SearchPool = SearchPool()


class LabelsConfig(Section):
    """How a solution gets step labels.

    ``ratio`` (RPE), ``difference`` and ``hard`` compare the values of neighbouring states with ``epsilon`` (Eq. 11; Tables 3 and 4);
    ``smoothed`` is the ratio rule on values that all counts of a solution bear on (`genprm.smoothing`); it needs few counts. They read
    ``estimates``, a name of the tables of that name. ``given`` takes the labels that came with the solutions and needs no estimates.
    """

    rule: Literal["ratio", "difference", "hard", "smoothed", "given"] = "ratio"
    epsilon: float = 0.8
    estimates: Placement[str | None] = None


class ConversationsConfig(Section):
    """Training conversations from the critiques on which ``labels``, one of the tables of that name, agree.

    ``direct`` makes the data of the Direct GenPRM baseline: judgements without rationales. ``tolerate`` names flaws of critiques
    (`genprm.screening`) for which nothing is to be dropped.
    """

    labels: Placement[str]
    direct: bool = False
    tolerate: tuple[Flaw, ...] = ()


class NamedVerifier(VerifierConfig):
    """A verifier with the engine that serves its model."""

    engine: EngineConfig


class EvaluateConfig(Section):
    """Which verifiers judge the benchmarks (None: all), and whether they stop at a solution's first error."""

    verifiers: Placement[tuple[str, ...] | None] = None
    stop_at_first_error: bool = True


class SearchConfig(Section):
    """Which verifiers search (None: all); candidates a problem for best-of-N (votes and score of each), turns of the critic."""

    verifiers: Placement[tuple[str, ...] | None] = None
    num_candidates: int = Field(default=8, ge=1)
    num_votes: int = Field(default=1, ge=1)
    critic_votes: int = Field(default=1, ge=1)
    aggregate: Aggregate = "last"
    critic_turns: int = Field(default=3, ge=0)
