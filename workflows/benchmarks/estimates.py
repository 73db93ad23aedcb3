"""The estimates stage against vLLM alone, which is given the very same requests, all at once."""

from __future__ import annotations

import os
import pickle
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from actors.engine import Completion, Engine, Request, VllmEngineConfig
from actors.remote import Handles
from workflows.benchmarks.bare_engine import compared, serve_bare, vllm_of
from workflows.stage import run_stage
from workflows.storage import Folder
from workflows.synthesis import estimates_stage, synthesize
from workflows.synthesis_workers import EstimateWorker, SynthesisSettings
from workflows.tracking import Tracker, TrackingConfig

if TYPE_CHECKING:
    from actors.engine.vllm_engine import VllmEngine


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
        requests = [request for file in record.glob("*.requests") for request in _read(file)]
        looked_up, found = (sum(counts) for counts in zip(*(_counts(file) for file in record.glob("*.prefix")), strict=True))
        bare = serve_bare(engine, settings.pools.estimates.num_workers, requests)
    print(f"prefix cache: {found:,} of {looked_up:,} prompt tokens were there", flush=True)
    return {
        "benchmark": "estimates",
        **compared((summary.tokens, summary.work_seconds), bare),
        "requests": len(requests),
        "completions": sum(request.n for request in requests),
        "prefix_hit_rate": round(found / looked_up, 3),
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
        return _RecordingEngine(VllmEngine(config), self._record / str(os.getpid()))


class _RecordingEngine:
    """Keeps what it is asked in memory and writes it out now and then, and whenever nothing is in flight: rarely enough to cost nothing."""

    EVERY_S = 10.0

    def __init__(self, engine: VllmEngine, file: Path) -> None:
        self._engine = engine
        self._requests = file.with_suffix(".requests").open("wb", buffering=0)
        self._prefix = file.with_suffix(".prefix")
        self._asked: list[Request] = []
        self._in_flight = 0
        self._written = time.monotonic()

    async def generate(self, request: Request) -> list[Completion]:
        self._in_flight += 1
        try:
            completions = await self._engine.generate(request)
        finally:
            self._in_flight -= 1
        self._asked.append(request)
        if self._in_flight == 0 or time.monotonic() - self._written > self.EVERY_S:
            self._requests.write(b"".join(pickle.dumps(asked) for asked in self._asked))
            self._prefix.write_text("{} {}".format(*self._engine.prefix_cache()))
            self._asked.clear()
            self._written = time.monotonic()
        return completions

    def count_tokens(self, text: str) -> int:
        return self._engine.count_tokens(text)

    def close(self) -> None:
        self._engine.close()


def _read(file: Path) -> Iterator[Request]:
    with file.open("rb") as stream:
        while stream.peek(1):
            yield pickle.load(stream)


def _counts(file: Path) -> list[int]:
    return [int(number) for number in file.read_text().split()]
