"""vLLM in-process with the policy that ships, and the HTTP engine with servers that misbehave (vLLM's own: vllm_server/)."""

from __future__ import annotations

import asyncio
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import psutil
import pytest

from actors.engine import (
    Completion,
    Engine,
    EngineDied,
    EngineError,
    Finish,
    HttpEngineConfig,
    Piece,
    Request,
    RequestRefused,
    Sampling,
    Turn,
    VllmEngineConfig,
    open_engine,
)
from actors.engine.http_engine import HttpEngine
from tests.actors.conftest import MODEL
from workflows.benchmarks.free_port import free_port

if TYPE_CHECKING:
    from actors.engine.vllm_engine import VllmEngine

pytestmark = pytest.mark.usefixtures("launched_server")  # which starts meanwhile
SETTINGS = {"dtype": "float32", "max_model_len": 512, "kv_cache_gib": 0.25, "enforce_eager": True, "num_gpus": 0}
PROBLEM = "Tom has 7 apples. He buys 5 more. He loses 2. How many apples does Tom have now?"


def ask(n: int = 4, prefix: str = "Step 1:", max_tokens: int = 100, **more: object) -> Request:
    return Request(
        turns=(Turn(role="user", content=PROBLEM),), prefix=prefix, sampling=Sampling(max_tokens=max_tokens), seed=5, n=n, **more  # type: ignore[arg-type]
    )  # fmt: skip


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


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """Answers each request with the next of ``answers``: a status, or a body."""

    answers: ClassVar[list[int | str]] = []
    served: ClassVar[int] = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = Misbehaving.answers[min(Misbehaving.served, len(Misbehaving.answers) - 1)]
        Misbehaving.served += 1
        body = b"{}" if isinstance(answer, int) else answer.encode()
        self.send_response(answer if isinstance(answer, int) else 200)
        self.send_header("Content-Type", "application/json")
        if answer == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


GOOD = (
    '{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    '"message":{"role":"assistant","content":" fine"}}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'
)


def choice(message: dict[str, object], finish: str = "stop", **more: object) -> dict[str, object]:
    return {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}, **more}


def of_choices(*choices: dict[str, object]) -> str:
    return json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices})


def answer(message: dict[str, object], finish: str = "stop", **more: object) -> str:
    return of_choices(choice(message, finish, **more))


@pytest.fixture
def misbehaving(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setattr("actors.engine.http_engine.FIRST_PAUSE_S", 0.01)
    Misbehaving.served = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_http_engine_tries_again_after_429_and_500_and_garbage(misbehaving: str) -> None:
    Misbehaving.answers = [429, 500, "{not json", GOOD]
    engine = HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m"))
    began = time.monotonic()
    (completion,) = asyncio.run(engine.generate(ask(n=1)))
    assert (completion.text, completion.num_tokens, Misbehaving.served) == (" fine", 2, 4)
    assert time.monotonic() - began >= 1.0  # as long as the server asked for, although the pauses are short here


def test_http_engine_asks_another_endpoint_when_one_is_down(misbehaving: str, capfd: pytest.CaptureFixture[str]) -> None:
    Misbehaving.answers = [GOOD]
    nobody = f"http://127.0.0.1:{free_port()}/v1"
    engine = HttpEngine(HttpEngineConfig(base_url=(nobody, misbehaving), model="m", max_retries=1))
    engine.check()
    assert f"warning: engine.base_url = '{nobody}': no chat endpoint answers there" in capfd.readouterr().err

    async def ask_often() -> list[str]:
        requests = [replace(ask(n=1), turns=(Turn(role="user", content=str(number)),)) for number in range(12)]
        return [completion.text for (completion,) in await asyncio.gather(*map(engine.generate, requests))]

    assert asyncio.run(ask_often()) == [" fine"] * 12
    with pytest.raises(ValueError, match="base_url is an empty list"):
        HttpEngineConfig(base_url=(), model="m")


def test_http_engine_gives_up_after_its_retries_and_at_once_where_that_is_no_use(misbehaving: str) -> None:
    engine = HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=2))
    Misbehaving.answers = [503]
    with pytest.raises(EngineError, match="failed 3 times"):
        asyncio.run(engine.generate(ask(n=1)))
    assert Misbehaving.served == 3
    Misbehaving.answers, Misbehaving.served = [401], 0
    with pytest.raises(EngineError, match="refused: HTTP 401"):
        asyncio.run(engine.generate(ask(n=1)))
    assert Misbehaving.served == 1


def test_an_endpoint_that_does_not_answer_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    with pytest.raises(ValueError, match=r"engine\.base_url = 'http://127\.0\.0\.1:\d+/v1': no chat endpoint answers"):
        open_engine(HttpEngineConfig(base_url=f"http://127.0.0.1:{free_port()}/v1", model="m", max_retries=0))


def test_what_an_endpoint_leaves_out_is_an_outcome_or_an_error_that_is_said(misbehaving: str) -> None:
    engine = HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=0))

    def given(body: str, **asked: object) -> Completion:
        Misbehaving.answers = [body]
        return asyncio.run(engine.generate(ask(n=1, **asked)))[0]  # type: ignore[arg-type]

    nothing = given(answer({"content": None}))
    assert (nothing.text, nothing.finish, nothing.num_tokens) == ("", Finish.STOP, 0), "the model wrote nothing, and no usage was given"
    thinking = given(answer({"content": None, "reasoning_content": "Let me see"}, "length"))
    assert (thinking.text, thinking.finish) == ("", Finish.LENGTH)
    for field in ("reasoning_content", "reasoning"):
        assert given(answer({"content": "7", field: "Let me see"})).text == "7"
        with pytest.raises(EngineError, match="as reasoning and none as content; start the server without a reasoning parser"):
            given(answer({"content": None, field: "Let me see"}))
    with pytest.raises(RequestRefused, match="filtered choice 0"):
        given(answer({"content": None}, "content_filter"))
    alternatives = {"token": "Yes", "logprob": -0.1, "bytes": None, "top_logprobs": [{"token": "Yes", "logprob": -0.1, "bytes": None}]}
    assert given(answer({"content": "Yes"}, logprobs={"content": [alternatives]}), num_logprobs=5).num_tokens == 1, "as many as have them"
    for without in (None, {"content": None}, {"content": [{**alternatives, "top_logprobs": []}]}):
        with pytest.raises(EngineError, match="gives no log-probabilities") as error:
            given(answer({"content": "Yes"}, logprobs=without), num_logprobs=5)
        assert not isinstance(error.value, RequestRefused), "it says nothing about the row"


def test_answers_of_odd_servers_are_read(misbehaving: str) -> None:
    engine = HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=0))
    Misbehaving.answers = [of_choices(*(choice({"content": f" {index}"}, index=index) for index in (2, 0, 1)))]
    assert [completion.text for completion in asyncio.run(engine.generate(ask(n=3)))] == [" 0", " 1", " 2"], "by index: each has its seed"
    Misbehaving.answers = [answer({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": " 4"}]})]
    assert asyncio.run(engine.generate(ask(n=1)))[0].text == " 4"
    Misbehaving.answers = [
        '{"id":"1","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"half \\ud83d"}}]}'
    ]
    asyncio.run(engine.generate(ask(n=1)))[0].text.encode()
    Misbehaving.answers = ['{"error": {"message": "quota exceeded", "code": 429}}']
    with pytest.raises(EngineError, match="quota exceeded"):
        asyncio.run(engine.generate(ask(n=1)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>login</html>", "no chat endpoint answers there"),
        (answer({"content": None, "reasoning_content": "Let me"}, "length"), "start the server without a reasoning parser"),
        ('{"error": {"message": "no credit"}}', "no credit"),
    ],
)
def test_the_first_request_shows_what_an_endpoint_can_not_do(misbehaving: str, body: str, message: str) -> None:
    Misbehaving.answers = [body]
    with pytest.raises(ValueError, match=message):
        open_engine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=0))


def test_a_server_that_cuts_stop_strings_is_not_asked_for_code(misbehaving: str) -> None:
    first = of_choices(choice({"content": " "}), choice({"content": " "}, index=1))
    Misbehaving.answers = [first, answer({"content": ""}), GOOD]
    honest = open_engine(HttpEngineConfig(base_url=misbehaving, model="m", continuation="prefix", max_retries=0))
    assert asyncio.run(honest.generate(ask(n=1, stop=("```",))))[0].text == " fine", "its model ended at once"
    Misbehaving.answers, Misbehaving.served = [first, answer({"content": " 5, 6, 7, 8, "}), GOOD], 0
    engine = open_engine(HttpEngineConfig(base_url=misbehaving, model="m", continuation="prefix", max_retries=0))
    assert asyncio.run(engine.generate(ask(n=1)))[0].text == " fine"
    with pytest.raises(EngineError, match="cuts stop strings off and does not say at which it stopped"):
        asyncio.run(engine.generate(ask(n=1, stop=("```",))))


def test_a_server_that_ignores_n_is_asked_for_one_at_a_time(misbehaving: str, capfd: pytest.CaptureFixture[str]) -> None:
    Misbehaving.answers = [GOOD]
    engine = open_engine(HttpEngineConfig(base_url=misbehaving, model="m", max_retries=0))
    assert "n requests are made instead of one" in capfd.readouterr().err
    assert len(asyncio.run(engine.generate(ask(n=3)))) == 3
    assert Misbehaving.served == 4


def test_http_engine_says_what_it_can_not_do(misbehaving: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m", continuation="none"))
    with pytest.raises(EngineError, match="can't continue an assistant turn"):
        asyncio.run(engine.generate(ask()))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match=r"OPENAI_API_KEY.*export it"):
        HttpEngine(HttpEngineConfig(base_url=misbehaving, model="m"))
