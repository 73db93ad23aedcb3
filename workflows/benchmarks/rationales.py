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

from actors.code_executor import CodeExecutor, CodeResult, CodeRunner, CodeStatus, ExecutorConfig
from actors.engine import Request, Turn, VllmEngineConfig, open_engine
from actors.remote import Handles
from actors.storage import Folder
from genprm import rationale
from genprm.errors import UserError
from genprm.records import Critique, Solution
from workflows import synthesis
from workflows.benchmarks.bare_engine import converse_bare, serve_bare, vllm_of
from workflows.benchmarks.deeper import deepen
from workflows.benchmarks.recorded import RecordingEngine, asked, prefix_hit_rate
from workflows.config import Config
from workflows.stage.graph import run_stage, run_stages
from workflows.stage.parts import read_rows
from workflows.stage.row_stage import RowStage
from workflows.stage.run import Run
from workflows.synthesis_workers import RationaleSettings, RationaleWorker

if TYPE_CHECKING:
    from actors.engine.vllm_engine import VllmEngine


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
    config: Config, *, num_sequential: int, delay_s: float, layers: int, rounds: int, uncontained: bool
) -> dict[str, object]:
    """Tokens/s after engine start of the stage; of vLLM writing as many tokens on every prompt at one go; of vLLM that is asked what the
    stage asked, one turn after another with no pause between them; of the stage where every block takes ``delay_s`` longer; and of one
    critique at a time in each engine, for ``num_sequential`` of them, code run by an executor beside it, or ``uncontained`` by exec in the
    engine's process, as the reference does (for models whose code is known to be harmless). Of ``rounds`` of all these the
    fastest run of each counts. The model has ``layers`` times its layers and KV cache, the layers added changing nothing: a larger model's
    work for each token of the same text.
    """
    for option, value in (("--layers", layers), ("--rounds", rounds)):
        if value < 1:
            raise UserError(f"{option} {value}: give 1 or more")
    engine = vllm_of(config.engines.rationale, "engines.rationale")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if layers > 1:
            deepen(Path(engine.model), layers, folder / "model")
            gib = engine.kv_cache_gib and engine.kv_cache_gib * layers
            engine = engine.model_copy(update={"model": str(folder / "model"), "kv_cache_gib": gib})
            config = config.model_copy(update={"engines": config.engines.model_copy(update={"rationale": engine})})
        run = Run.untracked(Folder(f"{folder}/run"))
        run_stages(synthesis.stages(config, run.folder), run, ["solutions"])
        measured = [_round(config, engine, run, folder, number, num_sequential, delay_s, uncontained) for number in range(rounds)]
        hit_rate = prefix_hit_rate(folder / "rationales_0")
        num_critiques = len(read_rows(run.folder, "rationales_0"))
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
    config: Config,
    engine: VllmEngineConfig,
    run: Run,
    folder: Path,
    number: int,
    num_sequential: int,
    delay_s: float,
    uncontained: bool,
) -> tuple[_Measured, _Measured, _Measured, _Measured, _Measured]:
    """The stage, bare vLLM, bare vLLM in turns, the stage with the delay, and one at a time, each printed when it is done."""

    def reported(what: str, measured: _Measured) -> _Measured:
        print(f"{what + ':':13} {measured.tokens:,} tokens in {measured.seconds:.1f} s, {measured.rate:,.0f} tokens/s", flush=True)
        return measured

    name = f"rationales_{number}"
    num_engines = config.pools.rationales.least
    ours = reported("stage", _run(config, run, name, folder, 0.0))
    critiques = [Critique.of(row) for row in read_rows(run.folder, name)]
    solutions = [Solution.of(row) for row in read_rows(run.folder, "solutions")][:num_sequential]
    return (
        ours,
        reported("bare", _Measured.of(_bare(config, engine, critiques))),
        reported("bare turns", _Measured.of(converse_bare(engine, num_engines, asked(folder / name)))),
        reported("delayed", _run(config, run, f"{name}_delayed", folder, delay_s)),
        reported("sequential", _Measured.of(_sequential(config, solutions, uncontained))),
    )


def _run(config: Config, run: Run, name: str, folder: Path, delay_s: float) -> _Measured:
    """The stage, its workers measured."""
    record = folder / name
    record.mkdir()
    stage = synthesis.rationales(config)
    assert isinstance(stage, RowStage)
    summary = run_stage(replace(stage, name=name, make_worker=partial(_measured_worker, record, delay_s)), run)
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


def _measured_worker(record: Path, delay_s: float, settings: RationaleSettings, handles: Handles) -> _MeasuredWorker:
    engine: VllmEngine = open_engine(settings.engine)  # type: ignore[assignment]
    return _MeasuredWorker(settings, engine, _Timed(handles.runner(), delay_s), record)


class _MeasuredWorker(RationaleWorker):
    """A rationale worker that leaves what it asked of its engine, how long that was busy, and its blocks on their way and running, in
    files.
    """

    def __init__(self, settings: RationaleSettings, engine: VllmEngine, runner: _Timed, record: Path) -> None:
        super().__init__(settings, RecordingEngine(engine, record, str(os.getpid())), runner)
        self._engine, self._runner, self._record = engine, runner, record

    async def process(self, row: dict[str, Any]) -> Sequence[Critique]:
        rows = await super().process(row)
        engine = {"busy_s": self._engine.busy_s, "request_s": self._engine.request_s}
        marks = {**engine, "away_s": self._runner.away_s, "run_s": self._runner.run_s, "blocks": self._runner.blocks}
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


def _bare(config: Config, engine: VllmEngineConfig, critiques: Sequence[Critique]) -> tuple[int, float]:
    """As many tokens as each critique has, written at one go on its prompt."""
    asked_for = config.rationales
    requests = [
        Request(
            turns=(Turn(role="user", content=rationale.rationale_prompt(critique.problem, critique.steps, asked_for.instructions)),),
            prefix=asked_for.prefill,
            sampling=asked_for.sampling,
            seed=index,
        )
        for index, critique in enumerate(critiques)
    ]
    return serve_bare(engine, config.pools.rationales.least, requests, [critique.num_tokens for critique in critiques])


def _sequential(config: Config, solutions: Sequence[Solution], uncontained: bool) -> tuple[int, float]:
    """One critique at a time in each of as many engines as the stage has."""
    number, engine = config.pools.rationales.least, config.engines.rationale
    settings = RationaleSettings(seed=config.seed, engine=engine, executor=config.executor, rationales=config.rationales)
    actor = ray.remote(_OneAtATime).options(num_cpus=engine.num_cpus, num_gpus=engine.num_gpus)
    workers = [actor.remote(settings, uncontained) for _ in range(number)]
    ray.get([worker.ready.remote() for worker in workers])
    written: list[tuple[int, float]] = ray.get([worker.write.remote(solutions[index::number]) for index, worker in enumerate(workers)])
    for worker in workers:
        ray.kill(worker)
    return sum(tokens for tokens, _ in written), max(seconds for _, seconds in written)


class _OneAtATime:
    """How the reference writes rationales: the next one begins when the last one is finished."""

    def __init__(self, settings: RationaleSettings, uncontained: bool) -> None:
        runner: CodeRunner = _InThisProcess() if uncontained else CodeExecutor(ExecutorConfig())
        self._worker = RationaleWorker(settings, open_engine(settings.engine), runner)

    def ready(self) -> bool:
        return True

    async def write(self, solutions: Sequence[Solution]) -> tuple[int, float]:
        began = time.monotonic()
        tokens = 0
        for solution in solutions:
            (critique,) = await self._worker.process(solution.row())
            tokens += critique.num_tokens
        return tokens, time.monotonic() - began


class _InThisProcess:
    """Runs code by exec, uncontained: only for models whose code is known to be harmless."""

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
