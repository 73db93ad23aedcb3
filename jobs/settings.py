"""From the configuration tree to what each workflow needs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from actors.engine.config import EngineConfig, VllmEngineConfig
from actors.verifier import VerifierConfig
from jobs.config import Config
from workflows.evaluation import EvaluationSettings
from workflows.search import SearchSettings
from workflows.synthesis import SynthesisSettings


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
    return EvaluationSettings(
        seed=config.seed,
        engine=chosen,
        verifier=verifier or config.verifier,
        evaluate=config.evaluate,
        executor=config.executor,
        pool=config.pools.evaluate,
        model_fingerprint=model_fingerprint(chosen),
    )


def search_settings(config: Config) -> SearchSettings:
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
        model_fingerprint=model_fingerprint(config.engines.verifier),
    )


def model_fingerprint(engine: EngineConfig) -> str:
    """A digest of a local model's weights, or the name of one that is not local.

    ValueError if the model should be there and is not.
    """
    if not isinstance(engine, VllmEngineConfig):
        return str(getattr(engine, "model", engine.type))
    folder = Path(engine.model)
    if not folder.is_dir():
        if engine.model.count("/") == 1 and not engine.model.startswith(("/", ".")):
            return engine.model
        raise ValueError(
            f"engines.verifier.model = {engine.model!r}: no model is there; train one first (python -m jobs.train with the same "
            "--run-dir), or name another"
        )
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 24), b""):
                digest.update(chunk)
    return digest.hexdigest()[:32]
