"""What a process of its own is worth to vLLM's core, on a GPU: the real stages and the real vLLM, whose model is simulated."""

from __future__ import annotations

from pathlib import Path

from actors.engine.config import VllmEngineConfig
from workflows.benchmarks.bare_engine import vllm_of
from workflows.benchmarks.overhead import TOKENS, share, with_engine
from workflows.benchmarks.simulated import NUM_SEQUENCES, STEP_S
from workflows.config import Config


def core_process_benchmark(config: Config, folder: Path, seconds: float) -> dict[str, object]:
    """Shares of the ideal throughput (the engine always full), with the core in the worker's process and in its own; each stage for about
    ``seconds`` with one engine. Ray must be connected."""
    policy = vllm_of(config.engines.policy, "engines.policy")
    found: dict[str, dict[str, float]] = {}
    for stage in TOKENS:
        rows = int(seconds * NUM_SEQUENCES / STEP_S / TOKENS[stage])
        found[stage] = {}
        for name, own in (("in_process", False), ("core_process", True)):
            given = with_engine(config, timed_engine(policy, own), 1)
            found[stage][name] = round(share(given, folder / f"{stage}-{name}", stage, rows, 1), 3)
    return {"benchmark": "core-process", **found}


def timed_engine(engine: VllmEngineConfig, core_process: bool) -> VllmEngineConfig:
    """The engine with a model that takes its time as a GPU does, and needs none. Its tokenizer stays."""
    changes = {"max_num_seqs": NUM_SEQUENCES, "max_model_len": 2048, "num_gpus": 0, "num_cpus": 0.1, "core_process": core_process}
    return engine.model_copy(update={**changes, "arguments": {"worker_cls": "workflows.benchmarks.timed_vllm.TimedWorker"}})
