"""The rollouts stage against vLLM alone."""

from __future__ import annotations

import tempfile

from actors.engine import Request
from actors.engine.base import derive_seed
from genprm.records import Problem
from genprm.steps import FIRST_STEP_PREFILL
from workflows.benchmarks.bare_engine import compared, serve_bare, vllm_of
from workflows.stage.parts import read_rows
from workflows.stage.running import run_stage
from workflows.stage.folder import Folder
from workflows.synthesis import read_problems_stage, stages
from workflows.synthesis_workers import SynthesisSettings
from workflows.stage.tracking import Tracker, TrackingConfig


def engine_benchmark(settings: SynthesisSettings) -> dict[str, object]:
    """The rollouts stage against vLLM's offline interface: tokens/s after engine start, and their ratio.

    Both get the same requests (prompts, seeds, sampling), so they write the same texts but for rounding, and as many engines.
    """
    engine = vllm_of(settings.engines.policy, "engines.policy")
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
        bare = serve_bare(engine, settings.pools.rollouts.num_workers, requests)
        summary = run_stage(stages(settings, run)[0], run, tracker)
    return {"benchmark": "engine", **compared((summary.tokens, summary.work_seconds), bare)}
