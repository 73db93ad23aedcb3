"""vLLM, in this process and in its own, with the policy that ships."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from actors.engine import (
    Engine,
    EngineDied,
    EngineError,
    Finish,
    Piece,
    Sampling,
    VllmEngineConfig,
    open_engine,
)
from tests.actors.conftest import MODEL, ask

if TYPE_CHECKING:
    from actors.engine.vllm_engine import VllmEngine

pytestmark = pytest.mark.usefixtures("launched_server")  # which starts meanwhile
SETTINGS = {"dtype": "float32", "max_model_len": 512, "kv_cache_gib": 0.25, "enforce_eager": True, "num_gpus": 0}


@pytest.fixture(scope="module")
def vllm() -> Iterator[Engine]:
    engine = open_engine(VllmEngineConfig(model=MODEL, **SETTINGS))  # type: ignore[arg-type]
    yield engine
    engine.close()


@pytest.mark.engine
@pytest.mark.slow
def test_vllm_continues_the_prefix_and_repeats_with_its_seed(vllm: Engine) -> None:
    async def twice() -> tuple[list[str], list[str], list[str]]:
        first, second = await asyncio.gather(vllm.generate(ask()), vllm.generate(ask()))
        alone = await vllm.generate(ask())
        return [c.text for c in first], [c.text for c in second], [c.text for c in alone]

    first, second, alone = asyncio.run(twice())
    assert first == second == alone
    assert len(set(first)) > 1
    assert all("\nStep 2:" in text and "\\boxed{" in text for text in first)


@pytest.mark.engine
@pytest.mark.slow
def test_vllm_stops_at_strings_and_gives_alternatives(vllm: Engine) -> None:
    (stopped,) = asyncio.run(vllm.generate(ask(n=1, stop=("Step 2:",), num_logprobs=5)))
    assert stopped.text.endswith("Step 2:")
    assert stopped.finish is Finish.STOP
    assert len(stopped.logprobs_T) == stopped.num_tokens
    assert all(max(alternatives.values()) <= 0.0 for alternatives in stopped.logprobs_T)
    (cut,) = asyncio.run(vllm.generate(ask(n=1, max_tokens=3)))
    assert (cut.finish, cut.num_tokens) == (Finish.LENGTH, 3)


@pytest.mark.engine
@pytest.mark.slow
def test_vllm_refuses_a_prompt_that_does_not_fit_and_serves_on(vllm: Engine) -> None:
    with pytest.raises(EngineError, match="max_model_len is 512"):
        asyncio.run(vllm.generate(ask(prefix="1 " * 600)))
    assert len(asyncio.run(vllm.generate(ask(n=1)))) == 1


@pytest.mark.engine
@pytest.mark.slow
def test_vllm_goes_on_from_the_tokens_that_it_wrote(vllm: Engine) -> None:
    """The same text whether it is written at one go or in two, the second from the first's tokens."""
    (whole,) = asyncio.run(vllm.generate(ask(n=1, wants_ids=True)))
    assert whole.ids is not None
    assert len(whole.ids) == whole.num_tokens - 1  # without the end of the turn
    greedy = Sampling(temperature=0.0, max_tokens=60)
    request = ask(n=1, wants_ids=True)
    (once,) = asyncio.run(vllm.generate(replace(request, sampling=greedy)))
    (first,) = asyncio.run(vllm.generate(replace(request, sampling=greedy, stop=("Step 2:",))))
    pieces = (Piece(text="Step 1:"), first.piece)
    (second,) = asyncio.run(vllm.generate(replace(request, sampling=greedy, prefix=f"Step 1:{first.text}", pieces=pieces)))
    assert first.text + second.text == once.text
    assert (*(first.ids or ()), *(second.ids or ())) == once.ids


@pytest.mark.engine
@pytest.mark.slow
def test_a_core_in_its_own_process_says_the_same_and_its_death_is_noticed(vllm: Engine) -> None:
    engine = open_engine(VllmEngineConfig(model=MODEL, **SETTINGS, core_process=True))  # type: ignore[arg-type]
    same = asyncio.run(engine.generate(ask()))
    assert [c.text for c in same] == [c.text for c in asyncio.run(vllm.generate(ask()))]
    (core,) = (child for child in psutil.Process().children() if "EngineCore" in " ".join(child.cmdline()))

    async def killed() -> None:
        core.suspend()  # so that it has not answered before
        waiting = asyncio.create_task(engine.generate(ask(n=1)))
        await asyncio.sleep(0.3)
        core.kill()
        with pytest.raises(EngineDied):
            await waiting
        with pytest.raises(EngineDied):
            await engine.generate(ask(n=1))

    asyncio.run(killed())
    engine.close()


def test_processes_that_a_killed_process_started_end_with_it() -> None:
    """Those of before are let be."""
    program = """
import subprocess, sys, time
from actors.engine.watcher import watched
sleep = lambda: subprocess.Popen(["sleep", "600"])
before = subprocess.Popen(["sh", "-c", "read go; sleep 600 & echo $!; wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
with watched():
    started = sleep()
    print("go", file=before.stdin, flush=True)
    other = before.stdout.readline().strip()
    nested = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    inner = nested.stdout.readline().strip()
print(before.pid, other, started.pid, inner, flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    before, other, started, nested = map(psutil.Process, map(int, process.stdout.readline().split()))
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs([started, nested], timeout=10)
    assert not alive
    assert before.is_running()
    assert other.is_running(), "what it started meanwhile is its own"
    other.kill()
    before.kill()


@pytest.mark.engine
@pytest.mark.slow
def test_whatever_vllm_does_those_who_wait_are_answered(vllm: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = vllm._engine
    aborted: list[list[str]] = []
    abort = inner.abort_request

    def watched_abort(ids: list[str]) -> None:
        aborted.append(ids)
        abort(ids)

    monkeypatch.setattr(inner, "abort_request", watched_abort)

    step = inner.step

    def slow_step() -> list[Any]:
        time.sleep(0.05)
        outputs: list[Any] = step()
        return outputs

    async def cancel() -> None:
        task = asyncio.create_task(vllm.generate(ask(n=1)))
        await asyncio.sleep(0.3)  # of more than a second that its tokens take
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await vllm.generate(ask(n=1, max_tokens=5))

    with monkeypatch.context() as patch:
        patch.setattr(inner, "step", slow_step)
        asyncio.run(cancel())
    assert [len(ids) for ids in aborted] == [1]

    with monkeypatch.context() as patch:
        patch.setattr(inner, "add_request", lambda *_: (_ for _ in ()).throw(KeyError("slot")))
        with pytest.raises(EngineError, match="KeyError: 'slot'"):
            asyncio.run(vllm.generate(ask(n=1)))
    with monkeypatch.context() as patch:

        def abort_all() -> list[Any]:
            outputs: list[Any] = step()
            for output in outputs:
                for item in output.outputs:
                    item.finish_reason = "abort"
            return outputs

        patch.setattr(inner, "step", abort_all)
        with pytest.raises(EngineError, match="vLLM ended a request with 'abort'"):
            asyncio.run(vllm.generate(ask(n=1, max_tokens=2)))
    assert len(asyncio.run(vllm.generate(ask(n=1)))) == 1

    def hang() -> list[Any]:
        time.sleep(5)
        return []

    monkeypatch.setattr(vllm, "_config", vllm._config.model_copy(update={"step_timeout_s": 0.5}))
    monkeypatch.setattr(inner, "step", hang)
    began = time.monotonic()
    with pytest.raises(EngineDied, match=r"longer than engine\.step_timeout_s"):
        asyncio.run(vllm.generate(ask(n=1)))
    assert time.monotonic() - began < 4
    with pytest.raises(EngineDied):
        asyncio.run(vllm.generate(ask(n=1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arguments": {"quantisation": "fp8"}}, r"engine\.arguments\.quantisation: vLLM has no such .*; did you mean quantization\?"),
        ({"arguments": {"max_model_len": 9}}, r"engine\.arguments\.max_model_len: it follows from the engine's own settings"),
        ({"model": "no/such-model"}, r"engine\.model = 'no/such-model' can't be started"),
        ({"kv_cache_gib": 9e5}, r"kv_cache_gib = 900000"),
    ],
)
@pytest.mark.engine
@pytest.mark.slow
def test_an_engine_that_can_not_start_says_which_setting(change: dict[str, object], message: str) -> None:
    config = VllmEngineConfig(**{"model": MODEL, **SETTINGS, **change})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        open_engine(config)
