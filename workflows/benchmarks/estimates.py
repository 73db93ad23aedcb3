"""The estimates stage against vLLM alone, which is given the very same requests, all at once."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from actors.engine import VllmEngineConfig
from actors.remote import Handles
from actors.storage import Folder
from workflows import synthesis
from workflows.benchmarks.bare_engine import compared, serve_bare, vllm_of
from workflows.benchmarks.recorded import RecordingEngine, asked, prefix_hit_rate
from workflows.config import Config
from workflows.stage.graph import run_stage, run_stages
from workflows.stage.run import Run
from workflows.synthesis_workers import EstimateSettings, EstimateWorker


def estimates_benchmark(config: Config) -> dict[str, object]:
    """The first estimator's tokens/s after engine start, over vLLM's for the same requests; its prefix cache hits beside it."""
    engine = vllm_of(config.engines.completer, "engines.completer")
    with tempfile.TemporaryDirectory() as folder:
        run, record = Run.untracked(Folder(f"{folder}/run")), Path(folder) / "record"
        record.mkdir()
        run_stages(synthesis.stages(config, run.folder), run, ["solutions"])
        stage = replace(synthesis.estimates(config, next(iter(config.estimates))), make_worker=partial(_recording_worker, record))
        summary = run_stage(stage, run)
        requests = [item.request for item in asked(record)]
        hit_rate = prefix_hit_rate(record)
        bare = serve_bare(engine, config.pools.estimates.least, requests)
    return {
        "benchmark": "estimates",
        **compared((summary.tokens, summary.work_seconds), bare),
        "requests": len(requests),
        "completions": sum(request.n for request in requests),
        "prefix_hit_rate": round(hit_rate, 3),
    }


def _recording_worker(record: Path, settings: EstimateSettings, _: Handles) -> EstimateWorker:
    """An estimate worker whose engine writes down what it is asked."""
    from actors.engine.vllm_engine import VllmEngine

    assert isinstance(settings.engine, VllmEngineConfig)
    return EstimateWorker(settings, RecordingEngine(VllmEngine(settings.engine), record, str(os.getpid())))
