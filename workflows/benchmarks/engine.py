"""The rollouts stage against vLLM alone."""

from __future__ import annotations

import tempfile

import ray

from actors.engine import Request, VllmEngineConfig
from actors.engine.base import derive_seed
from genprm.records import Problem
from genprm.steps import FIRST_STEP_PREFILL
from workflows.parts import read_rows
from workflows.stage import run_stage
from workflows.storage import Folder
from workflows.synthesis import SynthesisSettings, read_problems_stage, stages
from workflows.tracking import Tracker, TrackingConfig


class _Bare:
    """vLLM alone in an actor with the stage's resources."""

    def __init__(self, config: VllmEngineConfig) -> None:
        from actors.engine.vllm_engine import BareVllm

        self._llm = BareVllm(config)

    def ready(self) -> bool:
        return True

    def generate(self, requests: list[Request]) -> tuple[int, float]:
        return self._llm.generate(requests)


def engine_benchmark(settings: SynthesisSettings) -> dict[str, object]:
    """The rollouts stage against vLLM's offline interface: tokens/s after engine start, and their ratio.

    Both get the same requests (prompts, seeds, sampling), so they write the same texts but for rounding, and as many engines.
    """
    engine = settings.engines.policy
    if not isinstance(engine, VllmEngineConfig):
        raise ValueError("engines.policy.type: this benchmark compares with vLLM, so it must be 'vllm'")
    with tempfile.TemporaryDirectory() as folder:
        run = Folder(folder)
        tracker = Tracker(TrackingConfig(uri="off"), job="benchmark", run=run, resolved={})
        read_problems_stage(run, "problems", settings.problems, "problems.path", tracker)
        requests = [
            Request(
                turns=(settings.policy.ask(problem.text),),
                prefix=FIRST_STEP_PREFILL,
                sampling=settings.policy.sampling,
                seed=derive_seed(settings.seed, problem.id, "rollout", 0),
                n=settings.rollouts.first_round,
            )
            for problem in (Problem.of(row) for row in read_rows(run, "problems"))
        ]
        number = settings.pools.rollouts.num_workers
        bare = ray.remote(_Bare).options(num_cpus=engine.num_cpus, num_gpus=engine.num_gpus)
        engines = [bare.remote(engine) for _ in range(number)]
        ray.get([one.ready.remote() for one in engines])
        served = ray.get([one.generate.remote(requests[index::number]) for index, one in enumerate(engines)])
        for one in engines:
            ray.kill(one)
        bare_tokens, bare_seconds = sum(tokens for tokens, _ in served), max(seconds for _, seconds in served)
        summary = run_stage(stages(settings, run)[0], run, tracker)
    print(f"bare vLLM: {bare_tokens:,} tokens in {bare_seconds:.1f} s, {bare_tokens / bare_seconds:,.0f} tokens/s")
    print(f"stage:     {summary.tokens:,} tokens in {summary.work_seconds:.1f} s, {summary.tokens_per_s:,.0f} tokens/s")
    ratio = summary.tokens_per_s / (bare_tokens / bare_seconds)
    return {
        "benchmark": "engine",
        "ratio": round(ratio, 3),
        "stage_tokens_per_s": round(summary.tokens_per_s),
        "bare_tokens_per_s": round(bare_tokens / bare_seconds),
        "tokens": summary.tokens,
    }
