"""How much of an engine's time the stages use: the real stages with engines that take their time as a GPU does, and leave the CPUs free.

The ideal is an engine that always serves as many sequences as it can. What is lost is lost by us: places in the engine that nobody
filled in time, and the end of a stage, when there is too little left to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from actors.engine.config import EngineConfig, HttpEngineConfig, ScriptedEngineConfig
from actors.storage import Folder
from genprm.records import Counts, Outcome, Problem, Solution
from genprm.section import Section
from genprm.steps import FIRST_STEP_PREFILL
from workflows import synthesis
from workflows.benchmarks.simulated import NUM_SEQUENCES, STEP_S, Endpoint
from workflows.config import Config
from workflows.stage.graph import run_stage
from workflows.stage.row_stage import RowStage
from workflows.stage.run import Run
from workflows.stage.stage import TableStage

KEY = "GENPRM_SIMULATED_KEY"
"""The environment variable that the endpoint's key is taken from; it must be set before Ray starts."""
SAMPLES = 8
"""Completions of a request."""
TOKENS = {"rollouts": SAMPLES * 50.0, "estimates": SAMPLES * 1.5 * 50.0, "rationales": 3 * 100.0 + 8.0}
"""Of a row, on average: rollouts of one round; estimates at one state, and at the start once for two solutions; rationales with two blocks
of code."""


def overhead_benchmark(config: Config, folder: Path, seconds: float, *, one_engine: bool = False) -> dict[str, object]:
    """Shares of the ideal throughput with 1 and 4 engines, each measured for about ``seconds`` (rationales for 1.75 and 0.25 of it); and
    rollouts over HTTP beside Ray's own processor. ``one_engine``: the shares with one engine alone.

    Prints a table; Ray must be connected.
    """
    engine = ScriptedEngineConfig(script="workflows.benchmarks.simulated:gpu", num_cpus=0.1)
    found: dict[str, dict[int, float]] = {}
    for stage in TOKENS:
        found[stage] = {}
        for number in (1,) if one_engine else (1, 4):
            # A critique takes six seconds, so its stage needs longer for its end to count little; with four engines code is the limit here.
            length = seconds * {1: 1.75, 4: 0.25}[number] if stage == "rationales" else seconds
            rows = int(length * number * NUM_SEQUENCES / STEP_S / TOKENS[stage])
            found[stage][number] = share(with_engine(config, engine, number), folder / f"{stage}-{number}", stage, rows, number)
    shares: dict[str, object] = {"benchmark": "overhead", **{stage: round(of[1], 3) for stage, of in found.items()}}
    if one_engine:
        return shares
    ratio = over_http(config, folder, int(seconds / 4 * NUM_SEQUENCES / STEP_S / TOKENS["rollouts"]))
    return {**shares, "with_4_engines": {stage: round(of[4], 3) for stage, of in found.items()}, **ratio}


def with_engine(config: Config, engine: EngineConfig, number: int) -> Config:
    engines = config.engines.model_copy(update=dict.fromkeys(("policy", "completer", "rationale"), engine))
    pools = {name: pool.model_copy(update={"num_workers": number}) for name, pool in config.pools}
    return config.model_copy(update={"engines": engines, "pools": config.pools.model_copy(update=pools)})


def share(config: Config, folder: Path, name: str, rows: int, number: int) -> float:
    """A stage's throughput on so many rows, over that of engines that are always full."""
    run = Run.untracked(Folder(str(folder)))
    stage = _stage(config, name)
    if stage.reads == ("problems",):
        run_stage(TableStage(name="problems", writes=Problem, settings=Section(), make_rows=lambda _: problems(rows)), run)
    else:
        run_stage(TableStage(name="solutions", writes=Solution, settings=Section(), make_rows=lambda _: solutions(rows)), run)
    summary = run_stage(stage, run)
    ideal_s = summary.tokens * STEP_S / (NUM_SEQUENCES * number)
    result = ideal_s / summary.work_seconds
    print(
        f"{name:12} {number} engines: {summary.rows_in:,} rows, {summary.tokens:,} tokens in {summary.work_seconds:.1f} s, ideal "
        f"{ideal_s:.1f} s, share {result:.3f}",
        flush=True,
    )
    return result


def _stage(config: Config, name: str) -> RowStage:
    made = {
        "rollouts": lambda: synthesis.rollouts(config),
        "estimates": lambda: synthesis.estimates(config, next(iter(config.estimates))),
        "rationales": lambda: synthesis.rationales(config),
    }[name]()
    assert isinstance(made, RowStage)
    return made


def problems(number: int) -> Iterator[Problem]:
    for index in range(number):
        a, b = index % 1000, index // 1000 + 1
        yield Problem(id=f"p{index}", text=f"What is {a} plus {b}?", answer=str(a + b), level=None)


def solutions(number: int) -> Iterator[Solution]:
    """Two of each problem, a right one and a wrong one."""
    for problem in problems((number + 1) // 2):
        for wrong in (0, 1):
            claim = str(int(problem.answer) + wrong)
            yield Solution(
                id=f"{problem.id}/s{wrong}", problem_id=problem.id, problem=problem.text, answer=problem.answer, level=None,
                steps=(f"The sum is {claim}.", f"The answer is $\\boxed{{{claim}}}$."), final_answer=claim,
                outcome=Outcome.INCORRECT if wrong else Outcome.CORRECT, problem_counts=Counts(correct=4, incorrect=4),
            )  # fmt: skip


def over_http(config: Config, folder: Path, rows: int) -> dict[str, object]:
    """The requests of rollouts to one simulated endpoint: our stage beside Ray's own HTTP processor, which is given the same requests."""
    with Endpoint() as endpoint:
        engine = HttpEngineConfig(base_url=endpoint.url, model="m", max_in_flight=NUM_SEQUENCES, api_key_env=KEY)
        run = Run.untracked(Folder(str(folder / "http")))
        run_stage(TableStage(name="problems", writes=Problem, settings=Section(), make_rows=lambda _: problems(rows)), run)
        ours = run_stage(synthesis.rollouts(with_engine(config, engine, 1)), run).work_seconds
        theirs = _ray_data_llm(endpoint.url, rows)
    print(f"rollouts over HTTP, {rows:,} requests of {SAMPLES}: ours {ours:.1f} s, ray.data.llm {theirs:.1f} s", flush=True)
    return {"vs_ray_data_llm": round(theirs / ours, 2)}


BATCH_ROWS, ACTORS = 8, 8
"""Of Ray's processor: an actor asks for the rows of a batch one after another, so batches of 64 were slower (docs/scale.md);
more processes do not fit a laptop."""


def _ray_data_llm(url: str, rows: int) -> float:
    """Seconds that Ray's HTTP processor takes, without the start of its actors."""
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    def ask(row: dict[str, Any]) -> dict[str, Any]:
        messages = [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": FIRST_STEP_PREFILL}]
        return {"payload": {"model": "m", "messages": messages, "n": SAMPLES, "seed": row["number"], "max_tokens": 2048}}

    def take(row: dict[str, Any]) -> dict[str, Any]:
        return {"number": len(row["http_response"]["choices"])}

    settings = HttpRequestProcessorConfig(url=f"{url}/chat/completions", batch_size=BATCH_ROWS, concurrency=ACTORS, max_retries=5)
    processor = build_processor(settings, preprocess=ask, postprocess=take)
    given = [{"text": problem.text, "number": index} for index, problem in enumerate(problems(rows))]
    began = 0.0
    number = 0
    for batch in processor(ray.data.from_items(given, override_num_blocks=64)).iter_batches(batch_size=None, prefetch_batches=0):
        began = began or time.monotonic()
        number += len(batch["number"])
    if number != rows:
        raise RuntimeError(f"ray.data.llm answered {number} of {rows} requests")
    return time.monotonic() - began
