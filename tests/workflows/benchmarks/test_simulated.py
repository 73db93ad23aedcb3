"""The simulated GPU takes its time, and the endpoint in front of it answers the same."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from actors.engine import Completion, Request, Sampling, Turn
from actors.engine.config import HttpEngineConfig
from actors.engine.http_engine import HttpEngine
from workflows.benchmarks import simulated
from workflows.benchmarks.overhead import solutions


def request(n: int, text: str = "What is 3 plus 4?", prefix: str = "Step 1:") -> Request:
    return Request(turns=(Turn(role="user", content=text),), prefix=prefix, sampling=Sampling(), seed=5, n=n)


def test_more_sequences_than_there_is_room_for_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "SOLUTION_TOKENS", (10, 10))
    monkeypatch.setattr(simulated, "NUM_SEQUENCES", 8)
    began = time.monotonic()
    completions = asyncio.run(_gpu(request(24)))
    assert 3 * 10 * simulated.STEP_S <= time.monotonic() - began < 3
    assert {completion.num_tokens for completion in completions} == {10}
    assert {completion.text for completion in completions} == {
        f" 3 + 4 = {claim}.\nStep 2: The answer is $\\boxed{{{claim}}}$." for claim in (7, 8)
    }


async def _gpu(asked: Request) -> list[Completion]:
    return await simulated.gpu(asked)


def test_the_endpoint_writes_what_the_engine_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "SIMULATED", "none")
    with simulated.Endpoint() as endpoint:
        engine = HttpEngine(HttpEngineConfig(base_url=endpoint.url, model="m", api_key_env="SIMULATED"))
        engine.check()
        answered = asyncio.run(engine.generate(request(4)))
    assert [item.text for item in answered] == [item.text for item in simulated.instant(request(4))]


def test_inputs_are_different_and_of_both_kinds(tmp_path: Path) -> None:
    lines = Path(simulated.write_problems(tmp_path / "p.jsonl", 2500)).read_text().splitlines()
    assert len(set(lines)) == 2500
    made = list(solutions(6))
    assert [solution.id for solution in made] == ["p0/s0", "p0/s1", "p1/s0", "p1/s1", "p2/s0", "p2/s1"]
    assert [solution.outcome for solution in made[:2]] == ["correct", "incorrect"]
