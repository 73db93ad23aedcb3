"""The estimates stage against vLLM alone, which is given the very same requests, all at once."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from actors.engine import Engine, VllmEngineConfig
from actors.remote import Handles
from workflows.benchmarks.bare_engine import compared, serve_bare, vllm_of
from workflows.benchmarks.recorded import RecordingEngine, asked, prefix_hit_rate
from workflows.stage.running import run_stage
from workflows.stage.folder import Folder
from workflows.synthesis import estimates_stage, synthesize
from workflows.synthesis_workers import EstimateWorker, SynthesisSettings
from workflows.stage.tracking import Tracker, TrackingConfig


def estimates_benchmark(settings: SynthesisSettings) -> dict[str, object]:
    """The stage's tokens/s after engine start, over vLLM's for the same requests; the stage's prefix cache hits beside it."""
    engine = vllm_of(settings.engines.completer, "engines.completer")
    with tempfile.TemporaryDirectory() as folder:
        run, record = Folder(f"{folder}/run"), Path(folder) / "record"
        record.mkdir()
        tracker = Tracker(TrackingConfig(uri="off"), job="benchmark", run=run, resolved={})
        synthesize(run, settings, tracker, until="solutions")
        stage = replace(estimates_stage(settings), make_worker=partial(_RecordingWorker, settings, record))
        summary = run_stage(stage, run, tracker)
        requests = [item.request for item in asked(record)]
        hit_rate = prefix_hit_rate(record)
        bare = serve_bare(engine, settings.pools.estimates.num_workers, requests)
    return {
        "benchmark": "estimates",
        **compared((summary.tokens, summary.work_seconds), bare),
        "requests": len(requests),
        "completions": sum(request.n for request in requests),
        "prefix_hit_rate": round(hit_rate, 3),
    }


class _RecordingWorker(EstimateWorker):
    """An estimate worker that writes down what it asks of its engine."""

    def __init__(self, settings: SynthesisSettings, record: Path, handles: Handles) -> None:
        self._record = record
        super().__init__(settings, handles)

    def open_engine(self, settings: SynthesisSettings) -> Engine:
        from actors.engine.vllm_engine import VllmEngine

        config = settings.engines.completer
        assert isinstance(config, VllmEngineConfig)
        return RecordingEngine(VllmEngine(config), self._record, str(os.getpid()))
