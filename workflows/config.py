"""The one typed configuration tree: every section stands beside what it configures, and is joined here and nowhere else.

What a run can have several of stands in named tables: ``[labels.NAME]``, ``[models.NAME]``, ... A name becomes part of the names of
the stages that are made of it (``labels/NAME``, ``train/NAME``). Light to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from actors.code_executor.config import ExecutorConfig
from actors.estimator import EstimatorConfig, PaperEstimatorConfig
from actors.grading.grader import GradingConfig
from actors.policy import PolicyConfig, RolloutConfig
from actors.rationalizer import RationalizerConfig
from actors.training.config import TrainConfig
from cluster.session import RayConfig
from genprm.section import Placement, Section
from workflows.inputs.benchmarks import BenchmarkConfig
from workflows.inputs.critiques import CritiquesConfig
from workflows.inputs.problems import ProblemsConfig
from workflows.inputs.solutions import SolutionsConfig
from workflows.sections import ConversationsConfig, Engines, EvaluateConfig, LabelsConfig, NamedVerifier, Pools, SearchConfig
from workflows.stage.limits import FailureLimits
from workflows.stage.tracking import TrackingConfig
from workflows.stage.usage import BudgetConfig

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w-]*$")]

SHARED = {"train": "models", "verifier": "verifiers"}
"""Sections of a file that hold what all tables of a kind share: a table overrides it key by key."""
READS = (("labels", "estimates", "estimates"), ("conversations", "labels", "labels"), ("models", "conversations", "conversations"))
"""Tables, and the field by which each names a table of another kind."""
DEFAULT_NAME = "genprm"


class Config(Section):
    """All settings of a job. ``seed`` is where all randomness derives from.

    ``reuse`` maps stages to other runs that have them, as ``RUN`` or ``RUN:STAGE``: they are read from there. ``side_by_side`` lets
    stages that do not depend on one another run at the same time where the cluster has room for both.
    """

    seed: int = 0
    ray: Placement[RayConfig] = RayConfig()
    tracking: Placement[TrackingConfig] = TrackingConfig()
    reuse: Placement[dict[str, str]] = Field(default_factory=dict)
    side_by_side: Placement[bool] = True
    engines: Engines
    pools: Placement[Pools] = Pools()
    failures: Placement[FailureLimits] = FailureLimits()
    budget: Placement[BudgetConfig] = BudgetConfig()
    grading: GradingConfig = GradingConfig()
    executor: ExecutorConfig = ExecutorConfig()
    problems: ProblemsConfig = ProblemsConfig()
    policy: PolicyConfig = PolicyConfig()
    rollouts: RolloutConfig = RolloutConfig()
    solutions: SolutionsConfig = SolutionsConfig()
    estimates: dict[Name, EstimatorConfig] = Field(default={"paper": PaperEstimatorConfig()})
    labels: dict[Name, LabelsConfig] = Field(default_factory=dict)
    rationales: RationalizerConfig = RationalizerConfig()
    critiques: CritiquesConfig = CritiquesConfig()
    conversations: dict[Name, ConversationsConfig] = Field(default_factory=dict)
    models: dict[Name, TrainConfig] = Field(default_factory=dict)
    verifiers: dict[Name, NamedVerifier] = Field(default_factory=dict)
    benchmarks: dict[Name, BenchmarkConfig] = Field(default_factory=dict)
    evaluate: EvaluateConfig = EvaluateConfig()
    search_problems: dict[Name, ProblemsConfig] = Field(default_factory=dict)
    search: SearchConfig = SearchConfig()

    @model_validator(mode="after")
    def _names_exist(self) -> Config:
        for name, labels in self.labels.items():
            if labels.rule != "given":
                _one_of(f"labels.{name}.estimates", labels.estimates, "estimates", self.estimates)
        for name, conversations in self.conversations.items():
            _one_of(f"conversations.{name}.labels", conversations.labels, "labels", self.labels)
        for name, model in self.models.items():
            _one_of(f"models.{name}.conversations", model.conversations, "conversations", self.conversations)
        for section, chosen in (("evaluate", self.evaluate.verifiers), ("search", self.search.verifiers)):
            for verifier in chosen or ():
                _one_of(f"{section}.verifiers", verifier, "verifiers", self.verifiers)
        return self


def _one_of(setting: str, value: str | None, tables: str, names: Mapping[str, Any]) -> None:
    if value not in names:
        raise ValueError(f"{setting} = {value!r}: there is no such table; [{tables}.NAME] has: {', '.join(names) or 'none'}")


def assemble(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of a configuration file with what is understood filled in.

    ``[train]`` and ``[verifier]`` are put under each table of ``[models.NAME]`` and ``[verifiers.NAME]``; with no such table there is
    one, ``genprm``. A verifier has ``engines.verifier`` under its own ``engine``. With no table of labels there is one, ``rpe``; with no
    table of conversations there is one for each label rule, of its name. What reads an estimator, a label rule or a set of conversations
    and does not name it reads the first one.
    """
    tree = dict(tree)
    for shared, tables in SHARED.items():
        common = tree.pop(shared, None)
        if common is not None or tables not in tree:
            own = tree.get(tables) or {DEFAULT_NAME: {}}
            tree[tables] = {name: laid_over(common or {}, table) for name, table in own.items()} if _is_table_of_tables(own) else own
    engine = tree.get("engines", {}).get("verifier") if isinstance(tree.get("engines"), dict) else None
    if isinstance(engine, dict) and _is_table_of_tables(tree["verifiers"]):
        tree["verifiers"] = {
            name: {**table, "engine": laid_over(engine, table.get("engine", {}))} for name, table in tree["verifiers"].items()
        }
    tree.setdefault("labels", {"rpe": {}})
    if _is_table_of_tables(tree["labels"]):
        tree.setdefault("conversations", {name: {"labels": name} for name in tree["labels"]})
    for tables, field, read in READS:
        names = list(tree.get(read) or (["paper"] if read == "estimates" else []))
        if names and _is_table_of_tables(tree.get(tables)):
            tree[tables] = {
                name: table if table.get("rule") == "given" else {field: names[0], **table} for name, table in tree[tables].items()
            }
    return tree


def laid_over(base: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Sections merged key by key; one of another ``type`` replaces the old one whole."""
    merged = dict(base)
    for name, value in tree.items():
        old = base.get(name)
        same_kind = isinstance(old, dict) and isinstance(value, dict) and value.get("type", old.get("type")) == old.get("type")
        merged[name] = laid_over(old, value) if same_kind and isinstance(old, dict) else value
    return merged


def _is_table_of_tables(tree: Any) -> bool:
    return isinstance(tree, dict) and all(isinstance(table, dict) for table in tree.values())
