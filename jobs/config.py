"""The one typed configuration tree: TOML in, checked once, every default in its own field.

Sections stand beside what they configure; this file only joins them. It imports nothing heavy.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from actors.code_executor.config import ExecutorConfig
from actors.engine.config import VllmEngineConfig
from actors.estimator import EstimatorConfig, PaperEstimatorConfig
from actors.grading.grader import GradingConfig
from actors.policy import PolicyConfig, RolloutConfig
from actors.rationalizer import RationalizerConfig
from genprm.section import Section
from actors.training.config import TrainConfig
from actors.verifier import VerifierConfig
from cluster.session import RayConfig
from workflows.inputs.problems import ProblemsConfig
from workflows.sections import ConversationsConfig, DemoConfig, Engines, EvaluateConfig, LabelsConfig, Pools, SearchConfig
from workflows.stage.folder import Folder
from workflows.stage.tracking import TrackingConfig


class Config(Section):
    """Everything a job can be told. ``seed`` is where all randomness derives from."""

    seed: int = 0
    ray: RayConfig = RayConfig()
    tracking: TrackingConfig = TrackingConfig()
    engines: Engines
    pools: Pools = Pools()
    grading: GradingConfig = GradingConfig()
    executor: ExecutorConfig = ExecutorConfig()
    problems: ProblemsConfig
    policy: PolicyConfig = PolicyConfig()
    rollouts: RolloutConfig = RolloutConfig()
    estimates: EstimatorConfig = PaperEstimatorConfig()
    labels: LabelsConfig = LabelsConfig()
    rationales: RationalizerConfig = RationalizerConfig()
    conversations: ConversationsConfig = ConversationsConfig()
    train: TrainConfig
    verifier: VerifierConfig = VerifierConfig()
    evaluate: EvaluateConfig
    search: SearchConfig
    demo: DemoConfig = DemoConfig()


def load(path: str, changes: Sequence[str], run: Folder) -> Config:
    """The configuration of a TOML file with ``section.key=value`` changes; ValueError names what is wrong and the remedy.

    ``{run}`` in a verifier's model stands for the run directory.
    """
    tree = read_tree(path, changes)
    for engine in tree.get("engines", {}).values() if isinstance(tree.get("engines"), dict) else ():
        if isinstance(engine, dict) and isinstance(engine.get("model"), str):
            engine["model"] = engine["model"].replace("{run}", run.uri)
    config = checked(Config, tree)
    for role in Engines.model_fields:
        engine = getattr(config.engines, role)
        if isinstance(engine, VllmEngineConfig):
            _check_model(f"engines.{role}.model", engine.model, run)
    _check_model("train.base_model", config.train.base_model, run)
    return config


def read_tree(path: str, changes: Sequence[str]) -> dict[str, Any]:
    """A TOML file, on top of the one beside it that its ``extends`` names, with ``section.key=value`` changes applied."""
    tree = _read_toml(path)
    seen = {Path(path).resolve()}
    file = Path(path)
    while "extends" in tree:
        file = file.parent / str(tree.pop("extends"))
        if file.resolve() in seen:
            raise ValueError(f"extends = {str(file)!r} in {path}: files extend one another in a circle")
        seen.add(file.resolve())
        tree = _on_top_of(_read_toml(str(file)), tree)
    for change in changes:
        _apply(tree, change)
    return tree


def _on_top_of(base: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """Sections merged key by key; one of another ``type`` replaces the old one whole."""
    merged = dict(base)
    for name, value in tree.items():
        old = base.get(name)
        same_kind = isinstance(old, dict) and isinstance(value, dict) and value.get("type", old.get("type")) == old.get("type")
        merged[name] = _on_top_of(old, value) if same_kind and isinstance(old, dict) else value
    return merged


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(f"--config = {path!r}: there is no such file; the presets are in jobs/presets") from error
    except OSError as error:
        raise ValueError(f"--config = {path!r}: can't be read ({error}); mend its rights") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--config = {path!r}: not TOML: {error}") from error


AnySection = TypeVar("AnySection", bound=Section)


def checked(section: type[AnySection], tree: Mapping[str, Any]) -> AnySection:
    """The section a tree describes; types are taken strictly (``"7"`` is no number, ``true`` no count), as JSON has them."""
    try:
        return section.model_validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        raise ValueError(_explain(error)) from error


def _apply(tree: dict[str, Any], change: str) -> None:
    name, separator, text = change.partition("=")
    keys = name.strip().split(".")
    if not separator or not all(keys):
        raise ValueError(f"--set {change!r}: write it as section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    node = tree
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise ValueError(f"--set {change!r}: {key!r} is a setting, not a section")
        node = child
    node[keys[-1]] = value


def _explain(error: ValidationError) -> str:
    """One line for each wrong setting: its path, its value, what is wrong."""
    lines = []
    for item in error.errors():
        names = [str(part) for part in item["loc"] if part not in ("vllm", "http", "scripted", "paper", "thrifty")]
        path = ".".join(names)
        if item["type"] == "extra_forbidden":
            lines.append(f"{path}: there is no such setting; `--dry-run` prints all there are")
        elif item["type"] == "missing":
            lines.append(f"{path}: must be set; see jobs/presets for examples")
        else:
            lines.append(f"{path} = {item['input']!r}: {item['msg']}")
    return "; ".join(lines)


def _check_model(setting: str, model: str, run: Folder) -> None:
    """A model given as a path must be there; one that this run will make, or a hub name, is left to who loads it."""
    if model.startswith(run.uri):
        return
    looks_local = model.startswith(("/", ".", "~")) or Path(model).exists() or model.count("/") != 1
    if looks_local and not (Path(model) / "config.json").is_file():
        raise ValueError(f"{setting} = {model!r}: no model is there (no config.json); give a model's folder or hub name")


def resolved(config: Section) -> str:
    """The whole tree, defaults filled in, as JSON."""
    return json.dumps(config.model_dump(mode="json"), indent=2)
