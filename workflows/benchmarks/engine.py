"""The rollouts stage against vLLM alone."""

from __future__ import annotations

import tempfile

from actors.engine import Request
from actors.engine.base import derive_seed
from actors.storage import Folder
from genprm.records import Problem
from genprm.steps import FIRST_STEP_PREFILL
from workflows import synthesis
from workflows.benchmarks.bare_engine import compared, serve_bare, vllm_of
from workflows.config import Config
from workflows.stage.graph import run_stage
from workflows.stage.parts import read_rows
from workflows.stage.run import Run


def engine_benchmark(config: Config) -> dict[str, object]:
    """The rollouts stage against vLLM's offline interface: tokens/s after engine start, and their ratio.

    Both get the same requests (prompts, seeds, sampling), so they write the same texts but for rounding, and as many engines.
    """
    engine = vllm_of(config.engines.policy, "engines.policy")
    with tempfile.TemporaryDirectory() as folder:
        run = Run.untracked(Folder(folder))
        run_stage(synthesis.problems(config.problems), run)
        requests = [
            Request(
                turns=(config.policy.ask(problem.text),),
                prefix=FIRST_STEP_PREFILL,
                sampling=config.policy.sampling,
                seed=derive_seed(config.seed, problem.id, "rollout", 0),
                n=config.rollouts.first_round,
            )
            for problem in (Problem.of(row) for row in read_rows(run.folder, "problems"))
        ]
        bare = serve_bare(engine, config.pools.rollouts.least, requests)
        summary = run_stage(synthesis.rollouts(config), run)
    return {"benchmark": "engine", **compared((summary.tokens, summary.work_seconds), bare)}
