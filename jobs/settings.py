"""From the configuration tree to what each workflow needs."""

from __future__ import annotations

from actors.engine.config import EngineConfig, VllmEngineConfig
from actors.verifier import VerifierConfig
from jobs.config import Config
from workflows.evaluation import EvaluationSettings
from workflows.identity import weights_fingerprint
from workflows.search import SearchSettings
from workflows.synthesis_workers import SynthesisSettings


def synthesis_settings(config: Config) -> SynthesisSettings:
    return SynthesisSettings(
        seed=config.seed,
        problems=config.problems,
        engines=config.engines,
        policy=config.policy,
        rollouts=config.rollouts,
        estimates=config.estimates,
        labels=config.labels,
        rationales=config.rationales,
        conversations=config.conversations,
        grading=config.grading,
        executor=config.executor,
        pools=config.pools,
    )


def evaluation_settings(
    config: Config, *, engine: EngineConfig | None = None, verifier: VerifierConfig | None = None
) -> EvaluationSettings:
    """``engine`` and ``verifier`` replace the configured ones, to compare several verifiers in one run."""
    chosen = engine or config.engines.verifier
    check_model_is_there(chosen)
    return EvaluationSettings(
        seed=config.seed,
        engine=chosen,
        verifier=verifier or config.verifier,
        evaluate=config.evaluate,
        executor=config.executor,
        pool=config.pools.evaluate,
    )


def search_settings(config: Config) -> SearchSettings:
    check_model_is_there(config.engines.verifier)
    return SearchSettings(
        seed=config.seed,
        policy_engine=config.engines.policy,
        verifier_engine=config.engines.verifier,
        policy=config.policy,
        verifier=config.verifier,
        search=config.search,
        grading=config.grading,
        executor=config.executor,
        pool=config.pools.search,
    )


def check_model_is_there(engine: EngineConfig) -> None:
    """ValueError if the model to be used is a folder that is not there (yet)."""
    if not isinstance(engine, VllmEngineConfig) or weights_fingerprint(engine.model) is not None:
        return
    if engine.model.count("/") != 1 or engine.model.startswith(("/", ".")):
        raise ValueError(
            f"engines.verifier.model = {engine.model!r}: no model is there; train one first (python -m jobs.train with the same "
            "--run-dir), or name another"
        )
