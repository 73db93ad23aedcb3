"""The rationales stage against vLLM that never pauses, and against one conversation at a time."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from actors.code_executor import CodeResult, CodeRunner, CodeStatus
from actors.engine import Engine, Request, Turn, VllmEngineConfig, open_engine
from actors.rationalizer import Rationalizer
from actors.remote import Handles
from genprm import rationale
from genprm.records import Critique, LabelledSolution
from workflows.benchmarks.bare_engine import converse_bare, serve_bare, vllm_of
from workflows.benchmarks.deeper import deepen
from workflows.benchmarks.recorded import RecordingEngine, asked, prefix_hit_rate
from workflows.stage.parts import read_rows
from workflows.stage.running import run_stage
from workflows.stage.folder import Folder
from workflows.synthesis import stages, synthesize
from workflows.synthesis_workers import RationaleWorker, SynthesisSettings
from workflows.stage.tracking import Tracker, TrackingConfig

if TYPE_CHECKING:
    from actors.engine.vllm_engine import VllmEngine

OWN_MODELS = "genprm/toy/models/"


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """Completion tokens and seconds. Of a run of the stage also its blocks of code; the share of time in which an engine had work, and the
    requests it then had; what a block waited, beside any added delay, and how long it ran.
    """

    tokens: int
    seconds: float
    blocks: int = 0
    busy: float = 0.0
    requests: float = 0.0
    wait_ms: float = 0.0
    run_ms: float = 0.0

    @classmethod
    def of(cls, served: tuple[int, float]) -> _Measured:
        return cls(tokens=served[0], seconds=served[1])

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def rationales_benchmark(
    settings: SynthesisSettings, *, num_sequential: int, delay_s: float, layers: int, rounds: int
) -> dict[str, object]:
    """Tokens/s after engine start of the stage; of vLLM writing as many tokens on every prompt at one go; of vLLM that is asked what the
    stage asked, one turn after another with no pause between them; of the stage where every block takes ``delay_s`` longer; and of one
    critique at a time in each engine, code run by exec in its process, for ``num_sequential`` of them. Of ``rounds`` of all these the
    fastest run of each counts. The model has ``layers`` times its layers and KV cache, the layers added changing nothing: a larger model's
    work for each token of the same text.
    """
    for option, value in (("--layers", layers), ("--rounds", rounds)):
        if value < 1:
            raise ValueError(f"{option} {value}: give 1 or more")
    engine = vllm_of(settings.engines.rationale, "engines.rationale")
    if not engine.model.startswith(OWN_MODELS):
        raise ValueError(
            f"engines.rationale.model = {engine.model!r}: a part of this benchmark runs code uncontained; take one of {OWN_MODELS}"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if layers > 1:
            deepen(Path(engine.model), layers, folder / "model")
            gib = engine.kv_cache_gib and engine.kv_cache_gib * layers
            engine = engine.model_copy(update={"model": str(folder / "model"), "kv_cache_gib": gib})
            settings = replace(settings, engines=settings.engines.model_copy(update={"rationale": engine}))
        run = Folder(f"{folder}/run")
        tracker = Tracker(TrackingConfig(uri="off"), job="benchmark", run=run, resolved={})
        synthesize(run, settings, tracker, until="labels")
        measured = [_round(settings, engine, run, tracker, folder, number, num_sequential, delay_s) for number in range(rounds)]
        hit_rate = prefix_hit_rate(folder / "rationales_0")
        num_critiques = len(read_rows(run, "rationales_0"))
    ours, bare, turns, delayed, sequential = (max(runs, key=lambda each: each.rate) for runs in zip(*measured, strict=True))
    return {
        "benchmark": "rationales",
        "vs_bare": round(ours.rate / bare.rate, 3),
        "vs_bare_turns": round(ours.rate / turns.rate, 3),
        "vs_sequential": round(ours.rate / sequential.rate, 2),
        f"vs_bare_delay_{delay_s:g}s": round(delayed.rate / bare.rate, 3),
        "layers": layers,
        "rounds": rounds,
        "critiques": num_critiques,
        "blocks": ours.blocks,
        "stage_tokens_per_s": round(ours.rate),
        "bare_tokens_per_s": round(bare.rate),
        "bare_turns_tokens_per_s": round(turns.rate),
        "delayed_tokens_per_s": round(delayed.rate),
        "sequential_tokens_per_s": round(sequential.rate),
        "engine_busy": round(ours.busy, 3),
        "engine_busy_delayed": round(delayed.busy, 3),
        "engine_requests": round(ours.requests),
        "prefix_hit_rate": round(hit_rate, 3),
        "executor_wait_ms": round(ours.wait_ms, 2),
        "executor_run_ms": round(ours.run_ms, 2),
    }


def _round(
    settings: SynthesisSettings,
    engine: VllmEngineConfig,
    run: Folder,
    tracker: Tracker,
    folder: Path,
    number: int,
    num_sequential: int,
    delay_s: float,
) -> tuple[_Measured, _Measured, _Measured, _Measured, _Measured]:
    """The stage, bare vLLM, bare vLLM in turns, the stage with the delay, and one at a time, each printed when it is done."""

    def told(what: str, measured: _Measured) -> _Measured:
        print(f"{what + ':':13} {measured.tokens:,} tokens in {measured.seconds:.1f} s, {measured.rate:,.0f} tokens/s", flush=True)
        return measured

    name = f"rationales_{number}"
    num_engines = settings.pools.rationales.num_workers
    ours = told("stage", _run(settings, run, tracker, name, folder, 0.0))
    critiques = [Critique.of(row) for row in read_rows(run, name)]
    labelled = [LabelledSolution.of(row) for row in read_rows(run, "labels")]
    return (
        ours,
        told("bare", _Measured.of(_bare(settings, engine, critiques))),
        told("bare turns", _Measured.of(converse_bare(engine, num_engines, asked(folder / name)))),
        told("delayed", _run(settings, run, tracker, f"{name}_delayed", folder, delay_s)),
        told("sequential", _Measured.of(_sequential(settings, engine, labelled[:num_sequential]))),
    )


def _run(settings: SynthesisSettings, run: Folder, tracker: Tracker, name: str, folder: Path, delay_s: float) -> _Measured:
    """The stage, its workers measured."""
    record = folder / name
    record.mkdir()
    (stage,) = [stage for stage in stages(settings, run) if stage.name == "rationales"]
    stage = replace(stage, name=name, make_worker=partial(_MeasuredWorker, settings, record, delay_s))
    summary = run_stage(stage, run, tracker)
    marks = [json.loads(file.read_text()) for file in record.glob("*.json")]
    blocks = sum(mark["blocks"] for mark in marks)
    return _Measured(
        tokens=summary.tokens,
        seconds=summary.work_seconds,
        blocks=blocks,
        busy=sum(mark["busy_s"] for mark in marks) / (summary.work_seconds * len(marks)),
        requests=sum(mark["request_s"] for mark in marks) / sum(mark["busy_s"] for mark in marks),
        wait_ms=1e3 * sum(mark["away_s"] - mark["run_s"] for mark in marks) / max(1, blocks) - 1e3 * delay_s,
        run_ms=1e3 * sum(mark["run_s"] for mark in marks) / max(1, blocks),
    )


class _MeasuredWorker(RationaleWorker):
    """A rationale worker that leaves what it asked of its engine, how long that was busy, and its blocks on their way and running, in
    files.
    """

    def __init__(self, settings: SynthesisSettings, record: Path, delay_s: float, handles: Handles) -> None:
        self._record = record
        self._delay_s = delay_s
        super().__init__(settings, handles)

    def open_engine(self, settings: SynthesisSettings) -> Engine:
        self._busy: VllmEngine = super().open_engine(settings)  # type: ignore[assignment]
        return RecordingEngine(self._busy, self._record, str(os.getpid()))

    def open_runner(self, handles: Handles) -> CodeRunner:
        self._runner = _Timed(super().open_runner(handles), self._delay_s)
        return self._runner

    async def process(self, row: dict[str, Any]) -> Sequence[Critique]:
        rows = await super().process(row)
        runner = self._runner
        engine = {"busy_s": self._busy.busy_s, "request_s": self._busy.request_s}
        marks = {**engine, "away_s": runner.away_s, "run_s": runner.run_s, "blocks": runner.blocks}
        (self._record / f"{os.getpid()}.json").write_text(json.dumps(marks))
        return rows


class _Timed:
    """A runner that adds up how long blocks are away and how long they run, and lets each wait first."""

    def __init__(self, runner: CodeRunner, delay_s: float) -> None:
        self._runner = runner
        self._delay_s = delay_s
        self.away_s = self.run_s = 0.0
        self.blocks = 0

    async def open(self) -> str:
        return await self._runner.open()

    async def run(self, session: str, code: str) -> CodeResult:
        began = time.monotonic()
        await asyncio.sleep(self._delay_s)
        result = await self._runner.run(session, code)
        self.away_s += time.monotonic() - began
        self.run_s += result.wall_s
        self.blocks += 1
        return result

    async def close(self, session: str) -> None:
        await self._runner.close(session)


def _bare(settings: SynthesisSettings, engine: VllmEngineConfig, critiques: Sequence[Critique]) -> tuple[int, float]:
    """As many tokens as each critique has, written at one go on its prompt."""
    config = settings.rationales
    requests = [
        Request(
            turns=(Turn(role="user", content=rationale.rationale_prompt(critique.problem, critique.steps, config.instructions)),),
            prefix=config.prefill,
            sampling=config.sampling,
            seed=index,
        )
        for index, critique in enumerate(critiques)
    ]
    return serve_bare(engine, settings.pools.rationales.num_workers, requests, [critique.num_tokens for critique in critiques])


def _sequential(settings: SynthesisSettings, engine: VllmEngineConfig, solutions: Sequence[LabelledSolution]) -> tuple[int, float]:
    """One critique at a time in each of as many engines as the stage has."""
    number = settings.pools.rationales.num_workers
    actor = ray.remote(_OneAtATime).options(num_cpus=engine.num_cpus, num_gpus=engine.num_gpus)
    workers = [actor.remote(settings) for _ in range(number)]
    ray.get([worker.ready.remote() for worker in workers])
    written: list[tuple[int, float]] = ray.get([worker.write.remote(solutions[index::number]) for index, worker in enumerate(workers)])
    for worker in workers:
        ray.kill(worker)
    return sum(tokens for tokens, _ in written), max(seconds for _, seconds in written)


class _OneAtATime:
    """How the reference writes rationales: the next one begins when the last one is finished."""

    def __init__(self, settings: SynthesisSettings) -> None:
        engine = open_engine(settings.engines.rationale)
        self._rationalizer = Rationalizer(engine=engine, runner=_InThisProcess(), config=settings.rationales, run_seed=settings.seed)

    def ready(self) -> bool:
        return True

    async def write(self, solutions: Sequence[LabelledSolution]) -> tuple[int, float]:
        began = time.monotonic()
        tokens = 0
        for solution in solutions:
            tokens += (await self._rationalizer.critique(solution)).num_tokens
        return tokens, time.monotonic() - began


class _InThisProcess:
    """Runs code by exec, uncontained: for the models that ship and for nothing else."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, Any]] = {}

    async def open(self) -> str:
        session = str(len(self._names))
        self._names[session] = {}
        return session

    async def run(self, session: str, code: str) -> CodeResult:
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                exec(code, self._names[session])
        except Exception as error:
            return CodeResult(status=CodeStatus.ERROR, text=f"{output.getvalue()}{type(error).__name__}: {error}")
        return CodeResult(status=CodeStatus.OK, text=output.getvalue().removesuffix("\n"))

    async def close(self, session: str) -> None:
        """Nothing to end."""
